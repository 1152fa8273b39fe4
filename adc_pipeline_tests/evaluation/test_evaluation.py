"""Evaluate and compare from folder to folder, with a real model of random weights."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.applicability import TrainingFacts, within_training, without_calibration
from adc_pipeline.evaluation.baselines import BASELINES
from adc_pipeline.evaluation.cases.case_sets import QUERY_FIELDS
from adc_pipeline.evaluation.cases.cases import Cases, read_cases
from adc_pipeline.evaluation.compare import compare
from adc_pipeline.evaluation.evaluate import evaluate
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.formatting import number
from adc_pipeline.evaluation.job import EvaluationJob
from adc_pipeline.evaluation.measures import TESTED
from adc_pipeline.evaluation.presentation.figures import PLOTS
from adc_pipeline.evaluation.scored import of_all
from adc_pipeline.evaluation.scoring.likelihoods import Scorer, encoded
from adc_pipeline.evaluation.settings import ComparisonSettings, EvaluationSettings
from adc_pipeline.generation.decoding import continuations as drawn
from adc_pipeline.training.settings import TrainingSettings
from adc_pipeline.training.texts.arrangement import arrangement_facts
from adc_pipeline.training.texts.dataset import read_walks
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.splits import split_of
from adc_pipeline_tests.evaluation.conftest import Stages, judge_of, run_stages
from adc_pipeline_tests.stages import read_utterances

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Evaluated = tuple[Path, Evaluation, list[tuple[str, int, int]]]

SETTINGS = EvaluationSettings(draws=200, samples=4, max_new_tokens=24, contexts=4, rejections=2, reply_tokens=8)
COMPARED = ComparisonSettings(draws=200)
# In the report of a comparison between datasets, and in no other.
OWN_WALKS = "rest on the turns of each dataset&#39;s own walks"
PROVENANCE = {"dataset": "random-walk", "raw_corpus: corpus": "sample"}


def job_of(model: Path, base: Path, stages: Stages, **rest: Any) -> EvaluationJob:
    judge = judge_of(stages)
    return EvaluationJob(model, base, stages.dataset, stages.utterances, stages.ranked, judge=judge, **rest)


def strictly_parsed(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the plots, a fifth of an evaluation's time here, where a test does not look at them."""
    monkeypatch.setattr("adc_pipeline.evaluation.evaluate.draw", lambda out, series: {})


@pytest.fixture(scope="module")
def base_folder(
    model_folder: Path, tokenizer: "PreTrainedTokenizerBase", tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A base model: the same shape, other weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("base")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_folder)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the evaluation below keeps the scores of the base model."""
    return tmp_path_factory.mktemp("scores") / "cache"


@pytest.fixture(scope="module")
def evaluated(
    model_folder: Path, base_folder: Path, stages: Stages, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Evaluated:
    out = tmp_path_factory.mktemp("evaluation")
    seen: list[tuple[str, int, int]] = []
    job = job_of(model_folder, base_folder, stages, provenance=PROVENANCE, score_cache=cache)
    evaluation = evaluate(job, out, SETTINGS, lambda *progress: seen.append(progress))
    return out, evaluation, seen


@pytest.mark.slow
def test_metrics_are_valid_json_and_read_back_as_they_were(
    evaluated: Evaluated,
) -> None:
    out, evaluation, seen = evaluated
    assert strictly_parsed(out / "metrics.json") == evaluation.metrics()
    assert Evaluation.read(out) == evaluation
    assert {label for label, done, total in seen if done == total} == {
        "model",
        "base model",
        "own replies",
        "replies of the controls",
    }
    assert not (out / "spill").exists()


@pytest.mark.slow
def test_figures_of_model_base_and_length_rest_on_the_same_cases(
    evaluated: Evaluated,
) -> None:
    out, evaluation, _ = evaluated
    rows = pq.read_table(out / "cases.parquet").to_pylist()
    for measure in ("preference_accuracy", "steering", "in_context_improvement.k1", "bits_per_byte.rejected"):
        of = [row for row in rows if row["measure"] == measure]
        weight = sum(row["weight"] for row in of)
        every: dict[str, Any] = {"model": evaluation.model, "base": evaluation.base, "length": evaluation.length}
        assert set(evaluation.baselines) == {"time", "likelihood"}
        for who, estimates in {**every, **evaluation.baselines}.items():
            estimate = estimates.get(measure)
            if estimate is None:
                assert all(row[who] is None for row in of)
                continue
            assert estimate.value == pytest.approx(sum(row[who] for row in of) / weight)
            assert (estimate.cases, estimate.conversations) == (len(of), len({row["conversation_id"] for row in of}))
            assert estimate.low <= estimate.value <= estimate.high
    assert evaluation.model["perplexity"].value != evaluation.base["perplexity"].value
    for name, found in {"length": evaluation.length, **evaluation.baselines}.items():
        minus: Any = evaluation.minus_baselines[name]["preference_accuracy"]
        ours: Any = evaluation.model["preference_accuracy"].value
        assert minus.value == pytest.approx(ours - found["preference_accuracy"].value)
        assert minus.low <= minus.value <= minus.high


@pytest.mark.slow
def test_plots_report_and_samples_are_written(evaluated: Evaluated) -> None:
    out, evaluation, _ = evaluated
    for name in PLOTS:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    report = (out / "report.html").read_text()
    assert f"{number(evaluation.model['steering'].value)} [" in report
    assert "raw_corpus: corpus" in report
    assert report.count('<img src="data:image/png;base64,') == len(PLOTS)
    samples = pq.read_table(out / "samples.parquet").to_pylist()
    assert len(samples) == 4 * SETTINGS.samples
    assert "<title>Evaluation of random-walk</title>" in report
    assert Counter(sample["writer"] for sample in samples) == dict.fromkeys(("model", "base model"), len(samples) // 2)
    of = {name for name in evaluation.metrics() if name.endswith("rejected.valid")}
    assert of == {"samples.rejected.valid", "base.samples.rejected.valid"}
    assert [sample["verdict"] for sample in samples[:2]] == ["rejected", "accepted"]
    assert samples[0]["prompt"] == samples[1]["prompt"]
    for sample in samples:
        assert sample["words"] == len(sample["continuation"].split())
        assert not any(marker in sample["continuation"] for marker in FORMATS["default"].strings())
        assert sample["valid"] == (sample["ended"] in ("accepted", "rejected", "length"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_the_validation_split_is_measured_for_promotion(
    model_folder: Path, base_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    shares = (20, 40, 40)
    # Beside it, that nothing which an evaluation writes has a name where the dataset has none.
    stages, out = run_stages(corpus, tmp_path / "stages", "top-2", shares, "pseudonyms"), tmp_path / "out"
    out.mkdir()
    settings = replace(SETTINGS, samples=2, contexts=0, validation_metric="preference_accuracy.within_hour")
    folders = (model_folder, base_folder, stages.dataset, stages.utterances, stages.ranked)
    job = EvaluationJob(*folders, "pseudonyms", "pseudonyms", exclude_repeated_roots=False)
    metrics = evaluate(job, out, settings).metrics()
    found = Evaluation.read(out / "validation")
    assert set(found.model) == set(found.minus_base) == {"preference_accuracy.within_hour"}
    rows = pq.read_table(out / "validation" / "cases.parquet").to_pylist()
    assert {split_of(row["conversation_id"], shares) for row in rows} == {"validation"}
    expected = sum(row["model"] for row in rows) / len(rows)
    assert found.model["preference_accuracy.within_hour"].value == pytest.approx(expected)
    assert metrics["validation.preference_accuracy.within_hour"] == pytest.approx(expected)
    assert metrics["validation.minus_base.preference_accuracy.within_hour.p"] is not None
    page = (out / "report.html").read_text()
    assert "validation, decides" in page
    names = {speaker for (speaker,) in read_utterances(stages.utterances, "speaker")} - {"", "[deleted]"}
    samples = pq.read_table(out / "samples.parquet").to_pylist()
    assert all("user1\n" in sample["prompt"] for sample in samples)
    written = str(samples) + "".join(path.read_text() for path in out.rglob("*") if path.suffix in (".html", ".json"))
    written = re.sub('base64,[^"]*', "", written)
    assert len(names) > 20
    assert not [name for name in names if re.search(rf"\b{re.escape(name)}\b", written)]


ROOM = 128


@pytest.fixture(scope="module")
def cut(
    model_folder: Path, base_folder: Path, stages: Stages, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Evaluation]:
    """An evaluation whose contexts have room for few tokens."""
    out = tmp_path_factory.mktemp("cut")
    settings = replace(SETTINGS, max_context_tokens=ROOM, samples=0)
    return out, evaluate(job_of(model_folder, base_folder, stages), out, settings)


@pytest.mark.slow
def test_no_case_counts_whose_context_had_no_room_for_what_it_is_about(
    cut: tuple[Path, Evaluation], model_folder: Path, cases: Cases
) -> None:
    room, (out, evaluation) = ROOM, cut
    counts = evaluation.counts
    tokenizer = MarkerTokenizer.load(model_folder)
    rows = pq.read_table(out / "cases.parquet").to_pylist()

    def size(*texts: str) -> int:
        """Count the tokens of texts; a marker ends each but the last."""
        return len(tokenizer.prefix_ids) + sum(len(ids) for ids in tokenizer.ids(list(texts))) + len(texts) - 1

    def fit(number: int, whole: bool) -> bool:
        background, turns, segment, *_ = cases.queries[number]
        # The background has half of what a reply leaves, or less where it is short.
        least = [background, *(text for text, _ in turns)] if whole else [turns[-1][0]]
        room_left = room - size(segment)
        return size(*least, "") <= (room_left if whole else room_left - min(room_left // 2, size(background, "")))

    for name, kind, whole in (
        ("steering", cases.steerings, False),
        ("in_context_improvement", of_all(cases.improvements), True),
        ("rejection_contrast", cases.contrasts, True),
    ):
        of = {row["case"] for row in rows if row["measure"] == name}
        queries = QUERY_FIELDS[type(kind)]
        assert of == {
            str(case)
            for index, case in enumerate(kind.case)
            if all(fit(int(getattr(kind, query)[index]), whole) for query in queries)
        }
        assert 0 < len(of) < len(kind.case)
        assert counts[f"{name}.left_out"] == len(kind.case) - len(of)


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_no_context_is_longer_than_the_model_was_trained_on(
    cut: tuple[Path, Evaluation], model_folder: Path, base_folder: Path, stages: Stages, tmp_path: Path
) -> None:
    """Nor for its base model, which answers the same questions."""
    model = tmp_path / "model"
    shutil.copytree(model_folder, model)
    (model / "training.json").write_text(json.dumps({"train": {"sequence_length": ROOM, "row_length": 4096}}))
    found = []
    for name, room in (("trained", 1024), ("less", 64)):
        (tmp_path / name).mkdir()
        settings = replace(SETTINGS, max_context_tokens=room, samples=0)
        found.append(evaluate(job_of(model, base_folder, stages), tmp_path / name, settings))
    trained, less = found
    assert trained == cut[1]
    assert trained.counts["context_tokens"] == ROOM
    assert less.counts["context_tokens"] == 64


@pytest.mark.slow
def test_siblings_are_compared_after_one_context(
    cut: tuple[Path, Evaluation], model_folder: Path, cases: Cases
) -> None:
    rows = pq.read_table(cut[0] / "cases.parquet").to_pylist()
    kept = {row["case"] for row in rows if row["measure"] == "preference_accuracy"}
    what = encoded(cases.queries, MarkerTokenizer.load(model_folder), ROOM)
    pairs = zip(cases.pairs.case, cases.pairs.better, cases.pairs.worse, strict=True)
    contexts = {str(case): (what.paths[better][:-1], what.paths[worse][:-1]) for case, better, worse in pairs}
    assert kept == {case for case, (one, other) in contexts.items() if one and other}
    assert all(one == other for one, other in (contexts[case] for case in kept))
    assert what.cut[cases.pairs.better].sum() > 10


@pytest.mark.slow
def test_a_second_run_takes_the_base_models_scores_from_the_cache_and_gives_the_same_bytes(
    evaluated: Evaluated, model_folder: Path, base_folder: Path, stages: Stages, cache: Path, tmp_path: Path
) -> None:
    """That a model's scores are the same in a second run without a cache, the comparison below shows."""
    out, _, seen = evaluated
    assert {label for label, *_ in seen} == {"model", "base model", "own replies", "replies of the controls"}
    (entry,) = cache.iterdir()
    scored: set[str] = set()
    job = job_of(model_folder, base_folder, stages, provenance=PROVENANCE, score_cache=cache)
    evaluate(job, tmp_path, SETTINGS, progress=lambda what, done, total: scored.add(what))
    assert scored == {"model", "own replies", "replies of the controls"}
    assert list(cache.iterdir()) == [entry]
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in names if (out / name).read_bytes() != (tmp_path / name).read_bytes()] == []


@pytest.mark.slow
def test_without_test_conversations_every_figure_has_no_cases(
    evaluated: Evaluated,
    corpus: Path,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    stages = run_stages(corpus, tmp_path / "stages", shares=(90, 10, 0))
    out = tmp_path / "out"
    out.mkdir()
    evaluation = evaluate(job_of(model_folder, model_folder, stages), out, SETTINGS)
    metrics = strictly_parsed(out / "metrics.json")
    # Where there is no pair, no baseline but length decides one, and it does not either.
    absent = tuple(f"{prefix}{name}." for name in BASELINES for prefix in ("", "minus_") if prefix or name != "length")
    assert metrics.keys() == {name for name in evaluated[1].metrics() if not name.startswith(absent)}
    assert {value for name, value in metrics.items() if name.endswith(".cases")} == {0}
    assert evaluation.model["preference_accuracy"].value is None
    assert "no cases" in (out / "report.html").read_text()
    assert pq.read_table(out / "samples.parquet").num_rows == 0
    assert pq.read_table(out / "cases.parquet").num_rows == 0
    compared = tmp_path / "compared"
    compared.mkdir()
    comparison = compare({"full": evaluated[0], "empty": out}, compared, COMPARED)
    assert comparison.differences == {("full", "empty"): {}}


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_a_comparison_pairs_the_cases_that_two_models_share(
    evaluated: Evaluated,
    model_folder: Path,
    base_folder: Path,
    stages: Stages,
    cache: Path,
    tmp_path: Path,
) -> None:
    """With model and base exchanged, the difference of the models is that of model and base."""
    first, evaluation, _ = evaluated
    swapped, out = tmp_path / "swapped", tmp_path / "out"
    swapped.mkdir()
    out.mkdir()
    cached = set(cache.iterdir())
    again = evaluate(job_of(base_folder, model_folder, stages, score_cache=cache), swapped, SETTINGS)
    assert cached < set(cache.iterdir()), "another base model has an entry of its own"
    for name, score in evaluation.model.items():
        if not name.startswith("policy_improvement"):
            assert again.base[name].value == score.value, f"{name} of the same model differs in a second run"
    comparison = compare({"first": first, "swapped": swapped}, out, COMPARED)
    # The base models have a table of their own, so that the page is not wider than a screen.
    assert max(row.count("<th") for row in (out / "report.html").read_text().split("<tr")) <= 8
    differences = comparison.differences["first", "swapped"]
    assert differences.keys() >= set(TESTED)
    for name, difference in differences.items():
        # The base model writes replies where it is the model.
        ours, theirs = evaluation.model[name], again.model[name]
        assert ours.value is not None
        assert theirs.value is not None
        assert difference.value == pytest.approx(ours.value - theirs.value)
        assert difference.cases == ours.cases
        if name in TESTED:
            assert evaluation.minus_base[name].value == pytest.approx(difference.value)
            assert evaluation.minus_base[name].p is not None
    metrics = strictly_parsed(out / "comparison.json")
    assert metrics == comparison.metrics()
    assert metrics["swapped.base.steering"] == evaluation.model["steering"].value
    assert "first_minus_swapped.steering.low" in metrics
    assert metrics["first_minus_swapped.steering.p_holm"] >= metrics["first_minus_swapped.steering.p"]
    report = (out / "report.html").read_text()
    assert "first minus swapped" in report
    assert OWN_WALKS not in report
    assert all((out / name).exists() for name in PLOTS)


def trained_by(settings: TrainingSettings, folder: Path, to: Path) -> Path:
    """Copy the model as if it had been trained with these settings."""
    shutil.copytree(folder, to)
    facts = arrangement_facts(settings)
    (to / "training.json").write_text(json.dumps(facts))
    return to


@pytest.fixture(scope="module")
def conditional(
    model_folder: Path, base_folder: Path, stages: Stages, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Evaluation, list[str]]:
    """An evaluation of a model that reads verdicts before turns, with its prompts; each of its samples ends."""
    folder = tmp_path_factory.mktemp("conditional")
    model, out = trained_by(TrainingSettings(objective="conditional"), model_folder, folder / "model"), folder / "out"
    out.mkdir()
    prompts: list[str] = []
    tokenizer = AutoTokenizer.from_pretrained(model)

    def noted(_: Any, asked: list[list[int]], *rest: Any) -> list[list[int]]:
        prompts.extend(tokenizer.batch_decode(asked))
        return [[*ids[:-1], tokenizer.eos_token_id] for ids in drawn(_, asked, *rest)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adc_pipeline.generation.decoding.continuations", noted)
        return out, evaluate(job_of(model, base_folder, stages), out, SETTINGS), prompts


@pytest.mark.slow
@pytest.mark.parametrize("way", ["conditional", "filtering", "stripped", "neutral"])
def test_a_measure_that_does_not_apply_is_excluded_with_the_reason(
    way: Any,
    evaluated: Evaluated,
    model_folder: Path,
    base_folder: Path,
    stages: Stages,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    compared = tmp_path / "both"
    compared.mkdir()
    if way == "conditional":
        out, evaluation, _ = request.getfixturevalue("conditional")
    else:
        ablated = way in ("stripped", "neutral")
        settings = TrainingSettings(markers=way) if ablated else TrainingSettings(objective=way)
        model, out = trained_by(settings, model_folder, tmp_path / "model"), tmp_path / "out"
        out.mkdir()
        evaluation = evaluate(job_of(model, base_folder, stages), out, SETTINGS)
    left = {name.split(".")[0] for who in (evaluation.model, evaluation.base, evaluation.length) for name in who}
    # A model that never read a rejected turn, or no marker, has no policy to improve.
    replies = {"policy_improvement"} if way in ("conditional", "neutral") else set()
    assert left == {"bits_per_byte", "perplexity", "in_context_improvement", "rejection_contrast", *replies}
    assert evaluation.model["in_context_improvement"].cases == evaluated[1].model["in_context_improvement"].cases
    assert not [name for name in evaluation.metrics() if "steering" in name or name.startswith("preference")]
    page = (out / "report.html").read_text()
    for measure in ("preference_accuracy", "verdict_calibration", "steering"):
        assert f"Excluded: {measure}, because" in page
    plots = {"headline.png", "in_context_improvement.png", "bits_per_byte.png", *(f"{name}.png" for name in replies)}
    assert {path.name for path in out.glob("*.png")} == plots
    verdicts = {sample["verdict"] for sample in pq.read_table(out / "samples.parquet").to_pylist()}
    assert verdicts == {"conditional": {"accepted", "rejected"}, "filtering": {"accepted"}}.get(way, set())
    differences = compare({"mle": evaluated[0], way: out}, compared, COMPARED).differences["mle", way]
    families = {name.split(".")[0] for name in differences}
    # A model that reads a turn's verdict before the turn knows more about it than one that does not.
    always = {"in_context_improvement", "rejection_contrast", *replies}
    assert families == (always if way == "conditional" else {*always, "bits_per_byte"})


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_the_preference_of_a_model_of_pairs_is_its_implicit_reward(
    model_folder: Path, base_folder: Path, stages: Stages, tmp_path: Path
) -> None:
    """Of a model of `dpo`: the pairs in which log P(reply) - log P_base(reply) is higher for the better one."""
    model, out = trained_by(TrainingSettings(objective="dpo"), model_folder, tmp_path / "model"), tmp_path / "out"
    out.mkdir()
    few = replace(SETTINGS, max_conversations=8, samples=0)
    evaluation = evaluate(job_of(model, base_folder, stages), out, few)
    assert not {"steering", "verdict_calibration.brier", "policy_improvement"} & evaluation.model.keys()
    facts, spill = TrainingFacts.read(model), tmp_path / "spill"
    cases = read_cases(stages.dataset, stages.utterances, stages.ranked, "default", "names", few, spill)
    scores = [
        Scorer.load(folder, within_training(few, facts)).score(
            cases.queries, np.ones(len(cases.queries), dtype=bool), arranged=facts.arrangement
        )
        for folder in (model, base_folder)
    ]
    reward = scores[0].log_probability - scores[1].log_probability
    fits = np.logical_and(*(each.fits for each in scores))
    kept = fits[cases.pairs.better] & fits[cases.pairs.worse]
    won = reward[cases.pairs.better] > reward[cases.pairs.worse]
    assert evaluation.model["preference_accuracy"].value == pytest.approx(won[kept].mean(), abs=0.01)
    assert 0 < won[kept].mean() < 1


@pytest.mark.slow
def test_a_model_that_reads_verdicts_before_turns_is_prompted_with_them(
    conditional: tuple[Path, Evaluation, list[str]], stages: Stages
) -> None:
    out, _, prompts = conditional
    texts = [walk["text"] for walk in read_walks(stages.dataset, "test")]
    assert len(prompts) == 4 * SETTINGS.samples
    assert prompts[: len(prompts) // 2] == prompts[len(prompts) // 2 :]
    for sample in pq.read_table(out / "samples.parquet").to_pylist():
        # Every walk ends with an accepted turn.
        assert sample["ended"] == "end"
        assert sample["valid"] == (sample["verdict"] == "accepted")
    for index, prompt in enumerate(prompts):
        background, _, turns = prompt.partition("<background>")
        before, first, turn, second, after = re.split("(<accepted>|<rejected>)", turns)
        assert (before, first, after) == ("", "<accepted>", "")
        assert second == ("<rejected>", "<accepted>")[index % 2]
        assert any(text.startswith(f"{background}<background>{turn}<") for text in texts)


def test_calibration_is_excluded_where_all_turns_have_one_verdict() -> None:
    """A model that always predicts that verdict would have a perfect Brier score."""
    facts = TrainingFacts()
    assert without_calibration(facts, np.array([True, False])) == facts
    assert without_calibration(facts, np.array([], dtype=bool)) == facts
    excluded = without_calibration(facts, np.array([True, True])).excluded
    assert excluded == {"verdict_calibration": "every turn of the test split is accepted"}


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_measures_over_walks_are_not_compared_between_datasets(
    evaluated: Evaluated, corpus: Path, model_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    stages, out = run_stages(corpus, tmp_path / "stages", kind="top-2"), tmp_path / "out"
    out.mkdir()
    evaluate(job_of(model_folder, base_folder, stages), out, SETTINGS)
    compared = tmp_path / "compared"
    compared.mkdir()
    differences = compare({"one": evaluated[0], "two": out}, compared, COMPARED).differences["one", "two"]
    assert {name.split(".")[0] for name in differences} == {
        "preference_accuracy",
        "steering",
        "policy_improvement",
        "rejection_contrast",
    }
    # The same model, whose queries share their rows with others.
    assert max(abs(difference.value or 0.0) for difference in differences.values()) < 1e-6
    assert OWN_WALKS in (compared / "report.html").read_text()


def test_too_little_memory_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Scorer, "load", fails)
    job = EvaluationJob(tmp_path, tmp_path, tmp_path, tmp_path, tmp_path)
    with pytest.raises(PipelineError, match="evaluation ran out of memory; lower `row_tokens` 2048, then `max_context"):
        evaluate(job, tmp_path)
