"""A cell of the study: the walks that it is trained on, whether it has been made already, and what it stands beside."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adc_pipeline.core.artefacts import Artefact, Store, differences, differing
from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.study.grid import VARIANTS, VARIED, Variant, cell_name
from adc_pipeline.training.settings import TrainingSettings

# Of all that a cell runs.
CODE_VERSION = code_version("adc_pipeline.defs.study", "adc_pipeline.training.__main__")


def inputs_of(store: Store, variant: Variant) -> dict[str, Artefact]:
    """What a cell is made of, as it is in place now.

    PipelineError where there is none yet, or where the two datasets are not of the same split of the same corpus.
    """
    inputs = {name: store.current(name) for name in ("top_2", "random_walk", "base_model")}
    check_same_split(inputs["top_2"], inputs["random_walk"])
    walks = inputs[variant.evaluated_on]
    return inputs | {name: store.version(name, walks.inputs[name]) for name in ("utterances", "ranked_replies")}


def check_same_split(top_2: Artefact, random_walk: Artefact) -> None:
    """Raise PipelineError unless a conversation is in the same split of both datasets.

    Else `both` would learn from conversations that it is asked about, and two datasets be compared on others.
    """
    ours, theirs = top_2.settings["shares"], random_walk.settings["shares"]
    if ours != theirs:
        raise PipelineError(
            f"top_2 has the setting `shares` {ours} and random_walk {theirs}, so that one trains on what the other is"
            " tested on: give both the same `shares` and materialize them again."
        )
    for name in ("utterances", "ranked_replies"):
        if top_2.inputs[name] != random_walk.inputs[name]:
            raise PipelineError(
                f"top_2 was made of `{name}` {top_2.inputs[name]} and random_walk of {random_walk.inputs[name]}:"
                " materialize both again, of the same."
            )


def walks_of(variant: Variant, top_2: Path, random_walk: Path, out: Path) -> Path:
    """The dataset folder that a variant is trained on; for `both` one in `out`, of links to the files of each."""
    if variant.source != "both":
        return {"top-2": top_2, "random-walk": random_walk}[variant.source]
    (out / "data").mkdir(parents=True)
    for kind, dataset in (("top-2", top_2), ("random-walk", random_walk)):
        for file in sorted((dataset / "data").iterdir()):
            # Splits are found by the beginning of the name.
            os.link(file.resolve(), out / "data" / f"{file.stem}-{kind}{file.suffix}")
    return out


def is_made(store: Store, variant: Variant, seed: int, common: TrainingSettings) -> bool:
    """Whether a cell is in place that was made with these settings, by this code, of what is in place now."""
    try:
        made = store.current(cell_name(variant.name, str(seed)))
        inputs = {name: artefact.digest for name, artefact in inputs_of(store, variant).items()}
    except PipelineError:
        return False
    return not differences(made, asdict(variant.settings(common, seed)), inputs, CODE_VERSION)


def comparable(store: Store, names: Mapping[str, tuple[str, int]]) -> tuple[dict[str, Artefact], dict[str, str]]:
    """The cells that may stand side by side, and of every other that has been made, why it may not; both by name.

    `names` says of each its variant and seed. They were made by this code of what is in place now, with the same
    settings apart from those that the grid varies; where settings differ, those of the cell that was made last count.
    """
    fit, left_out = {}, {}
    for name, (variant, _) in names.items():
        try:
            made = store.current(name)
        except PipelineError:
            continue
        inputs = {each: artefact.digest for each, artefact in inputs_of(store, VARIANTS[variant]).items()}
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
    """The settings of a cell that the grid does not vary."""
    return {name: value for name, value in cell.settings.items() if name not in VARIED}
