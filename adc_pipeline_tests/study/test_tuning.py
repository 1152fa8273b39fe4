"""Which combinations are trained, and which is the best. The training process is one that writes its figures only."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.study.tuning import combinations, tune
from adc_pipeline.training.settings import TrainingJob
from adc_pipeline_tests.study.test_cells import put, store
from adc_pipeline_tests.study.test_plan import COMMON, PLAN, write_plan

__all__ = ["store"]


class Training:
    """Losses that are least at a learning rate of 2e-3; one of 4e-3 diverges."""

    def __init__(self) -> None:
        self.jobs: list[TrainingJob] = []

    def __call__(self, command: Sequence[str], log: IO[str]) -> bool:
        job = TrainingJob.from_json(Path(command[-1]).read_text())
        self.jobs.append(job)
        rate = job.settings.learning_rate
        if rate == 4e-3 and job.settings.objective == "mle":
            (job.work / "failure.txt").write_text("The loss is nan.\n")
            return False
        job.output.mkdir(parents=True)
        gain = 0.5 + job.settings.preference_beta / 10
        final = {"validation_loss_accepted": 1 + abs(rate - 2e-3), "validation_preference_accuracy": gain}
        (job.output / "training.json").write_text(json.dumps({"final": final}))
        return True


def test_the_best_combination_is_found_and_nothing_is_trained_twice(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, "base_model", {"name": "a folder"})
    plan = write_plan(tmp_path, tuning={"A": {"learning_rate": [1e-3, 2e-3, 4e-3]}})
    training, folder = Training(), tmp_path / "cells"
    best = tune(plan, "A", store, COMMON, folder, training)
    assert (best["tuned"], best["value"]) == ({"learning_rate": 2e-3}, 1.0)
    assert "learning_rate: 0.004: validation_loss_accepted None" in capsys.readouterr().out
    # The plan's seeds are 0 to 4.
    assert {job.settings.seed for job in training.jobs} == {9}
    records = json.loads((folder / "tuning-A.json").read_text())["tried"]
    assert [each["figures"].get("failed") for each in records] == [None, None, "The loss is nan."]
    assert tune(plan, "A", store, COMMON, folder, training) == best
    assert len(training.jobs) == 3


def test_preferences_are_tuned_by_their_accuracy_from_one_model_of_the_accepted_turns(
    store: Store, tmp_path: Path
) -> None:
    put(store, "base_model", {"name": "a folder"})
    arms = {**PLAN["arms"], "C": {"dataset": "top-2", "objective": "dpo"}}
    plan = write_plan(tmp_path, arms=arms, tuning={"C": {"preference_beta": [0.1, 0.3]}})
    training = Training()
    best = tune(plan, "C", store, COMMON, tmp_path / "cells", training)
    assert (best["tuned"], best["figure"]) == ({"preference_beta": 0.3}, "validation_preference_accuracy")
    assert [job.settings.objective for job in training.jobs] == ["filtering", "dpo"] * 2
    assert training.jobs[1].base_model == training.jobs[0].output
    assert training.jobs[0].work == training.jobs[2].work


def test_combinations_that_are_equal_are_counted(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, "base_model", {"name": "a folder"})
    plan = write_plan(tmp_path, tuning={"A": {"alpha": [0.1, 0.2], "learning_rate": [1e-3]}})
    assert tune(plan, "A", store, COMMON, tmp_path / "cells", Training())["tuned"]["alpha"] == 0.1
    assert "Best, the first of 2 that are equal: alpha: 0.1, learning_rate: 0.001." in capsys.readouterr().out


def test_a_signal_leaves_no_record(store: Store, tmp_path: Path) -> None:
    put(store, "base_model", {"name": "a folder"})
    plan = write_plan(tmp_path, tuning={"A": {"learning_rate": [1e-3]}})
    assert tune(plan, "A", store, COMMON, tmp_path / "cells", Training(), lambda: True) == {}
    assert not (tmp_path / "cells").exists()


def test_an_arm_without_values_to_try_is_refused(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, tuning={"A": {"learning_rate": [1e-3, 2e-3], "beta": [1.0]}})
    assert combinations(plan, "A") == [{"learning_rate": rate, "beta": 1.0} for rate in (1e-3, 2e-3)]
    with pytest.raises(PipelineError, match="names B, for which the plan my-plan has no `tuning`; use one of A"):
        combinations(plan, "B")
