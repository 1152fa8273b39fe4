"""Tune an arm of a plan on the validation split: `adc study --plan PLAN --tune ARM`.

The plan's section `tuning` lists values of an arm's own settings. Each combination is trained with the plan's other
settings and a seed that no cell has, and nothing of the test split is read. `dpo` and `kto` are judged by the share of
validation units on the right side of their loss (`validation_preference_accuracy`), the other objectives by the loss
of accepted text (`validation_loss_accepted`), both on the first `validation_tokens` of the validation split. The best
combination is what a person then writes into the arm's `settings`: a plan changes by hand only, and before its cells.

The records are kept in the folder of the plan's small results, so that an interrupted tuning goes on. A combination
costs a training.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import IO, Any

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.records import read_record
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.terminal import show
from adc_pipeline.study.cells import initial_model, inputs_of, walks_of
from adc_pipeline.study.grid import SEEDS
from adc_pipeline.study.plan import Plan
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.training.launching.launch import launch_command
from adc_pipeline.training.settings import PREFERENCES, TrainingJob
from adc_pipeline.walks.kinds import KINDS

Values = Mapping[str, Any]
# Run a command to its end with its output in a file; return whether it succeeded.
Execute = Callable[[Sequence[str], IO[str]], bool]


def combinations(plan: Plan, arm: str) -> list[dict[str, Any]]:
    """Return what is to be tried for an arm; raise PipelineError if the plan has no tuning for the arm."""
    if arm not in plan.tuning:
        raise PipelineError(
            f"`--tune` names {arm}{did_you_mean(arm, plan.tuning)}, for which the plan {plan.name} has no `tuning`; use"
            f" one of {', '.join(plan.tuning) or 'another plan'}."
        )
    names = list(plan.tuning[arm])
    return [dict(zip(names, values, strict=True)) for values in product(*plan.tuning[arm].values())]


def criterion(settings: CellSettings) -> tuple[str, bool]:
    """Return the figure that decides, and whether more of it is better."""
    if settings.objective in PREFERENCES:
        return "validation_preference_accuracy", True
    return "validation_loss_accepted", False


def tune(
    plan: Plan,
    arm: str,
    store: Store,
    common: CellSettings,
    folder: Path,
    execute: Execute,
    stopped: Callable[[], bool] = lambda: False,
) -> Values:
    """Train each combination that `folder` has no record of; write the records and return that of the best.

    Nothing is returned once a signal has `stopped` the command.
    """
    variant = plan.arms[arm]
    seed = next((int(each) for each in reversed(SEEDS) if int(each) not in plan.seeds), int(SEEDS[-1]))
    inputs = {name: artefact.digest for name, artefact in inputs_of(store).items()}
    path = folder / f"tuning-{arm}.json"
    tried: list[Values] = list(read_record(path, tried=list)["tried"]) if path.exists() else []
    found = []
    for values in combinations(plan, arm):
        settings = plan.settings(variant.name, seed, common, values)
        name, _ = criterion(settings)
        asked = {"settings": asdict(settings), "inputs": inputs}
        record = next((each for each in tried if {key: each[key] for key in asked} == asked), None)
        if record is None:
            figures = trained(plan, arm, store, settings, execute)
            if stopped():
                return {}
            record = {**asked, "tuned": values, "figure": name, "value": figures.get(name), "figures": figures}
            tried.append(record)
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as partial:
                partial.write_text(json.dumps({"tried": tried}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        show(f"{arm}: {spelt(values)}: {name} {record['value']}")
        found.append(record)
    better = 1 if criterion(settings)[1] else -1
    known = [each for each in found if each["value"] is not None]
    if not known:
        raise PipelineError(f"No combination of the arm {arm} could be judged: see `figures` in {path}.")
    best: Values = max(known, key=lambda each: better * each["value"])
    equal = sum(each["value"] == best["value"] for each in known)
    which = f"Best, the first of {equal} that are equal" if equal > 1 else "Best"
    show(f"{which}: {spelt(best['tuned'])}. Write it into the arm's `settings`; the records are in {path}.")
    return best


def spelt(values: Values) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def trained(plan: Plan, arm: str, store: Store, settings: CellSettings, execute: Execute) -> Values:
    """Train a combination; return its final figures, or the sentence why it failed."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    inputs = inputs_of(store)
    work = store.home / "work" / "tuning" / plan.name / arm
    for name in ("base", "walks", "model"):
        shutil.rmtree(work / name, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    base = initial_model(inputs["base_model"], settings.seed, work / "base")
    walks = walks_of(plan.arms[arm], {kind.name: inputs[kind.dataset].path for kind in KINDS.values()}, work / "walks")
    for number, stage in enumerate(settings.stages):
        # Combinations may share the first stage, whose last checkpoint stays.
        output, own = work / "model" / str(number), work / f"stage-{number}"
        own.mkdir(exist_ok=True)
        job = own / "job.json"
        job.write_text(TrainingJob(stage, walks, base, output, own).to_json())
        log = own / "log.txt"
        with log.open("w") as file:
            succeeded = execute(launch_command(job, settings.accelerate_config), file)
        if not succeeded:
            failure = own / "failure.txt"
            return {"failed": failure.read_text().strip() if failure.exists() else f"see {log}"}
        base = output
    figures: Values = read_record(base / "training.json", final=dict)["final"]
    return figures
