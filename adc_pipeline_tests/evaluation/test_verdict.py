"""The verdict of a comparison: who is better in what, by how much, and what is undecided."""

from adc_pipeline.evaluation.comparison import Comparison
from adc_pipeline.evaluation.headlines import FIRST
from adc_pipeline.evaluation.intervals.estimate import Difference
from adc_pipeline.evaluation.presentation.verdict import headline_names, verdict

PAIR = ("top-2", "random-walk")


def compared(**values: tuple[float, float, float, float]) -> Comparison:
    """Return a comparison with differences (value, low, high, p) by measure."""
    found = {
        name: Difference(value, low, high, cases=100, conversations=50, p=p)
        for name, (value, low, high, p) in values.items()
    }
    return Comparison({}, {PAIR: found})


def test_each_model_is_told_what_it_is_better_in() -> None:
    sentences = verdict(compared(preference_accuracy=(0.25, 0.2, 0.3, 0.001), steering=(-0.1, -0.2, -0.05, 0.001)))
    assert sentences == [
        "The model of top-2 is better than that of random-walk in preference accuracy by"
        " 0.2500 [0.2000,\xa00.3000] (corrected p 0.002).",
        "The model of random-walk is better than that of top-2 in steering by"
        " 0.1000 [0.05000,\xa00.2000] (corrected p 0.002).",
    ]


def test_less_in_context_improvement_is_better() -> None:
    (sentence,) = verdict(compared(in_context_improvement=(-0.02, -0.03, -0.01, 0.001)))
    assert sentence.startswith(
        "The model of top-2 is better than that of random-walk in in-context improvement by 0.02"
    )


def test_a_difference_that_may_be_chance_is_none() -> None:
    # Each p alone is below 0.05; corrected for two tests, the larger is not.
    sentences = verdict(compared(preference_accuracy=(0.1, 0.01, 0.2, 0.03), steering=(0.1, 0.01, 0.2, 0.04)))
    assert sentences == [
        "No difference between top-2 and random-walk is shown in preference accuracy"
        " (+0.1000 [+0.01000,\xa0+0.2000], corrected p 0.060) and steering"
        " (+0.1000 [+0.01000,\xa0+0.2000], corrected p 0.060)."
    ]


def test_a_difference_without_an_interval_has_the_reason() -> None:
    found = {"steering": Difference(-0.5, None, None, 40, 40, 0.001, refused="40 conversations alike")}
    (sentence,) = verdict(Comparison({}, {PAIR: found}))
    assert sentence.endswith("top-2 in steering by 0.5000 (40 conversations alike) (corrected p 0.001).")


def test_without_shared_cases_there_is_no_verdict() -> None:
    (sentence,) = verdict(compared())
    assert "share no case" in sentence


def test_the_headline_figures_are_those_of_the_verdict() -> None:
    names = headline_names(compared(steering=(0.1, 0.0, 0.2, 0.04)))
    assert names == ["top-2_minus_random-walk.steering", "top-2_minus_random-walk.steering.p_holm"]
    assert set(FIRST) == {"preference_accuracy", "steering", "in_context_improvement", "policy_improvement"}
