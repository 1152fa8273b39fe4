"""Cells of the study: their inputs, whether they are up to date, and which of them are comparable."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact, differences, differing
from adc_pipeline.study.grid import BOTH, VARIED, Variant, cell_name
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.walks.kinds import KINDS

# The code that decides a cell's content; how results are presented does not.
CODE = (
    "adc_pipeline.training.__main__",
    "adc_pipeline.evaluation.evaluate",
    "adc_pipeline.study.second_round",
    "adc_pipeline.study.settings",
)
CODE_VERSION = code_version(*CODE)
# Every cell depends on all datasets, whichever it is trained on, so that all cells are comparable.
INPUTS = (*(kind.dataset for kind in KINDS.values()), "base_model", "ranked_replies", "utterances", "judge")
# The report of a cell shows the settings of all of them.
READS = (*INPUTS, "raw_corpus")


def inputs_of(store: Store) -> dict[str, Artefact]:
    """Return the artefacts that a cell made now would read.

    Raise PipelineError if an artefact is missing, or if the datasets have different splits or corpora.
    """
    inputs = store.inputs(INPUTS)
    check_same_split([inputs[kind.dataset] for kind in KINDS.values()])
    return inputs


def check_same_split(datasets: Sequence[Artefact]) -> None:
    """Raise PipelineError unless every conversation is in the same split of all datasets.

    Otherwise `both` would be trained on conversations that it is evaluated on, and models of different datasets would
    be compared on different conversations.
    """
    check_same_shares({made.name: made.settings["shares"] for made in datasets})
    first, *rest = datasets
    for other in rest:
        for name in ("utterances", "ranked_replies"):
            if first.inputs[name] != other.inputs[name]:
                raise PipelineError(
                    f"{first.name} was made from `{name}` {first.inputs[name]} and {other.name} from"
                    f" {other.inputs[name]}: materialize both again, from the same `{name}`."
                )


def check_same_shares(shares: Mapping[str, Sequence[int]]) -> None:
    """Raise PipelineError unless all datasets have the same `shares`, which are given by the dataset's name."""
    (first, ours), *rest = shares.items()
    for other, theirs in rest:
        if list(ours) != list(theirs):
            raise PipelineError(
                f"{first} has the setting `shares` {list(ours)} and {other} {list(theirs)}, so test conversations of"
                " one are training conversations of the other: give all datasets of a study the same `shares`."
            )


def walks_of(variant: Variant, datasets: Mapping[str, Path], out: Path) -> Path:
    """Return the folder of the dataset that a variant is trained on; `datasets` has the folders by kind.

    For `both`, fill `out` with hard links to the files of both datasets and return it.
    """
    if variant.source != BOTH:
        return datasets[variant.source]
    (out / "data").mkdir(parents=True)
    for name in variant.trained_on:
        for file in sorted((datasets[name] / "data").iterdir()):
            # A reader recognises a split by the prefix of the file name.
            os.link(file.resolve(), out / "data" / f"{file.stem}-{name}{file.suffix}")
    return out


def initial_model(prepared: Artefact, seed: int, out: Path) -> Path:
    """Return the folder of the model that a cell starts from: for `small`, one with the initial weights of its seed.

    A pretrained model has one set of weights, so that its seeds differ in data order and dropout only.
    """
    from adc_pipeline.training.model import initialize_again

    if prepared.settings["name"] != "small":
        return prepared.path
    initialize_again(prepared.path, prepared.settings["seed"] + seed, out)
    return out


def is_made(store: Store, variant: str, settings: CellSettings) -> bool:
    """Return whether a cell is up to date: made with these settings, by this code, from the current inputs."""
    try:
        made = store.current(cell_name(variant, str(settings.seed)))
        inputs = inputs_of(store)
    except PipelineError:
        return False
    digests = {name: artefact.digest for name, artefact in inputs.items()}
    upstream_settings = store.settings_read(READS, inputs)
    return not differences(made, asdict(settings), digests, upstream_settings, CODE_VERSION)


def comparable(store: Store, names: Iterable[str]) -> tuple[dict[str, Artefact], dict[str, str]]:
    """Return the comparable cells among `names`, and the reason why each other cell that was made is excluded.

    Comparable cells were made by this code from the current inputs, with the same settings apart from those that the
    grid varies. If these settings differ between cells, those of the newest cell count.
    """
    fit, excluded = {}, {}
    for name in names:
        try:
            made = store.current(name)
        except PipelineError:
            continue
        inputs = inputs_of(store)
        digests = {each: artefact.digest for each, artefact in inputs.items()}
        if reasons := differences(made, made.settings, digests, store.settings_read(READS, inputs), CODE_VERSION):
            excluded[name] = ", ".join(reasons)
        else:
            fit[name] = made
    if fit:
        newest = shared_settings(max(fit.values(), key=store.made_at))
        for name, made in list(fit.items()):
            if others := differing(shared_settings(made), newest):
                excluded[name] = ", ".join(f"setting {each} has changed" for each in others)
                del fit[name]
    return fit, excluded


def shared_settings(cell: Artefact) -> dict[str, Any]:
    """Return the settings of a cell that the grid does not vary."""
    return {name: value for name, value in cell.settings.items() if name not in VARIED}
