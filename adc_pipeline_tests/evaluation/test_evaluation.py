"""An evaluation and a comparison from folder to folder, with a real model of random weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from adc_pipeline.evaluation.comparison import compare
from adc_pipeline.evaluation.evaluation import Evaluation, evaluate
from adc_pipeline.evaluation.figures import PLOTS
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.evaluation.conftest import Stages, run_stages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Evaluated = tuple[Path, Evaluation, list[tuple[str, int, int]]]

SETTINGS = EvaluationSettings(draws=200, samples=4, max_new_tokens=24)


def strictly_parsed(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def base_folder(
    model_folder: Path, tokenizer: "PreTrainedTokenizerBase", tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The model before anything was learnt: the same shape, other weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("base")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_folder)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def evaluated(
    model_folder: Path, base_folder: Path, stages: Stages, tmp_path_factory: pytest.TempPathFactory
) -> Evaluated:
    out = tmp_path_factory.mktemp("evaluation")
    seen: list[tuple[str, int, int]] = []
    evaluation = evaluate(
        model_folder,
        base_folder,
        stages.dataset,
        stages.utterances,
        stages.ranked,
        out,
        SETTINGS,
        progress=lambda *progress: seen.append(progress),
    )
    return out, evaluation, seen


def test_metrics_are_valid_json_and_read_back_as_they_were(
    evaluated: Evaluated,
) -> None:
    out, evaluation, seen = evaluated
    assert strictly_parsed(out / "metrics.json") == evaluation.metrics()
    assert Evaluation.read(out) == evaluation
    assert {label for label, done, total in seen if done == total} == {"model", "base model"}
    assert not (out / "spill").exists()


def test_figures_of_model_base_and_length_rest_on_the_same_cases(
    evaluated: Evaluated,
) -> None:
    out, evaluation, _ = evaluated
    rows = pq.read_table(out / "cases.parquet").to_pylist()
    for measure in ("preference_accuracy", "steering", "in_context_improvement.k1", "bits_per_byte.rejected"):
        of = [row for row in rows if row["measure"] == measure]
        weight = sum(row["weight"] for row in of)
        for who in ("model", "base", "length"):
            estimate = getattr(evaluation, who).get(measure)
            if estimate is None:
                assert all(row[who] is None for row in of)
                continue
            assert estimate.value == pytest.approx(sum(row[who] for row in of) / weight)
            assert (estimate.cases, estimate.conversations) == (len(of), len({row["conversation_id"] for row in of}))
            assert estimate.low <= estimate.value <= estimate.high
    assert evaluation.model["perplexity"].value != evaluation.base["perplexity"].value


def test_what_people_look_at_is_there(evaluated: Evaluated) -> None:
    out, evaluation, _ = evaluated
    for name in PLOTS:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    report = (out / "report.md").read_text()
    assert f"{evaluation.model['steering'].value:.4g} [" in report
    samples = pq.read_table(out / "samples.parquet").to_pylist()
    assert len(samples) == 2 * SETTINGS.samples
    assert [sample["verdict"] for sample in samples[:2]] == ["rejected", "accepted"]
    assert samples[0]["prompt"] == samples[1]["prompt"]
    for sample in samples:
        assert sample["words"] == len(sample["continuation"].split())
        assert not any(marker in sample["continuation"] for marker in FORMATS["default"].strings())
        assert sample["valid"] == (sample["ended"] in ("accepted", "rejected", "length"))


def test_a_second_run_gives_the_same_bytes(
    evaluated: Evaluated,
    model_folder: Path,
    base_folder: Path,
    stages: Stages,
    tmp_path: Path,
) -> None:
    out, _, _ = evaluated
    evaluate(model_folder, base_folder, stages.dataset, stages.utterances, stages.ranked, tmp_path, SETTINGS)
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in names if (out / name).read_bytes() != (tmp_path / name).read_bytes()] == []


def test_without_test_conversations_every_figure_says_that_there_are_no_cases(
    evaluated: Evaluated,
    corpus: Path,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    stages = run_stages(corpus, tmp_path / "stages", shares=(90, 10, 0))
    out = tmp_path / "out"
    out.mkdir()
    evaluation = evaluate(model_folder, model_folder, stages.dataset, stages.utterances, stages.ranked, out, SETTINGS)
    metrics = strictly_parsed(out / "metrics.json")
    assert metrics.keys() == evaluated[1].metrics().keys()
    assert {value for name, value in metrics.items() if name.endswith(".cases")} == {0}
    assert evaluation.model["preference_accuracy"].value is None
    assert "no cases" in (out / "report.md").read_text()
    assert pq.read_table(out / "samples.parquet").num_rows == 0
    assert pq.read_table(out / "cases.parquet").num_rows == 0
    compared = tmp_path / "compared"
    compared.mkdir()
    comparison = compare({"full": evaluated[0], "empty": out}, compared, SETTINGS)
    assert comparison.differences == {("full", "empty"): {}}


def test_a_comparison_pairs_the_cases_that_two_models_share(
    evaluated: Evaluated,
    model_folder: Path,
    base_folder: Path,
    stages: Stages,
    tmp_path: Path,
) -> None:
    """Model and base change places, so that the difference of the models is that of model and base."""
    first, evaluation, _ = evaluated
    swapped, out = tmp_path / "swapped", tmp_path / "out"
    swapped.mkdir()
    out.mkdir()
    evaluate(base_folder, model_folder, stages.dataset, stages.utterances, stages.ranked, swapped, SETTINGS)
    comparison = compare({"first": first, "swapped": swapped}, out, SETTINGS)
    differences = comparison.differences["first", "swapped"]
    assert {"preference_accuracy", "steering"} <= differences.keys()
    assert all(name.split(".")[0] in ("preference_accuracy", "steering") for name in differences)
    for name, difference in differences.items():
        ours, theirs = evaluation.model[name], evaluation.base[name]
        assert ours.value is not None
        assert theirs.value is not None
        assert difference.value == pytest.approx(ours.value - theirs.value)
        assert difference.cases == ours.cases
    metrics = strictly_parsed(out / "comparison.json")
    assert metrics == comparison.metrics()
    assert metrics["swapped.base.steering"] == evaluation.model["steering"].value
    assert "first_minus_swapped.steering.low" in metrics
    table = (out / "comparison.md").read_text()
    assert "## first minus swapped" in table
    assert all((out / name).exists() for name in PLOTS)
