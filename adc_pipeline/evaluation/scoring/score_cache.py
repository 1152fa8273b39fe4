"""Cache what a base model, a reward model or an instruct model answers, which many evaluations ask the same.

A key is a hash of all that the scores depend on: the code, the model's files, the longest context and the queries. An
entry is written under another name and renamed.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.evaluation.scoring.likelihoods import Scores

Values = TypeVar("Values", bound=NDArray[Any])


def cached_scores(folder: Path | None, question: object, compute: Callable[[], Scores]) -> Scores:
    """Return the scores stored in `folder` for `question`, or compute and store them; without a folder, compute them.

    The `repr` of `question` has to tell apart what has different scores.
    """
    return Scores(**cached(folder, question, lambda: vars(compute())))


def cached_values(folder: Path | None, question: object, compute: Callable[[], Values]) -> Values:
    """Return an array of numbers or texts that `folder` has for `question`, or compute and store it."""
    values: Values = cached(folder, question, lambda: {"values": compute()})["values"]
    return values


def cached(folder: Path | None, question: object, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the named arrays stored in `folder` for `question`, or compute and store them."""
    if folder is None:
        return dict(compute())
    path = folder / f"{hashlib.sha256(repr(question).encode()).hexdigest()}.npz"
    if path.exists():
        with np.load(path) as stored:
            return dict(stored)
    found = dict(compute())
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        np.savez(partial, **found)
    return found
