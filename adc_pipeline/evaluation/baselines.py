"""Baselines of preference accuracy: what tells which of two siblings people preferred, without reading a verdict.

A model shows something only beyond what is known without it. Each baseline gives every reply a value, and the measure
is computed from these values over the same pairs as from the model's:

| name | value of a reply |
| --- | --- |
| `length` | bytes of the text |
| `time` | minus the time at which it was written: earlier replies are seen by more people |
| `speaker` | mean score of its speaker's replies in the training split; of everybody's for a speaker who is not there |
| `likelihood` | log-probability per byte that the model itself gives to the reply, without any verdict |
| `words` | bag-of-words logistic regression, trained on sibling pairs of the training split (`judge`) |
| `reward` | a sequence-classification model, if the setting `reward_model` of the judge names one (`reward`) |

A baseline that decides no pair, such as time where no reply has one, is excluded. So is a base model whose markers have
equal embeddings: it gives both verdicts the same probability whatever it has read, and its 0.5 is no finding.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from adc_pipeline.evaluation.arrays import Floats, Ints
from adc_pipeline.evaluation.cases.case_sets import Pairs
from adc_pipeline.evaluation.cases.cases import Cases
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.measures import Measured, family, preference_accuracy
from adc_pipeline.evaluation.scoring.likelihoods import Query, Scores

# By name, as metrics begin with it, and as reports call it.
BASELINES = {
    "length": "length",
    "time": "time",
    "speaker": "speaker's score",
    "likelihood": "log P per byte",
    "words": "bag of words",
    "reward": "reward model",
}
# The readings in which the model is tested against each baseline, as reports call them.
TESTED_READINGS = {
    "preference_accuracy": "all pairs",
    "preference_accuracy.within_hour": "within an hour",
    "preference_accuracy.time_matched": "within an hour, matched on time",
    "preference_accuracy.speaker_free": "speakers without a different record",
}
# What a model scores whose markers have equal embeddings.
TIES = {"preference_accuracy": 0.5, "steering": 0.5, "verdict_calibration": 0.25}

# Returns a value for each query, given the texts of their replies.
TextScorer = Callable[[Sequence[Query], Sequence[str]], Floats]


def baseline_series(
    cases: Cases, pairs: Pairs, model: Scores, text_scorers: Mapping[str, TextScorer]
) -> dict[str, list[Measured]]:
    """Return preference accuracy of every baseline that decides a pair of `pairs`, in the order of `BASELINES`.

    `text_scorers` are those of `words` and `reward`, as far as there are some. `model` has to have the log-probability
    of the pairs' replies.
    """
    values: dict[str, tuple[Floats | Ints, Floats | Ints]] = {
        "length": (pairs.better_bytes, pairs.worse_bytes),
        "time": (-pairs.better_time, -pairs.worse_time),
        "speaker": (pairs.better_speaker, pairs.worse_speaker),
    }
    asked = np.unique(np.concatenate([pairs.better, pairs.worse]))
    queries = [cases.queries[number] for number in asked]
    per_byte = np.zeros(len(cases.queries))
    sizes = np.array([max(1, len(query.segment.encode())) for query in queries], dtype=np.float64)
    per_byte[asked] = model.log_probability[asked] / sizes
    values["likelihood"] = (per_byte[pairs.better], per_byte[pairs.worse])
    texts = reply_texts(queries, asked, pairs)
    for name, scorer in text_scorers.items():
        found = np.zeros(len(cases.queries))
        found[asked] = scorer(queries, texts) if len(asked) else []
        values[name] = (found[pairs.better], found[pairs.worse])
    series = {name: preference_accuracy(pairs, *values[name]) for name in BASELINES if name in values}
    return {name: measured for name, measured in series.items() if decides(measured[0])}


def decides(measured: Measured) -> bool:
    """Return whether a series of preference accuracy, which has the value ½ where two siblings tie, decides a case."""
    return bool((measured.value != 0.5).any())


def reply_texts(queries: Sequence[Query], asked: Ints, pairs: Pairs) -> list[str]:
    """Return the replies' texts without the speaker's line, which is the rest of a segment before its last bytes."""
    sizes = dict(zip(pairs.better.tolist(), pairs.better_bytes.tolist(), strict=True))
    sizes |= dict(zip(pairs.worse.tolist(), pairs.worse_bytes.tolist(), strict=True))
    segments = [query.segment.encode() for query in queries]
    return [
        segment[len(segment) - sizes[number] :].decode()
        for segment, number in zip(segments, asked.tolist(), strict=True)
    ]


def informative(base: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Return the estimates of a base model without those of verdicts that it cannot tell apart.

    A measure that is exactly what equal markers give, without any spread between conversations, is no finding.
    """
    return {name: each for name, each in base.items() if not is_tie(name, each)}


def is_tie(measure: str, estimate: Estimate) -> bool:
    tie = TIES.get(family(measure))
    limits = {estimate.value, estimate.low, estimate.high} - {None}
    return tie is not None and limits == {tie}
