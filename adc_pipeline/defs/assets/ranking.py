"""The asset `ranked_replies`, and the check that it accounts for every utterance read."""

from typing import TYPE_CHECKING

import dagster as dg

from adc_pipeline.core.shards import parts
from adc_pipeline.core.store.content import refuse_damaged
from adc_pipeline.corpus.changes import CHANGED, SINCE
from adc_pipeline.corpus.parts import read_record
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.distributions import distributions
from adc_pipeline.defs.making import Making
from adc_pipeline.defs.preview import preview
from adc_pipeline.defs.stage import Stage
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.ranking.near_duplicates import NEAR
from adc_pipeline.ranking.ranked_replies import (
    DROPPED_REPLIES,
    RANKED_REPLIES,
    refuse_to_turn_round,
    tie_warning,
    write_ranked_replies,
)
from adc_pipeline.ranking.settings import RankingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection


def make_ranked_replies(making: Making[RankingSettings]) -> None:
    utterances = making.inputs["utterances"].path
    corpus = making.request.store.version("raw_corpus", making.inputs["utterances"].inputs["raw_corpus"])
    refuse_damaged(corpus)
    record = read_record(corpus.path / "corpus")
    refuse_to_turn_round(making.settings, record["lower_is_better"], record["higher_is_better"])
    with making.unfinished() as work:
        previous = made.path if (made := making.updated()) else None
        making.count(write_ranked_replies(utterances, making.folder, making.settings, making.engine, work, previous))
    if warning := tie_warning(making.counts):
        making.warn(warning)
    files = parts(making.folder, RANKED_REPLIES)
    columns = ("id", "reply_to", "score", "timestamp", "rank", "siblings", "depth")
    making.metadata["preview"] = preview(files, columns)
    panels = {"score": "score", "siblings": "siblings", "depth": "depth"}
    making.show("distributions", distributions(files, panels, making.engine))


def view_ranked_replies(connection: "DuckDBPyConnection", folder: "Path") -> None:
    for pattern in (RANKED_REPLIES, DROPPED_REPLIES):
        connection.read_parquet(parts(folder, pattern), hive_partitioning=False).create_view(
            pattern.removesuffix(".parquet")
        )


ranked_replies = declare(
    Stage(
        name="ranked_replies",
        place="ranking/ranked_replies",
        group="ranking",
        description="The replies that pass the filters, each with its rank among its siblings.",
        settings=RankingSettings,
        make=make_ranked_replies,
        code=(__name__,),
        inputs=("utterances",),
        kinds=("duckdb",),
        unhashed=(CHANGED, SINCE, NEAR),
        table=lambda folder: parts(folder, RANKED_REPLIES),
        view=view_ranked_replies,
    )
)


@dg.asset_check(asset=ranked_replies, blocking=True)
def counts_add_up(workspace: Workspace) -> dg.AssetCheckResult:
    """Every utterance read is ranked, a root, dropped by a filter, or set aside with a reason."""
    made = workspace.store.current("ranked_replies")
    ranked, read = made.counts, workspace.store.version("utterances", made.inputs["utterances"]).counts
    parts = {
        "ranked": ranked["ranked"],
        "roots": read["roots"],
        "dropped": ranked["dropped"],
        "set_aside": read["set_aside"],
    }
    return dg.AssetCheckResult(passed=read["read"] == sum(parts.values()), metadata={"read": read["read"], **parts})


checks = [counts_add_up]
