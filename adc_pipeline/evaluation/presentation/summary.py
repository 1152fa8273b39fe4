"""What a run ends with: the models' headline figures, where the report is, and the commands to go on with.

Reads the current artefacts of the run's assets under ADC_HOME, so that the lines are the same after a run that reused
everything, and say nothing of what other runs made of other data.
"""

import os
import shutil
import sys
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.evaluation.presentation.page import REPORT
from adc_pipeline.walks.kinds import ASCENDING, KINDS, TOP_2

if TYPE_CHECKING:
    from adc_pipeline.evaluation.intervals.estimate import Estimate

# Measure, its label, and the value of a model that has learned nothing.
MEASURES = (
    ("preference_accuracy", "preference accuracy", "0.5"),
    ("steering", "steering", "0.5"),
    ("in_context_improvement", "in-context improvement", "0"),
    ("policy_improvement", "policy improvement", "0"),
    ("minus_base.bits_per_byte.accepted", "bits per byte minus the base model's", "0"),
)


def summary(store: Store, assets: Collection[str]) -> list[str]:
    """Return the last lines of a successful run of these assets; none for a run that made nothing to look at."""
    compared = "comparison" in assets
    evaluated = [kind.name for kind in KINDS.values() if compared or kind.evaluation in assets]
    names = {kind.dataset: kind.name for kind in KINDS.values()} | {"preferences": "preferences"}
    datasets = sorted(store.home / "datasets" / name for asset, name in names.items() if asset in assets)
    lines = figures(store, evaluated)
    if datasets and not evaluated:
        lines.append(f"Datasets: {', '.join(map(shown, datasets))}")
    reports = [store.home / "evaluations" / name / REPORT for name in evaluated]
    reports += store.home.glob(f"study/*/{REPORT}") if "study_table" in assets else []
    comparison = store.home / "evaluations" / "comparison" / REPORT
    report = comparison if compared and comparison.exists() else newest(reports)
    if report:
        lines.append(f"Report: {shown(report)}")
    if lines:
        lines.append(f"Open Dagster's and MLflow's pages: {command('dev')}")
    if evaluated and (model := registered_model(store)):
        lines.append(f"Talk with a model: {command('generate')} --model models:/{model}@latest")
    return lines


def figures(store: Store, names: Collection[str]) -> list[str]:
    """Return a table of evaluations' headline figures, one column a model; empty if there are none."""
    from adc_pipeline.evaluation.evaluation import Evaluation

    read = {}
    for folder in [store.home / "evaluations" / name for name in sorted(names)]:
        # The run that this is about has succeeded.
        with suppress(PipelineError, FileNotFoundError):
            read[folder.name] = Evaluation.read(folder)
    if not read:
        return []
    estimates = {
        name: {**each.model, **{f"minus_base.{measure}": found for measure, found in each.minus_base.items()}}
        for name, each in read.items()
    }
    rows = [["", *read, "nothing learned"]]
    for measure, label, nothing in MEASURES:
        rows.append([label, *(interval(each.get(measure)) for each in estimates.values()), nothing])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return ["Figures on held-out conversations, with 95 % intervals:", *table]


def interval(estimate: "Estimate | None") -> str:
    """Return `0.612 [0.580, 0.644]`, or why there is no such figure."""
    if estimate is None:
        return "not measured"
    if estimate.value is None:
        return "no cases"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f} ({estimate.refused or 'one conversation'})"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def newest_report(home: Path) -> Path | None:
    """Return the report of the evaluation, comparison or study under `home` that was made last."""
    return newest([*home.glob(f"evaluations/*/{REPORT}"), *home.glob(f"study/*/{REPORT}")])


def newest(reports: Iterable[Path]) -> Path | None:
    """Return the file that was written last, of those that there are."""
    return max((each for each in reports if each.exists()), key=lambda each: each.stat().st_mtime, default=None)


def registered_model(store: Store) -> str | None:
    """Return the registered name of a fine-tuned model under `home`: ascending's or else top-2's, if made."""
    files = {file.parent.name: file for file in sorted(store.home.glob("models/*/registered.json"))}
    for file in [files[name] for name in (ASCENDING.name, TOP_2.name, *files) if name in files]:
        with suppress(PipelineError):
            return str(read_record(file, registered_model=str)["registered_model"])
    return None


def shown(path: Path) -> str:
    """Return a path as a person types it: relative if it lies below the working directory."""
    below = os.path.relpath(path)
    return str(path) if below.startswith(os.pardir) else below


def command(name: str) -> str:
    """Return how to call `adc NAME` in this environment: by name if the shell finds it, otherwise by path."""
    script = Path(sys.executable).with_name("adc")
    found = shutil.which("adc")
    if found and script.exists() and script.samefile(found):
        return f"adc {name}"
    return f"{shown(script)} {name}" if script.exists() else f"{shown(Path(sys.executable))} -m adc_pipeline {name}"
