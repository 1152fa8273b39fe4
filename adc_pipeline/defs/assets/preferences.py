"""The asset `preferences`: ranked replies in the formats of those who train on preferences, and the checks on it."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from adc_pipeline.core.ahead import FilesAhead
from adc_pipeline.defs.ahead import begun_ahead, taken
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.assets.walks import view_splits
from adc_pipeline.defs.distributions import distributions
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.stage import Stage
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.preferences.baselines import pair_baselines
from adc_pipeline.preferences.card import write_card
from adc_pipeline.preferences.checks import empty_rows, files_of, pairs_out_of_order
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.preferences.datasets import write_preferences
from adc_pipeline.preferences.learnable import count_same_texts, shortcomings
from adc_pipeline.preferences.preview import pairs_as_markdown
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.grammar import conversations_in_two_splits

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PANELS = {
    "score gap": "score_gap",
    "hours apart": "seconds_apart / 3600",
    "rank of the rejected reply": "rank_rejected",
}
# Of so many ranked replies they take some 7 s and 1 GB.
MOST_AHEAD = 1_000_000


def begin_preferences(request: Request[PreferenceSettings]) -> FilesAhead | None:
    return begun_ahead(request, write_preferences, MOST_AHEAD)


def make_preferences(making: Making[PreferenceSettings]) -> None:
    ranked, utterances = making.inputs["ranked_replies"], making.inputs["utterances"]
    folder, settings, engine = making.folder, making.settings, making.engine
    counts = taken(making)
    if counts is None:
        with making.unfinished() as work:
            counts = write_preferences(utterances.path, ranked.path, folder, settings, engine, work)
    making.count(counts)
    making.count(count_same_texts(split_files(folder, "train", "pairs"), settings.form, engine, folder / "spill"))
    limits = shortcomings(making.counts)
    for sentence in limits:
        making.warn(sentence)
    baselines = pair_baselines(folder, utterances.path, ranked.path, settings, engine)
    corpus = making.request.upstream("raw_corpus")
    write_card(folder, settings, making.counts, corpus, utterances, ranked, baselines, limits)
    making.metadata["preview"] = dg.MetadataValue.md(pairs_as_markdown(Path(split_files(folder, "train", "pairs")[0])))
    making.show("distributions", distributions(files_of(folder, "pairs"), PANELS, engine, True))


def view_preferences(connection: "DuckDBPyConnection", folder: "Path") -> None:
    for name in CONFIGURATIONS:
        view_splits(connection, folder, name, f"preferences_{name}")


preferences = declare(
    Stage(
        name="preferences",
        place="datasets/preferences",
        group="preferences",
        description="Ranked replies as pairs, groups, triples, verdicts and paths, in the formats of trainers.",
        settings=PreferenceSettings,
        make=make_preferences,
        begin=begin_preferences,
        code=(__name__,),
        inputs=("ranked_replies", "utterances"),
        # The card shows them.
        reads=("ranked_replies", "utterances", "raw_corpus"),
        kinds=("duckdb", "huggingface"),
        unhashed=("README.md",),
        table=lambda folder: files_of(folder, "pairs"),
        view=view_preferences,
        volume="pairs",
    )
)


@dg.asset_check(asset=preferences, blocking=True)
def well_formed(workspace: Workspace) -> dg.AssetCheckResult:
    """No prompt and no reply is empty, and the chosen reply of a pair has the higher score."""
    made = workspace.store.current("preferences")
    empty = empty_rows(made.path, made.settings["form"], workspace.engine)
    wrong = pairs_out_of_order(made.path, workspace.engine)
    return dg.AssetCheckResult(
        passed=not wrong and not any(empty.values()), metadata={"pairs out of order": wrong, **empty}
    )


@dg.asset_check(asset=preferences, name="splits_apart", blocking=True)
def splits_apart(workspace: Workspace) -> dg.AssetCheckResult:
    """No conversation is in two splits, whatever the configuration."""
    shared = conversations_in_two_splits(workspace.store.current("preferences").path, workspace.engine)
    return dg.AssetCheckResult(passed=shared == 0, metadata={"shared": shared})


checks = [well_formed, splits_apart]
