"""The datasets of walks, one asset for each kind in `walks.kinds`, and the checks on their text."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from adc_pipeline.core.ahead import FilesAhead
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus.source import is_sample
from adc_pipeline.defs.ahead import begun_ahead, taken
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.distributions import distributions
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.stage import INPUT_OF_TRAINING, Stage
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.walks.baselines import dataset_baselines
from adc_pipeline.walks.card import write_card
from adc_pipeline.walks.datasets import Previous, write_walks
from adc_pipeline.walks.differences import count_differences
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.grammar import conversations_in_two_splits, grammar_violations
from adc_pipeline.walks.kinds import KINDS, WalkKind
from adc_pipeline.walks.leakage import count_leakage
from adc_pipeline.walks.learnable import shortcomings
from adc_pipeline.walks.no_walks import refuse_no_walks
from adc_pipeline.walks.preview import walks_as_markdown
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import SPLITS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PANELS = {
    "characters of a walk": "length(text)",
    "turns of a walk": "len(turns)",
    "rejected turns": "len(list_filter(turns, lambda turn: turn.verdict = 'rejected'))",
}
# Of so many ranked replies a kind's walks take some 3 s and 1 GB.
MOST_AHEAD = 2_000_000


def walk_stage(kind: WalkKind) -> Stage[WalkSettings]:
    """Return the stage of a kind's dataset: three splits and a card, as on the Hugging Face Hub."""

    def begin(request: Request[WalkSettings]) -> FilesAhead | None:
        return begun_ahead(request, partial(write_walks, kind.name), MOST_AHEAD)

    def make(making: Making[WalkSettings]) -> None:
        ranked, utterances = making.inputs["ranked_replies"], making.inputs["utterances"]
        folder, settings, engine = making.folder, making.settings, making.engine
        counts = taken(making)
        if counts is None:
            with making.unfinished() as work:
                previous = Previous(made.path, made.counts) if (made := making.updated()) else None
                out = utterances.path, ranked.path, folder
                counts = write_walks(kind.name, *out, settings, engine, work, previous)
        making.count(counts)
        files = {split: split_files(folder, split) for split in SPLITS}
        corpus = making.request.upstream("raw_corpus")
        # The sample repeats its roots by design.
        repeats = is_sample(corpus.settings["corpus"])
        looked_for = "equal" if settings.leakage == "auto" and repeats else settings.leakage
        refuse_no_walks(making.counts, utterances.counts, ranked.counts)
        with ThreadPoolExecutor(1) as beside:
            # The picture is drawn on another core.
            leakage = beside.submit(
                count_leakage, files, settings.format, settings.speakers, looked_for, engine, folder / "spill"
            )
            making.metadata["preview"] = dg.MetadataValue.md(walks_as_markdown(Path(files["train"][0])))
            written = [file for split in SPLITS for file in files[split]]
            making.show("distributions", distributions(written, PANELS, engine, in_random_order=True))
            baselines = dataset_baselines(folder, ranked.path, engine)
            differences = count_differences(files["train"], engine, folder / "spill-differences")
            making.count(
                {name: count for name, count in differences.items() if name != "sampled.tied" or kind.follows_ranks}
            )
            making.count(leakage.result())
        limits = shortcomings(making.counts, settings.walks_per_conversation)
        for sentence in limits:
            making.warn(sentence)
        write_card(kind.name, folder, settings, making.counts, corpus, utterances, ranked, limits, baselines)

    def view(connection: "DuckDBPyConnection", folder: "Path") -> None:
        view_splits(connection, folder, "data", kind.dataset)

    return Stage(
        name=kind.dataset,
        place=f"datasets/{kind.name}",
        group="walks",
        description=kind.description,
        settings=WalkSettings,
        make=make,
        code=(__name__,),
        begin=begin,
        inputs=("ranked_replies", "utterances"),
        # The card shows them.
        reads=("ranked_replies", "utterances", "raw_corpus"),
        kinds=("duckdb", "huggingface"),
        unhashed=("README.md",),
        table=lambda folder: [file for split in SPLITS for file in split_files(folder, split)],
        view=view,
        priority=INPUT_OF_TRAINING,
        volume="walks",
    )


def view_splits(connection: "DuckDBPyConnection", folder: "Path", configuration: str, view: str) -> None:
    """Create a view over the three splits of a dataset's configuration, with the column `split`."""
    files = [split_files(folder, split, configuration) for split in SPLITS]
    rows = [connection.read_parquet(each, hive_partitioning=False) for each in files]
    splits = [row.project(f"'{split}' AS split, *") for row, split in zip(rows, SPLITS, strict=True)]
    splits[0].union(splits[1]).union(splits[2]).create_view(view)


def walk_checks(asset: dg.AssetsDefinition) -> list[dg.AssetChecksDefinition]:
    """Return the checks of a dataset; they block downstream assets."""
    name = asset.key.to_user_string()

    @dg.asset_check(asset=asset, name="marker_grammar", blocking=True)
    def marker_grammar(workspace: Workspace) -> dg.AssetCheckResult:
        """Every walk obeys the marker grammar."""
        made = workspace.store.current(name)
        broken = grammar_violations(made.path, made.settings["format"], workspace.engine)
        return dg.AssetCheckResult(passed=broken == 0, metadata={"walks": made.counts["walks"], "broken": broken})

    @dg.asset_check(asset=asset, name="splits_apart", blocking=True)
    def splits_apart(workspace: Workspace) -> dg.AssetCheckResult:
        """No conversation is in two splits."""
        shared = conversations_in_two_splits(workspace.store.current(name).path, workspace.engine)
        return dg.AssetCheckResult(passed=shared == 0, metadata={"shared": shared})

    # Not blocking: a person may want the texts. A champion is not made of such a dataset.
    @dg.asset_check(asset=asset, name="something_to_learn")
    def something_to_learn(workspace: Workspace) -> dg.AssetCheckResult:
        """There are rejected turns, texts differ, no other dataset is the same, and the splits are large enough."""
        made = workspace.store.current(name)
        same = same_content(workspace.store, made)
        found = shortcomings(made.counts, made.settings["walks_per_conversation"], same)
        return dg.AssetCheckResult(
            passed=not found, severity=dg.AssetCheckSeverity.WARN, description=" ".join(found) or None
        )

    return [marker_grammar, splits_apart, something_to_learn]


def same_content(store: Store, dataset: Artefact) -> list[str]:
    """Return the names of the other current datasets with the same content; one that cannot be read has another."""
    same = []
    for kind in KINDS.values():
        with suppress(PipelineError, OSError):
            if kind.dataset != dataset.name and store.current(kind.dataset).digest == dataset.digest:
                same.append(kind.dataset)
    return same


datasets = [declare(walk_stage(kind)) for kind in KINDS.values()]
checks = [check for asset in datasets for check in walk_checks(asset)]
