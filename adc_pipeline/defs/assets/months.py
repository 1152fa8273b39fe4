"""The asset `corpus_month`: the rows of a month of the corpus, read ahead; a partition a month.

A late file, or a backfill, is one click on its months. The run records the corpus, by the settings of its current
version, and reads the files that have the month in their names. `utterances` then reads only what no month has, and
builds only the conversations that the new rows touch (`corpus.changes`). Only the job
`read_month` makes the asset: other jobs and *Materialize all* go on without choosing a month.
"""

from dataclasses import replace

import dagster as dg

from adc_pipeline.core.settings import Settings
from adc_pipeline.corpus.kept_rows import KEPT
from adc_pipeline.corpus.months import read_month
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.sharding import COUNTED
from adc_pipeline.corpus.titles import TITLES
from adc_pipeline.corpus.utterances import with_shards
from adc_pipeline.defs.asset import declare_for_job
from adc_pipeline.defs.assets import corpus
from adc_pipeline.defs.assets.corpus import MONTH, check_corpus, current_removals, last_rows
from adc_pipeline.defs.making import Making
from adc_pipeline.defs.stage import Stage

GROUP = "months"
# Reddit's first comments are of December 2005. The month that has begun may have a file, too.
MONTHS = dg.MonthlyPartitionsDefinition(start_date="2005-12", fmt="%Y-%m", end_offset=1)


def make_month(making: Making[Settings]) -> None:
    raw, month = making.inputs["raw_corpus"], making.request.context.partition_key
    given = making.request.upstream_settings["utterances"]
    source, read = CorpusSettings(**raw.settings), raw.path / "corpus"
    settings = with_shards(replace(UtteranceSettings(), **given), read, making.engine, last_rows(making))
    removals = current_removals(making)
    making.report(f"Reading {month} of {source.corpus}")
    previous = [made.path] if (made := making.previous()) else []
    with making.unfinished(**making.outside) as work:
        folder, engine = making.folder, making.engine
        making.count(read_month(read, month, folder, source, settings, engine, removals, work, previous))


corpus_month = declare_for_job(
    Stage(
        name=MONTH,
        place="corpus/months",
        group=GROUP,
        description="The rows of a month of the corpus, of the files with the month in their names, read ahead by the"
        " job `read_month`: choose the months there, under *Partitions*.",
        settings=Settings,
        make=make_month,
        # That of `utterances`, which takes the rows only if it would read the same.
        code=(corpus.__name__,),
        inputs=("raw_corpus",),
        reads=("raw_corpus",),
        follows={"utterances": ("shards", "decode_entities", "replace_personal_data")},
        kinds=("duckdb",),
        unhashed=(KEPT, TITLES, COUNTED),
        outside=check_corpus,
        partitions=MONTHS,
        partition_name=lambda key: key,
    )
)
