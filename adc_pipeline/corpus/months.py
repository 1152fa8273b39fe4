"""Months of a corpus: the files that have a month in their name, such as RC_2015-01.zst, and reading them ahead.

A month that was read ahead lies in the layout of `corpus.kept_rows`, so that `utterances` links its rows instead of
reading the files again.
"""

import re
from pathlib import Path

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record
from adc_pipeline.core.shards import Counts
from adc_pipeline.corpus.parts import Part, list_parts, plain_bytes
from adc_pipeline.corpus.privacy.removals import Removals
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.sharding import COUNTED, keeps_rows, shard_rows

# Also of a day: RC_2018-09-01.
MONTH = re.compile(r"(?<!\d)(\d{4})-(\d{2})(?!\d)")


def month_of(part: Part) -> str:
    """Return the month in a part's name, as 2015-01; empty if there is none."""
    found = MONTH.search(part.name)
    return found[0] if found else ""


def read_month(
    corpus: Path,
    month: str,
    out: Path,
    source: CorpusSettings,
    settings: UtteranceSettings,
    engine: Engine,
    removals: Removals | None,
    work: Path,
    previous: list[Path],
) -> Counts:
    """Read the files of a month of a raw corpus into the folder `out`; return how many files and records they are.

    Small files are read together with their neighbours. Where a removal list or the setting `replace_personal_data`
    changes rows, the files are only found: `utterances` reads them.
    """
    files = [part for part in list_parts(corpus, source) if month_of(part) == month]
    if not files:
        raise PipelineError(
            f"No file of the corpus {source.corpus} has {month} in its name, as RC_{month}.zst has: put it there, or"
            " choose a month that is."
        )
    counts = {"files": len(files), "bytes": sum(plain_bytes(part.path) for part in files if part.path.is_file())}
    if not keeps_rows(settings, removals):
        return counts
    shard_rows(corpus, out, source, settings, engine, removals, work, previous, lambda part: month_of(part) == month)
    return counts | {"records": read_record(out / COUNTED)["records"]}
