"""The judge learns from training conversations alone, and its accuracy on test conversations decides what it may."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.judging.judge import Judge, Kind, make_judge, words
from adc_pipeline.evaluation.judging.pairs import Pairs
from adc_pipeline.evaluation.settings import JudgeSettings
from adc_pipeline.walks.splits import Shares, split_of
from adc_pipeline_tests.evaluation.conftest import Stages, run_stages

SHARES: Shares = (60, 20, 20)
SETTINGS = JudgeSettings(draws=200, max_pairs=400)


def made(stages: Stages, sample: bool = False) -> Judge:
    spill = stages.dataset / "spill"
    return make_judge(sample, stages.utterances, stages.ranked, SHARES, "default", SETTINGS, spill)


@pytest.fixture(scope="module")
def split_stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    corpus = tmp_path_factory.mktemp("corpus")
    write_sample(corpus, conversations=150)
    return run_stages(corpus, tmp_path_factory.mktemp("stages"), shares=SHARES)


@pytest.mark.slow
def test_a_judge_of_words_never_sees_the_test_conversations(split_stages: Stages, tmp_path: Path) -> None:
    """With other texts in them, only its accuracy on them changes."""
    first = made(split_stages)
    assert first.kind == "words"
    assert first.accuracy.value is not None
    assert first.accuracy.value > 0.6
    assert first.objection() == ""
    (file,) = split_stages.utterances.glob("**/utterances-*.parquet")
    table = pq.read_table(file, partitioning=None)
    test = [split_of(each, SHARES) == "test" for each in table["conversation_id"].to_pylist()]
    assert 0 < sum(test) < len(test)
    texts = ["lol" if is_test else text for is_test, text in zip(test, table["text"].to_pylist(), strict=True)]
    place = table.column_names.index("text")
    pq.write_table(table.set_column(place, "text", pa.array(texts, table.schema.field("text").type)), file)
    second = made(split_stages)
    assert np.array_equal(first.weights, second.weights)  # type: ignore[arg-type]
    assert first.facts == second.facts
    assert second.accuracy.value == 0.5
    assert "0.5000, below 0.60" in second.objection()
    for judge, name in ((first, "first"), (second, "second")):
        (tmp_path / name).mkdir()
        judge.write(tmp_path / name)
    read = Judge.read(tmp_path / "first")
    replies = ["lol", "The fuse blows, so the kettle drips. Swap it with soap.", " "]
    assert read.scores(replies)[0].tolist() == first.scores(replies)[0].tolist()
    assert read.digest != Judge.read(tmp_path / "second").digest


@pytest.mark.parametrize(
    ("kind", "conversations", "said"),
    [
        ("words", 1, "was tested on 1 of the test split's conversations, and 20 are needed"),
        ("words", 20, ""),
        ("templates", 1, ""),
    ],
)
def test_a_judge_that_was_hardly_tested_decides_nothing(kind: Kind, conversations: int, said: str) -> None:
    accuracy = Estimate(1.0, None, None, 1, conversations)
    judge = Judge(kind, accuracy, None, 0.0, 4.0, SHARES, {})
    assert judge.objection().endswith(said)
    assert bool(judge.objection()) == bool(said)


@pytest.mark.slow
def test_the_sample_is_judged_by_its_templates(stages: Stages) -> None:
    judge = make_judge(
        True, stages.utterances, stages.ranked, stages.shares, "default", SETTINGS, stages.dataset / "spill"
    )
    scores, judged = judge.scores(["lol", "The fuse blows, so the kettle drips. Swap it with soap.", "kettle kettle"])
    assert scores.tolist() == [0, 4, 0]
    assert judged.tolist() == [True, True, False]
    assert judge.accuracy.value is not None
    assert judge.accuracy.value > 0.7


@pytest.mark.slow
def test_penalty_and_word_pairs_are_chosen_on_the_validation_pairs() -> None:
    """Only the order of two words tells what is better there."""
    better, worse = ["not bad at all", "fine , not poor"], ["bad not at all", "fine , poor not"]
    train = Pairs(["a", "b"] * 4, better * 4, worse * 4)
    judge = words(train, Pairs(["c"], ["not bad"], ["bad not"]), SHARES)
    assert judge.facts["ngrams"] == 2
    assert judge.validation_accuracy == 1
    # The committed cells of `evidence/rejections` have a judge whose file is in this order.
    assert [*judge.facts] == ["ngrams", "strength", "mean", "deviation", "pairs"]
    # What cannot be judged is as bad as the worst.
    assert judge.scores(["not bad", "bad not", ""])[0].tolist() == [1, -1, -1]


def test_without_pairs_a_judge_decides_nothing() -> None:
    none = Pairs([], [], [])
    judge = words(none, none, SHARES)
    assert judge.scores(["a reply"])[0].tolist() == [0]
    assert "no two siblings" in judge.objection()
    assert judge.accuracy == Estimate(None, None, None, 0, 0)
