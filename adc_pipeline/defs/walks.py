"""Dagster's view of the walks: the assets `top_2` and `random_walk`, and the checks on their text."""

import dagster as dg

from adc_pipeline.core.code_version import code_version
from adc_pipeline.defs.corpus import utterances
from adc_pipeline.defs.database import write_database
from adc_pipeline.defs.distributions import distributions
from adc_pipeline.defs.ranking import ranked_replies
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.walks.card import write_card
from adc_pipeline.walks.coins import WalkKind
from adc_pipeline.walks.datasets import split_file, write_walks
from adc_pipeline.walks.grammar import conversations_in_two_splits, grammar_violations
from adc_pipeline.walks.no_walks import refuse_no_walks
from adc_pipeline.walks.picture import walks_as_markdown
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import SPLITS

DESCRIPTIONS: dict[WalkKind, str] = {
    "top-2": "Walks that show the second-best reply, rejected, before the best, accepted (two times in three).",
    "random-walk": "Walks that flip a coin at each reply, best first: reject it, or accept it and go down.",
}


def walk_asset(kind: WalkKind) -> dg.AssetsDefinition:
    """The asset of one dataset: its three splits and its card, as on the Hugging Face Hub."""

    @dg.asset(
        name=kind.replace("-", "_"),
        description=DESCRIPTIONS[kind],
        group_name="walks",
        deps=[utterances, ranked_replies],
        kinds={"duckdb", "huggingface"},
        code_version=code_version("walks"),
    )
    def walks(
        context: dg.AssetExecutionContext, config: SettingsConfig[WalkSettings], workspace: Workspace
    ) -> dg.MaterializeResult:
        with workspace.materializing(context, config) as making:
            ranked = making.input("ranked_replies")
            # Not the current ones: those that the ranks are of.
            read = making.input("utterances", ranked.inputs["utterances"])
            if making.unchanged():
                return making.result()
            with making.unfinished() as work:
                making.count(
                    write_walks(kind, read.path, ranked.path, making.folder, making.settings, making.engine, work)
                )
            refuse_no_walks(making.counts, read.counts, ranked.counts)
            corpus = workspace.store.version("raw_corpus", read.inputs["raw_corpus"])
            write_card(kind, making.folder, making.settings, making.counts, corpus, read, ranked)
            making.metadata["preview"] = dg.MetadataValue.md(walks_as_markdown(making.folder / split_file("train")))
            panels = {
                "characters of a walk": "length(text)",
                "turns of a walk": "len(turns)",
                "rejected turns": "len(list_filter(turns, lambda turn: turn.verdict = 'rejected'))",
            }
            files = [str(making.folder / split_file(split)) for split in SPLITS]
            making.show("distributions", distributions(files, panels, making.engine))
            making.finish()
            write_database(workspace.store)
        return making.result()

    return walks


def walk_checks(asset: dg.AssetsDefinition) -> list[dg.AssetChecksDefinition]:
    """The checks on one dataset; what depends on it waits for them."""
    name = asset.key.to_user_string()

    @dg.asset_check(asset=asset, name="marker_grammar", blocking=True)
    def marker_grammar(workspace: Workspace) -> dg.AssetCheckResult:
        """Every walk's text obeys the marker grammar."""
        made = workspace.store.current(name)
        broken = grammar_violations(made.path, made.settings["format"], workspace.engine)
        return dg.AssetCheckResult(passed=broken == 0, metadata={"walks": made.counts["walks"], "broken": broken})

    @dg.asset_check(asset=asset, name="splits_apart", blocking=True)
    def splits_apart(workspace: Workspace) -> dg.AssetCheckResult:
        """No conversation stands in two splits."""
        shared = conversations_in_two_splits(workspace.store.current(name).path, workspace.engine)
        return dg.AssetCheckResult(passed=shared == 0, metadata={"shared": shared})

    return [marker_grammar, splits_apart]


top_2 = walk_asset("top-2")
random_walk = walk_asset("random-walk")
checks = [check for asset in (top_2, random_walk) for check in walk_checks(asset)]
