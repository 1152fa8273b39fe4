"""A cell of the study: the walks that it is trained on, and whether it has been made already."""

import os
from pathlib import Path

from adc_pipeline.artefacts import Artefact, Store
from adc_pipeline.errors import PipelineError
from adc_pipeline.study.grid import Variant

# What every cell starts from.
SHARED = ("top_2", "random_walk", "base_model")


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


def is_made(store: Store, name: str, code_version: str) -> bool:
    """Whether a cell is in place that was made by this code from what is in place now."""
    try:
        made = store.current(name)
        shared = {each: store.current(each).digest for each in SHARED}
    except PipelineError:
        return False
    return made.code_version == code_version and shared.items() <= made.inputs.items()


def in_place(store: Store, names: list[str]) -> dict[str, Artefact]:
    """Those of the cells that have been made, by name."""
    found = {}
    for name in names:
        try:
            found[name] = store.current(name)
        except PipelineError:
            continue
    return found
