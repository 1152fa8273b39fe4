"""The names of all measures that an evaluation's table of cases can have, taken from the functions that make them."""

from functools import cache
from typing import Any

import numpy as np

from adc_pipeline.evaluation.cases.case_sets import Contrasts, Improvements, Pairs, Steerings, Turns, table
from adc_pipeline.evaluation.measures import CaseSets, all_measures
from adc_pipeline.evaluation.replies import policy
from adc_pipeline.evaluation.scoring.likelihoods import Scores


@cache
def measure_names(rejections: int) -> tuple[str, ...]:
    """Return the measures of `all_measures` and, for up to `rejections` rejected replies, of policy improvement."""
    floats, ints, bools = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    kinds: Any = (Pairs, Steerings, Turns, Improvements, Contrasts)
    sets = CaseSets(*(table(kind, iter(())) for kind in kinds))
    replies = policy.Judged([], floats, bools)
    measured = [
        *all_measures(sets, Scores(floats, ints, floats, bools, bools, ints)),
        *policy.measured(replies, [], rejections, instruct=True),
        *policy.described(replies, []),
    ]
    return tuple(each.name for each in measured)
