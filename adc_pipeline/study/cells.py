"""A cell of the study: its inputs, whether it is up to date, and which cells it can be compared with."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adc_pipeline.core.artefacts import Artefact, Store, differences, differing
from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.study.grid import BOTH, VARIED, Variant, cell_name
from adc_pipeline.training.settings import TrainingSettings
from adc_pipeline.walks.kinds import KINDS, RANDOM_WALK, TOP_2

# What decides a cell; how results are shown does not.
CODE = ("adc_pipeline.training.__main__", "adc_pipeline.evaluation.evaluate")
CODE_VERSION = code_version(*CODE)
# Both published datasets, whatever a cell learns from, so that all cells are comparable.
PUBLISHED = (TOP_2, RANDOM_WALK)
INPUTS = (*(kind.dataset for kind in KINDS.values()), "base_model", "ranked_replies", "utterances")


def inputs_of(store: Store) -> dict[str, Artefact]:
    """Return what a cell made now reads.

    Raises PipelineError where something is missing, or where the datasets have different splits or corpora.
    """
    inputs = store.inputs(INPUTS)
    check_same_split([inputs[kind.dataset] for kind in KINDS.values()])
    return inputs


def check_same_split(datasets: Sequence[Artefact]) -> None:
    """Raise PipelineError unless a conversation is in the same split of all datasets.

    Otherwise `both` would learn from conversations that it is evaluated on, and datasets be compared on different ones.
    """
    first, *rest = datasets
    for other in rest:
        ours, theirs = first.settings["shares"], other.settings["shares"]
        if ours != theirs:
            raise PipelineError(
                f"{first.name} has the setting `shares` {ours} and {other.name} {theirs}, so that one trains on what"
                " the other is tested on: give both the same `shares` and materialize them again."
            )
        for name in ("utterances", "ranked_replies"):
            if first.inputs[name] != other.inputs[name]:
                raise PipelineError(
                    f"{first.name} was made of `{name}` {first.inputs[name]} and {other.name} of {other.inputs[name]}:"
                    " materialize both again, of the same."
                )


def walks_of(variant: Variant, datasets: Mapping[str, Path], out: Path) -> Path:
    """Return the folder that a variant is trained on, of `datasets` by kind; for `both` one in `out`, of links."""
    if variant.source != BOTH:
        return datasets[variant.source]
    (out / "data").mkdir(parents=True)
    for kind in PUBLISHED:
        for file in sorted((datasets[kind.name] / "data").iterdir()):
            # Splits are recognised by the beginning of the file name.
            os.link(file.resolve(), out / "data" / f"{file.stem}-{kind.name}{file.suffix}")
    return out


def is_made(store: Store, variant: Variant, seed: int, common: TrainingSettings) -> bool:
    """Return whether a cell is up to date: made with these settings, by this code, from the current inputs."""
    try:
        made = store.current(cell_name(variant.name, str(seed)))
        inputs = {name: artefact.digest for name, artefact in inputs_of(store).items()}
    except PipelineError:
        return False
    return not differences(made, asdict(variant.settings(common, seed)), inputs, CODE_VERSION)


def comparable(store: Store, names: Iterable[str]) -> tuple[dict[str, Artefact], dict[str, str]]:
    """Return the cells of these names that can be compared, and of every other that was made the reason why not.

    Comparable cells were made by this code from the current inputs, with the same settings apart from those that the
    grid varies; where these differ, the settings of the cell that was made last count.
    """
    fit, left_out = {}, {}
    for name in names:
        try:
            made = store.current(name)
        except PipelineError:
            continue
        inputs = {each: artefact.digest for each, artefact in inputs_of(store).items()}
        if reasons := differences(made, made.settings, inputs, CODE_VERSION):
            left_out[name] = ", ".join(reasons)
        else:
            fit[name] = made
    if fit:
        counts = shared_settings(max(fit.values(), key=store.made_at))
        for name, made in list(fit.items()):
            if others := differing("setting", shared_settings(made), counts):
                left_out[name] = ", ".join(others)
                del fit[name]
    return fit, left_out


def shared_settings(cell: Artefact) -> dict[str, Any]:
    """Return the settings of a cell that the grid does not vary."""
    return {name: value for name, value in cell.settings.items() if name not in VARIED}
