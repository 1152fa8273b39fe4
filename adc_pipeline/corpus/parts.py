"""The parts of a raw corpus: the order in which they are read, their names, and the source that each belongs to.

`fetch` writes the parts and, beside their folder, `parts.json`: the name and source of each, which files of the
sources are left out and why, which links lead elsewhere, and what the archives were that were unpacked. The dataset
cards show what is left out and the links.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from adc_pipeline.core import records
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import fits
from adc_pipeline.corpus.layouts.layout import ScoreOrder
from adc_pipeline.corpus.opening.packings import packing
from adc_pipeline.corpus.opening.recorded_files import PARTS, UTTERANCES, FileEntry, PartEntry, changed, part_files
from adc_pipeline.corpus.opening.remote import RemoteFile, remote_file
from adc_pipeline.corpus.recognition.formats import Recognised, recognise
from adc_pipeline.corpus.settings import CorpusSettings

# A packed file holds about so many times its bytes. Smaller files are not looked at.
UNPACKED, LOOKED_AT = 8, 2**24
PACKED_ENDS = (".zst", ".gz", ".bz2", ".xz")


@dataclass(frozen=True)
class NewPart:
    """A part that does not exist yet: a function that creates it at a path, its name and its source."""

    create: Callable[[Path], object]
    name: str
    source: str
    what: Recognised | None = None
    remote: bool = False


@dataclass(frozen=True)
class Part:
    """One part of a raw corpus.

    `name` stands for the source of utterances that name none; `source` is what ids are unique in, where a site numbers
    its utterances itself.
    """

    path: Path
    what: Recognised
    name: str
    source: str = ""


def write_parts(
    corpus: Path,
    parts: Sequence[NewPart],
    left_out: Mapping[str, str],
    links: Mapping[str, str],
    archives: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write `parts.json` for the folder `corpus`, whose parts exist already, in this order."""
    paths = sorted(corpus.iterdir())
    named = {
        path.name: {"name": part.name, "source": part.source} | ({"remote": True} if part.remote else {})
        for path, part in zip(paths, parts, strict=True)
    }
    orders = [score_order(part.what) for part in parts]
    known = {order: sorted({name for found, name in orders if found == order}) for order in get_args(ScoreOrder)}
    record = {
        "parts": named,
        "left_out": left_out,
        "links": links,
        "archives": archives,
        "lower_is_better": known["lower"],
        # Of parts beside others that do not tell their order.
        "higher_is_better": known["higher"] if (None, "") in orders else [],
    }
    records.write_record(corpus.with_name(PARTS), record)


def score_order(what: Recognised | None) -> tuple[ScoreOrder | None, str]:
    """Return which scores are better in a part, and the name of its layout; none for a table or a ConvoKit corpus."""
    if what is not None and what.layout is not None:
        return what.layout.score_order, what.layout.name
    return ("higher", "Reddit dump") if what and what.kind in ("submissions", "comments") else (None, "")


def read_record(corpus: Path) -> dict[str, Any]:
    """Return what `write_parts` wrote for the folder `corpus`; empty if it did not."""
    path = corpus.with_name(PARTS)
    if not path.exists():
        return {"parts": {}, "left_out": {}, "links": {}, "lower_is_better": [], "higher_is_better": []}
    return records.read_record(
        path,
        parts=dict[str, PartEntry],
        left_out=dict[str, str],
        links=dict[str, str],
        lower_is_better=list[str],
        higher_is_better=list[str],
    )


def recorded_archives(corpus: Path) -> dict[Path, dict[str, Any]]:
    """Return stamp and SHA-256 of each archive that was unpacked for a raw corpus, by path.

    A record that is lost or damaged counts as empty, as does one of an earlier version.
    """
    try:
        archives = read_record(corpus).get("archives", {})
    except PipelineError:
        return {}
    return {Path(path): entry for path, entry in archives.items()} if fits(archives, dict[str, FileEntry]) else {}


def left_out_lines(corpus: Path) -> list[str]:
    """Return one line for each file that is left out of a raw corpus, and for each link that leads elsewhere."""
    record = read_record(corpus)
    return [
        *(f"{path} is left out: it {reason}" for path, reason in record["left_out"].items()),
        *(f"{path} is a link that leads out of the source and is followed" for path in record["links"]),
    ]


def list_parts(corpus: Path, settings: CorpusSettings) -> list[Part]:
    """Return the parts of a folder that `corpus.source.fetch` wrote, in order; or `corpus` itself as the only part."""
    single = corpus.is_file() or (corpus / UTTERANCES).is_file()
    record = {} if single else read_record(corpus)["parts"]
    parts = []
    for path in [corpus] if single else sorted(corpus.iterdir()):
        named = record.get(path.name, {"name": path.name.split(".")[0] or path.name})
        where = referred(path) if named.get("remote") else path
        what = recognise(where, settings.format, settings.columns)
        parts.append(Part(where, what, named["name"], named.get("source", "")))
    return parts


def plain_bytes(corpus: Path) -> int:
    """Return about how many bytes the files of a corpus hold when they are unpacked."""
    single = corpus.is_file() or (corpus / UTTERANCES).is_file()
    record = {} if single else read_record(corpus)["parts"]
    found = 0
    for path in [corpus] if single else corpus.iterdir():
        if record.get(path.name, {}).get("remote"):
            known = records.read_record(path, address=str, bytes=int)
            found += known["bytes"] * (UNPACKED if known["address"].lower().endswith(PACKED_ENDS) else 1)
            continue
        for file in part_files(path):
            size = file.stat().st_size
            found += size * (UNPACKED if size > LOOKED_AT and packing(file) != "none" else 1)
    return found


def referred(reference: Path) -> RemoteFile:
    """Return the remote file of a part; raise PipelineError if it is not as it was when the corpus was recorded."""
    known = records.read_record(reference, address=str, bytes=int, version=str)
    file = remote_file(known["address"])
    if file.state() != (known["bytes"], known["version"]):
        raise changed(file)
    return file
