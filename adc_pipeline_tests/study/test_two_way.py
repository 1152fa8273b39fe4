"""Two-way inference on simulated cells, whose truth is known: coverage, false positives, and a bootstrap as oracle."""

import numpy as np
import pytest

from adc_pipeline.evaluation.intervals.student import Part, half_width
from adc_pipeline.study.two_way import FEWEST, Crossed

CONVERSATIONS = 40
# The standard deviations between seeds, between conversations, and of a seed on a conversation.
NOISE = {
    "conversations only": (0.0, 1.0, 0.0),
    "seeds only": (1.0, 0.0, 0.0),
    "neither": (0.0, 0.0, 1.0),
    "much like published bits per byte": (0.05, 1.0, 0.1),
    "all": (0.3, 1.0, 1.0),
}


def simulated(
    rng: np.random.Generator, seeds: int, noise: tuple[float, float, float], weights: np.ndarray | None = None
) -> Crossed:
    """Simulate cells whose true ratio is 1; `weights` are the conversations' (default: equal)."""
    of_seeds, of_conversations, of_both = noise
    weights = np.ones(CONVERSATIONS) if weights is None else weights
    values = 1 + of_seeds * rng.normal(size=(seeds, 1)) + of_conversations * rng.normal(size=CONVERSATIONS)
    values = values + of_both * rng.normal(size=(seeds, CONVERSATIONS))
    every = np.tile(weights, (seeds, 1))
    return Crossed(values * every, every, CONVERSATIONS)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_intervals_cover_the_truth_at_two_three_and_five_seeds(seeds: int, noise: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seeds)
    weights = rng.uniform(0.5, 2, size=CONVERSATIONS)
    found = [simulated(rng, seeds, noise, weights).estimate() for _ in range(400)]
    covered = sum(each.low <= 1 <= each.high for each in found) / len(found)  # type: ignore[operator]
    # Wider than needed where two seeds vary little, and never much too narrow.
    assert covered >= 0.92


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_two_arms_of_one_kind_differ_no_more_often_than_the_level(seeds: int) -> None:
    """The A/A comparison: of arms that are alike but for their seeds, a test over conversations alone finds most to
    differ.
    """
    rng = np.random.default_rng(seeds)
    noise = (0.05, 0.0, 0.1)  # what conversations share cancels in a paired difference
    trials, two_way, over_conversations = 300, 0, 0
    for _ in range(trials):
        first, second = (simulated(rng, seeds, noise) for _ in range(2))
        apart = Crossed(first.values - second.values, first.weights, CONVERSATIONS)
        p = apart.estimate().p
        assert p is not None
        two_way += p < 0.05
        means = apart.values.mean(axis=0)
        over_conversations += abs(means.mean()) > 1.96 * means.std(ddof=1) / CONVERSATIONS**0.5
    assert two_way / trials <= 0.08
    assert over_conversations / trials > 0.5


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("conversations", [FEWEST, 8])
def test_outcomes_that_hardly_vary_get_no_interval_that_is_much_too_narrow(seeds: int, conversations: int) -> None:
    """A preference that is nearly the same in all cases of a conversation and from every seed; the truth is 0."""
    rng = np.random.default_rng(seeds)
    covered = []
    for _ in range(400):
        cases = rng.integers(1, 4, size=conversations)
        prefers = np.where(rng.normal(size=conversations) > 0, 0.5, -0.5)
        wrong = np.array([[rng.binomial(each, 0.05) for each in cases] for _ in range(seeds)])
        found = Crossed(prefers * (cases - 2 * wrong), np.tile(1.0 * cases, (seeds, 1)), cases.sum()).estimate()
        if found.low is not None and found.high is not None:
            covered.append(found.low <= 0 <= found.high)
    assert len(covered) > 350
    assert np.mean(covered) >= 0.87


def test_an_interval_is_never_narrower_than_that_over_conversations_alone() -> None:
    """Where seeds and conversations vary alike by chance, nothing is left of the part of the conversations."""
    values = np.array([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0, 1.0, -1.0], [0.1] * 6])
    made = Crossed(values, np.ones_like(values), 6)
    alone = values.mean(axis=0)
    narrow = half_width([Part(float(alone.var(ddof=1) / len(alone)), len(alone) - 1)])
    assert half_width(made.parts()) < narrow
    found = made.estimate()
    assert found.high is not None
    assert found.value is not None
    assert found.high - found.value == pytest.approx(narrow)
    assert made.p_value(narrow) == pytest.approx(0.05, rel=1e-3)


def test_with_many_clusters_the_variance_is_that_of_a_crossed_bootstrap() -> None:
    """Owen's pigeonhole bootstrap counts the part of both three times, which is little where clusters are many."""
    rng = np.random.default_rng(0)
    made = simulated(rng, 60, (1.0, 1.5, 0.5), rng.uniform(0.5, 2, size=CONVERSATIONS))
    ratios = []
    for _ in range(2000):
        seeds, conversations = (np.bincount(rng.integers(n, size=n), minlength=n) for n in (60, CONVERSATIONS))
        ratios.append((seeds @ made.values @ conversations) / (seeds @ made.weights @ conversations))
    found = made.estimate()
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(np.diff(np.percentile(ratios, [2.5, 97.5]))[0], rel=0.1)
    assert sum(part.variance for part in made.parts()) ** 0.5 == pytest.approx(np.std(ratios), rel=0.1)


def test_the_interval_and_its_test_agree() -> None:
    made = simulated(np.random.default_rng(1), 3, NOISE["all"])
    found = made.estimate()
    for null, inside in ((found.low, 0.001), (found.high, -0.001)):
        assert null is not None
        assert made.estimate(null=null).p == pytest.approx(0.05, rel=1e-3)
        p = made.estimate(null=null + inside).p
        assert p is not None
        assert p > 0.05


def test_one_seed_and_few_conversations_are_refused_with_the_reason() -> None:
    made = simulated(np.random.default_rng(1), 3, NOISE["all"])
    for part, refused in (
        ((slice(1), slice(None)), "one seed"),
        ((slice(None), slice(1)), "one conversation"),
        ((slice(None), slice(FEWEST - 1)), "5 conversations"),
    ):
        found = Crossed(made.values[part], made.weights[part], 1).estimate()
        assert (found.low, found.high, found.p, found.refused) == (None, None, None, refused)
        assert found.value == pytest.approx(made.values[part].sum() / made.weights[part].sum())


def test_cells_that_are_all_alike_are_refused_an_interval() -> None:
    """Replies that no judge can parse all have the same score: that shows no absence of an effect."""
    found = Crossed(np.full((3, 9), 0.1), np.ones((3, 9)), 9).estimate()
    assert (found.low, found.p, found.refused) == (None, None, "seeds and conversations that are all alike")
    assert found.value == pytest.approx(0.1)


def test_rows_are_summed_by_seed_and_conversation_and_missing_cells_have_no_weight() -> None:
    made = Crossed.of([7, 7, 9], [4, 2, 4], np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 4.0]), 2)
    assert made.values.tolist() == [[2.0, 1.0], [0.0, 3.0]]
    assert made.weights.tolist() == [[2.0, 2.0], [0.0, 4.0]]
    assert made.by_seed.tolist() == [0.75, 0.75]
