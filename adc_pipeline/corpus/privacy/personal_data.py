"""Replace e-mail addresses, phone numbers, links and the like in texts and titles, by the recognizers of Presidio.

Only recognizers that work by patterns and check sums are used, so no language model is loaded and nothing is fetched. A
name of a person, or an address of a house, is not found. Each find becomes a word in brackets, such as `[email]`.

A cheap pattern selects the texts that a recognizer looks at: that for phone numbers takes 3 ms a text. Presidio is
imported only if the setting is on; it is in the extra `privacy`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.engine import Report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.shards import Counts

if TYPE_CHECKING:
    import pyarrow as pa

# By Presidio's name of an entity: what stands for it, the recognizer, and what a text must have to be looked at.
KINDS = {
    "EMAIL_ADDRESS": ("[email]", "EmailRecognizer", r"@"),
    "URL": ("[link]", "UrlRecognizer", r"://|www\.|\w\.\w+/"),
    "PHONE_NUMBER": ("[phone]", "PhoneRecognizer", r"(?:\d\D{0,3}){7}"),
    "IP_ADDRESS": ("[ip]", "IpRecognizer", r"\d\.\d+\.|:[0-9a-fA-F]*:"),
    "CREDIT_CARD": ("[card]", "CreditCardRecognizer", r"(?:\d[ -]?){12}"),
    "IBAN_CODE": ("[iban]", "IbanRecognizer", r"[A-Z]{2}\d\d"),
}
# A bare `main.py` or `e.g.foo` is no link; one needs a scheme, www or a path.
LINK = re.compile(r"(?i)\w+://|www\.|[^/]+/.")
AFTER_LINK = ".,;:!?'\"*_"
ROWS = 20_000
COUNT = "personal_data."

Find = tuple[int, int, str]  # start, end, entity


def check_installed() -> None:
    """Raise PipelineError without Presidio."""
    from importlib.util import find_spec

    if find_spec("presidio_analyzer") is None:
        raise PipelineError(
            "The setting replace_personal_data needs Presidio, which is not installed: run `pip install"
            " 'adc-pipeline[privacy]'`, or leave the setting off."
        )


class Replacer:
    """Replaces personal data in texts, and counts what it has replaced by kind."""

    def __init__(self) -> None:
        check_installed()
        import tldextract.tldextract
        from presidio_analyzer import predefined_recognizers

        # By default it downloads the list of top-level domains instead of reading the one that it comes with.
        tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
        self.counts: Counter[str] = Counter()
        self._recognizers: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = [
            (entity, re.compile(hint), getattr(predefined_recognizers, name)().analyze)
            for entity, (_, name, hint) in KINDS.items()
        ]

    def __call__(self, text: str) -> str:
        """Return a text with a word in brackets in place of each find; of finds that overlap, the longest counts."""
        chosen: list[Find] = []
        for find in sorted(self._finds(text), key=lambda each: (each[0] - each[1], each)):
            if all(find[1] <= start or end <= find[0] for start, end, _ in chosen):
                chosen.append(find)
        pieces, place = [], 0
        for start, end, entity in sorted(chosen):
            pieces += [text[place:start], KINDS[entity][0]]
            place = end
            self.counts[entity] += 1
        return "".join(pieces) + text[place:]

    def _finds(self, text: str) -> Iterator[Find]:
        for entity, hint, analyze in self._recognizers:
            if not hint.search(text):
                continue
            for found in analyze(text, [entity], None):
                start, end = found.start, found.end
                if entity == "URL":
                    end = start + len(text[start:end].rstrip(AFTER_LINK))
                    if ")" in text[start:end] and "(" not in text[start:end]:
                        end = text.index(")", start)
                    if not LINK.match(text[start:end]):
                        continue
                if start < end:
                    yield start, end, entity


def replace_in_files(files: list[Path], columns: tuple[str, ...], replacer: Replacer, report: Report) -> None:
    """Rewrite columns of Parquet files, each by a rename."""
    import pyarrow.parquet as pq

    for path in files:
        rows, new = 0, path.with_suffix(".new")
        with pq.ParquetFile(path) as source, pq.ParquetWriter(new, source.schema_arrow, compression="none") as target:
            for batch in source.iter_batches(ROWS):
                target.write_batch(replaced_batch(batch, columns, replacer))
                rows += batch.num_rows
                report(f"replacing personal data: {rows} of {source.metadata.num_rows} rows of {path.name}")
        new.replace(path)


def replaced_batch(batch: "pa.RecordBatch", columns: tuple[str, ...], replacer: Replacer) -> "pa.RecordBatch":
    """Return rows with personal data in some columns replaced."""
    import pyarrow as pa

    for name in columns:
        index = batch.schema.get_field_index(name)
        texts = [text and replacer(text) for text in batch.column(index).to_pylist()]
        batch = batch.set_column(index, batch.schema.field(index), pa.array(texts, batch.schema.field(index).type))
    return batch


def replace_personal_data(rows: list[Path], titles: Path, report: Report) -> Counts:
    """Replace personal data in the files of rows and titles; return how much of each kind was replaced."""
    replacer = Replacer()
    replace_in_files(rows, ("text", "title"), replacer, report)
    replace_in_files([titles], ("title",), replacer, report)
    return {f"{COUNT}{entity.lower()}": replacer.counts[entity] for entity in KINDS}
