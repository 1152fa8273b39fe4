"""The assets `raw_corpus` and `utterances`, and the check that no utterance was lost."""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.markdown import table
from adc_pipeline.core.shards import parts
from adc_pipeline.core.store.artefacts import CURRENT, Store
from adc_pipeline.core.store.manifests import read_making
from adc_pipeline.corpus.changes import CHANGED, SINCE
from adc_pipeline.corpus.kept_rows import KEPT
from adc_pipeline.corpus.opening.recorded_files import FILES, PARTS, check_unchanged, corpus_files, record_files
from adc_pipeline.corpus.parts import read_record
from adc_pipeline.corpus.privacy.personal_data import check_installed
from adc_pipeline.corpus.privacy.removals import FILE, Removals, read_removals
from adc_pipeline.corpus.readers.tables import check_columns
from adc_pipeline.corpus.recognition.formats import recognise
from adc_pipeline.corpus.room import check_room
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import SAMPLE, check_source, corpus_state, download_all, downloaded, fetch, source_files
from adc_pipeline.corpus.tables import READ, SET_ASIDE, create_utterances
from adc_pipeline.corpus.titles import TITLES
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.distributions import distributions
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.preview import preview
from adc_pipeline.defs.stage import Stage
from adc_pipeline.defs.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection


# The asset whose partitions are months that were read ahead (`defs.assets.months`).
MONTH = "corpus_month"
# What `making.json` calls the digest of the removal list.
REMOVALS = "removals"
# Parts whose format is shown.
PARTS_LOOKED_AT = 20


def with_corpus(settings: CorpusSettings, partition: str | None = None) -> CorpusSettings:
    """Complete the name of the corpus: the setting, or else ADC_CORPUS, or else the sample."""
    return replace(settings, corpus=settings.corpus or os.environ.get("ADC_CORPUS") or SAMPLE)


def observe_corpus(request: Request[CorpusSettings]) -> Mapping[str, Any]:
    """Check the source, download what is missing, and return the source's state."""
    check_source(request.settings)
    downloads = request.store.home / "downloads"
    download_all(request.settings, downloads, request.report)
    return corpus_state(request.settings, downloads)


def make_raw_corpus(making: Making[CorpusSettings]) -> None:
    settings, store = making.settings, making.store
    check_room(source_files(settings, store.home / "downloads"), store.home)
    making.report(f"Fetching the corpus {settings.corpus}")
    folder = making.folder / "corpus"
    fetch(settings, downloaded(settings, store.home / "downloads"), folder, making.report)
    before = store.intact("raw_corpus")
    # Linked files are outside the folder and may be large, so the digest is that of a record of the files.
    making.digest = record_files(folder, making.folder / FILES, before.path / "corpus" if before else None)
    files = corpus_files(folder)
    record = read_record(folder)
    making.count(
        {
            "bytes": sum(path.stat().st_size for path in files),
            "parts": len(list(folder.iterdir())),
            "files_left_out": len(record["left_out"]),
        }
    )
    making.found |= detected(folder, settings)
    for shown in ("left_out", "links"):
        if record[shown]:
            making.metadata[shown] = dg.MetadataValue.md(table(["file", ""], record[shown].items()))


def detected(folder: "Path", settings: CorpusSettings) -> dict[str, Any]:
    """Return how the first parts of a raw corpus are read, and which columns the first table has for ours.

    A part that cannot be read is the business of `utterances`.
    """
    import duckdb

    facts: dict[str, Any] = {}
    kinds: Counter[str] = Counter()
    paths = sorted(folder.iterdir())
    for path in paths[:PARTS_LOOKED_AT]:
        with suppress(PipelineError, OSError, UnicodeError, duckdb.Error):
            found = recognise(path, settings.format, settings.columns)
            kinds[found.layout.name if found.layout else found.kind] += 1
            if found.kind == "table" and "columns read" not in facts:
                names = check_columns(path, settings.columns)
                facts["columns read"] = ", ".join(f"{ours} from {theirs}" for ours, theirs in names.items())
    parts = ", ".join(f"{name} ({number} parts)" if number > 1 else name for name, number in kinds.items())
    more = f" of the first {PARTS_LOOKED_AT} of {len(paths)} parts" if len(paths) > PARTS_LOOKED_AT else ""
    return {"format read": parts + more} | facts


raw_corpus = declare(
    Stage(
        name="raw_corpus",
        place="corpus/raw",
        group="corpus",
        description="A corpus of conversations, generated, on disk or downloaded, as ConvoKit folders, Reddit dumps or"
        " tables. Also checks at the start of a run what downstream assets need: their settings, the base model,"
        " ADC_HOME and MLflow.",
        settings=CorpusSettings,
        make=make_raw_corpus,
        code=(__name__,),
        kinds=("convokit",),
        unhashed=(FILES, PARTS),
        complete=with_corpus,
        unset=CorpusSettings(corpus=SAMPLE),
        outside=observe_corpus,
    )
)


def check_corpus(request: Request[Any]) -> Mapping[str, Any]:
    """Raise PipelineError if linked files have changed since the corpus was materialized; return the removal list."""
    corpus = request.inputs["raw_corpus"].path
    check_unchanged(corpus / "corpus", corpus / FILES)
    removals = removal_list(request.store, request.name)
    return {REMOVALS: removals.digest} if removals else {}


def removal_list(store: Store, name: str) -> Removals:
    """Return the removal list; PipelineError if the list that the current `name` was made by is gone.

    Who is on it would come back without a word. An empty file says that this is wanted.
    """
    file = store.home / FILE
    if not os.path.lexists(file) and store.place(name).exists():
        outside: Mapping[str, Any] = {}
        with suppress(PipelineError):
            outside = read_making(store.current(name))["outside"]
        if REMOVALS in outside:
            raise PipelineError(
                f"The removal list {file} is gone, and {name} was made by one: restore it, or write an empty file if"
                " nobody is to be removed any more."
            )
    return read_removals(store.home)


def check_utterances(settings: UtteranceSettings) -> None:
    if settings.replace_personal_data:
        check_installed()


def current_removals(making: Making[Any]) -> Removals:
    """Return the removal list of this moment, which may have changed since it was compared, and record it."""
    removals = removal_list(making.store, making.request.name)
    making.outside = {REMOVALS: removals.digest} if removals else {}
    return removals


def make_utterances(making: Making[UtteranceSettings]) -> None:
    corpus = making.inputs["raw_corpus"]
    source = CorpusSettings(**corpus.settings)
    making.report(f"Reading the utterances of {source.corpus}")
    removals = current_removals(making)
    with making.unfinished(**making.outside) as work:
        folder, settings, engine = making.folder, making.settings, making.engine
        previous = made.path if (made := making.previous()) else None
        months = months_read(making)
        read = corpus.path / "corpus"
        counts = write_utterances(read, folder, settings, engine, source, work, removals, previous, months)
        making.count(counts)
    files = parts(making.folder, READ)
    making.metadata["preview"] = preview(files, ("id", "conversation_id", "reply_to", "speaker", "score", "text"))
    panels = {"score": "score", "characters of text": "length(text)"}
    making.show("distributions", distributions(files, panels, making.engine))


def last_rows(making: Making[Any]) -> "Path | None":
    """Return the current version of `utterances`, or a month, whose rows can be reused."""
    made = making.store.intact("utterances")
    if made and made.code_version == making.request.code_version:
        return made.path
    return next(iter(months_read(making)), None)


def months_read(making: Making[Any]) -> list["Path"]:
    """Return the months that were read ahead by the code of this asset, and are intact."""
    found = []
    for link in sorted(making.store.versions_of(MONTH).glob(f"*/{CURRENT}")):
        made = making.store.intact(f"{MONTH}/{link.parent.name}")
        if made and made.code_version == making.request.code_version:
            found.append(made.path)
    return found


def view_utterances(connection: "DuckDBPyConnection", folder: "Path") -> None:
    create_utterances(connection, folder)
    connection.read_parquet(str(folder / SET_ASIDE), hive_partitioning=False).create_view("set_aside")


utterances = declare(
    Stage(
        name="utterances",
        place="corpus/utterances",
        group="corpus",
        description="Every utterance read, with its place in its conversation. Those set aside are in the view"
        " `set_aside`, with the reasons.",
        settings=UtteranceSettings,
        make=make_utterances,
        code=(__name__,),
        inputs=("raw_corpus",),
        reads=("raw_corpus",),
        kinds=("duckdb",),
        unhashed=(KEPT, TITLES, CHANGED, SINCE),
        table=lambda folder: parts(folder, READ),
        view=view_utterances,
        outside=check_corpus,
        check=check_utterances,
        volume="read",
    )
)


@dg.asset_check(asset=utterances, blocking=True)
def nothing_lost(workspace: Workspace) -> dg.AssetCheckResult:
    """Every record of the corpus, counted apart from DuckDB, was read, and takes part or is set aside with a reason.

    What the removal list names is counted, and is in neither.
    """
    counts = workspace.store.current("utterances").counts
    reasons = sum(number for name, number in counts.items() if name.startswith("set_aside."))
    return dg.AssetCheckResult(
        passed=counts["records"] - counts.get("removed", 0) == counts["read"] == counts["taking_part"] + reasons
        and reasons == counts["set_aside"],
        metadata=counts,
    )


checks = [nothing_lost]
