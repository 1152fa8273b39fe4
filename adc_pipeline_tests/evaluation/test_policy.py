"""Policy improvement: who is given whose history, what does not change a reply, and what the measures are."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adc_pipeline.evaluation.cases.cases import Cases
from adc_pipeline.evaluation.cases.contexts import Context
from adc_pipeline.evaluation.replies.policy import Judged, described, measured
from adc_pipeline.evaluation.replies.reply_writer import Reply, Trained, Writer, partners, uniform_numbers
from adc_pipeline.evaluation.scoring.likelihoods import Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.texts.arrangement import Arrangement

MOST = 2


def context(conversation: int, depth: int = 0, siblings: tuple[str, ...] = ()) -> Context:
    turns = tuple((f"turn {place}", "accepted") for place in range(depth))
    return Context(conversation, f"post{conversation}", f"background {conversation}", turns, siblings)  # type: ignore[arg-type]


def test_no_context_is_yoked_to_itself_and_each_history_is_used_once() -> None:
    depths = [0, 3, 1, 1, 0, 2]
    contexts = [context(number, depth) for number, depth in enumerate(depths)]
    found = partners(contexts)
    assert found is not None
    assert all(contexts[index].conversation != contexts[other].conversation for index, other in enumerate(found))
    assert sorted(found) == [*range(len(contexts))]
    # Of about the same depth, but for the one that closes the circle.
    assert sorted(abs(depths[index] - depths[other]) for index, other in enumerate(found)) == [0, 0, 1, 1, 1, 3]
    assert partners(contexts[:1]) is None


@pytest.mark.slow
def test_contexts_lie_on_the_accepted_path_of_different_conversations(cases: Cases) -> None:
    assert len({each.conversation for each in cases.contexts}) == len(cases.contexts) == len(cases.conversations)
    walks = {query.background: query for query in cases.queries}
    for each in cases.contexts:
        assert each.background in walks
        assert all(verdict == "accepted" for _, verdict in each.turns)
    assert sum(bool(each.siblings) for each in cases.contexts) > len(cases.contexts) / 2
    assert len({len(each.turns) for each in cases.contexts}) > 1


def test_random_numbers_depend_on_seed_context_and_rejections_only() -> None:
    first = uniform_numbers(0, "t1:t1", 1, 5)
    assert np.array_equal(first, uniform_numbers(0, "t1:t1", 1, 9)[:5])
    others = [uniform_numbers(*key, 5) for key in ((1, "t1:t1", 1), (0, "t2:t1", 1), (0, "t1:t1", 2))]
    assert not any(np.array_equal(first, other) for other in others)
    assert ((first >= 0) & (first < 1)).all()
    # The same with every version of numpy.
    assert first[0] == pytest.approx(0.05712337024265013, abs=1e-15)


@pytest.mark.slow
def test_a_reply_depends_neither_on_the_batch_nor_on_the_order(cases: Cases, model_folder: Path) -> None:
    scorer = Scorer.load(model_folder, EvaluationSettings())
    contexts = cases.contexts[:5]

    def written(order: list[int], rows: int) -> dict[tuple[str, str, int], str]:
        writer = Writer(Trained(scorer, Arrangement(), True), Sampling(0.8, 1.0, 5), 0, rows)
        asked = [contexts[index] for index in order]
        names = [str(each.conversation) for each in asked]
        return {(names[each.context], each.series, each.k): each.turn for each in writer.write(asked, names, MOST)}

    together = written([*range(5)], 0)
    assert together == written([*range(5)], 2) == written([4, 2, 0, 1, 3], 3)
    series = Counter((series, k) for _, series, k in together)
    assert {key: count for key, count in series.items() if key[0] != "real"} == {
        ("own", 0): 5,
        **{(name, k): 5 for name in ("own", "yoked", "independent") for k in (1, 2)},
    }
    assert series["real", 1] == sum(len(each.siblings) >= 1 for each in contexts)
    assert series["real", 2] == sum(len(each.siblings) >= 2 for each in contexts)
    assert len(set(together.values())) > len(together) / 2


def judged(scores: dict[tuple[int, str, int], tuple[str, float]]) -> Judged:
    replies = [Reply(index, series, k, text, text) for (index, series, k), (text, _) in scores.items()]
    values = [score for _, score in scores.values()]
    return Judged(replies, np.array(values), np.array([score > 0 for score in values]))


def test_measures_are_differences_of_the_same_context() -> None:
    contexts = [context(0, siblings=("a", "b")), context(3)]
    found = judged(
        {
            (0, "own", 0): ("one two three four", 1.0),
            (0, "own", 1): ("one two three four", 2.0),
            (0, "own", 2): ("two three four five", 4.0),
            (1, "own", 0): ("a b c", 0.0),
            (1, "own", 1): ("x y z", 1.0),
            (1, "own", 2): ("a b", 1.0),
            **{(index, "yoked", k): ("y", 3.0) for index in (0, 1) for k in (1, 2)},
            **{(index, "independent", k): ("i", 3.0 - 2 * k) for index in (0, 1) for k in (1, 2)},
            (0, "real", 1): ("r", 2.0),
            (0, "real", 2): ("r", 3.0),
        }
    )
    of = {each.name.removeprefix("policy_improvement"): each for each in measured(found, contexts, MOST)}
    values = {name: each.value.tolist() for name, each in of.items()}
    assert values == {
        "": [3, 1],
        ".minus_yoked": [1, -2],
        ".minus_independent": [5, 2],
        ".minus_best_of": [3, 0],
        ".minus_real": [1],
        ".minus_yoked.k1": [-1, -2],
        ".minus_yoked.k2": [1, -2],
        ".first_step": [1, 1],
        ".k0": [1, 0],
        ".k1": [2, 1],
        ".k2": [4, 1],
        ".yoked.k1": [3, 3],
        ".yoked.k2": [3, 3],
        ".independent.k1": [1, 1],
        ".independent.k2": [-1, -1],
        ".best_of.k1": [1, 1],
        ".best_of.k2": [1, 1],
        ".real.k1": [2],
        ".real.k2": [3],
    }
    assert of[""].conversation.tolist() == [0, 3]
    assert of[""].case.tolist() == ["post0/2", "post3/2"]
    shares = {each.name.rpartition(".")[2]: each for each in described(found, contexts)}
    assert shares["differs"].value.tolist() == [0, 1, 1, 1]
    # Of `two three four five`, one of two 3-grams is new; `a b` has none.
    assert shares["novelty"].value.tolist() == [0, 0.5, 1, 0]
    assert shares["parses"].value.tolist() == [1, 1, 1, 0, 1, 1]
