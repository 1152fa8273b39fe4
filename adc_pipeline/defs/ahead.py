"""Begin the files of datasets ahead of their steps; see `core.ahead`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adc_pipeline.core.ahead import FilesAhead
from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.shards import Counts, parts
from adc_pipeline.corpus.changes import Changes
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES

# Writes a dataset: from the folders of `utterances` and `ranked_replies` into a third one, by settings.
Write = Callable[[Path, Path, Path, Any, Engine], Counts]


def begun_ahead(request: Request[Any], write: Write, most: int) -> FilesAhead | None:
    """Begin to write the files of a dataset of up to `most` ranked replies, which is to take seconds.

    None for a larger one, for one that a cluster writes, and where parts of an earlier one are there to be reused.
    """
    utterances, ranked = request.inputs["utterances"].path, request.inputs["ranked_replies"].path
    unfinished = (request.store.home / "work" / request.name).glob("*")
    if request.engine.executor != "local" or Changes.read(ranked) or any(unfinished):
        return None
    if row_count(parts(ranked, RANKED_REPLIES)) > most:
        return None

    def write_into(out: Path, engine: Engine) -> Counts:
        return write(utterances, ranked, out, request.settings, engine)

    return FilesAhead(write_into, request.store.aside(request.name), request.engine)


def taken(making: Making[Any]) -> Counts | None:
    """Move what was written ahead into the artefact's folder and return its counts; None if nothing was."""
    ahead = making.request.begun
    return ahead.take(making.folder) if isinstance(ahead, FilesAhead) else None
