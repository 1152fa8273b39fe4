"""Dagster's view of the ranking: the asset `ranked_replies`, and that its counts add up with the corpus'."""

import dagster as dg

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.shards import parts
from adc_pipeline.defs.corpus import utterances
from adc_pipeline.defs.database import write_database
from adc_pipeline.defs.distributions import distributions
from adc_pipeline.defs.preview import preview
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES, write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings


@dg.asset(
    group_name="ranking", deps=[utterances], kinds={"duckdb"}, code_version=code_version("adc_pipeline.defs.ranking")
)
def ranked_replies(
    context: dg.AssetExecutionContext, config: SettingsConfig[RankingSettings], workspace: Workspace
) -> dg.MaterializeResult:
    """The replies that pass the filters, each with its rank among its siblings."""
    with workspace.materializing(context, config) as making:
        source = making.input("utterances").path
        if making.unchanged():
            return making.result()
        with making.unfinished() as work:
            making.count(write_ranked_replies(source, making.folder, making.settings, making.engine, work))
        files = parts(making.folder, RANKED_REPLIES)
        making.metadata["preview"] = preview(
            files, ("id", "reply_to", "score", "timestamp", "rank", "siblings", "depth")
        )
        panels = {"score": "score", "siblings": "siblings", "depth": "depth"}
        making.show("distributions", distributions(files, panels, making.engine))
        making.finish()
        write_database(workspace.store)
    return making.result()


@dg.asset_check(asset=ranked_replies, blocking=True)
def counts_add_up(workspace: Workspace) -> dg.AssetCheckResult:
    """Every utterance read is either ranked, a root, dropped by a filter, or set aside with a reason."""
    made = workspace.store.current("ranked_replies")
    ranked, read = made.counts, workspace.store.version("utterances", made.inputs["utterances"]).counts
    parts = {
        "ranked": ranked["ranked"],
        "roots": read["roots"],
        "dropped": ranked["dropped"],
        "set_aside": read["set_aside"],
    }
    return dg.AssetCheckResult(passed=read["read"] == sum(parts.values()), metadata={"read": read["read"], **parts})
