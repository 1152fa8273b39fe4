"""Cache the scores of a base model, and of a reward model, which many evaluations ask the same questions.

A key is a hash of all that the scores depend on: the code, the model's files, the longest context and the queries. An
entry is written under another name and renamed.
"""

import hashlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.evaluation.bootstrap import Floats
from adc_pipeline.evaluation.scoring import Scores


def cached_scores(folder: Path | None, question: object, compute: Callable[[], Scores]) -> Scores:
    """Return the scores stored in `folder` for `question`, or compute and store them; without a folder, compute them.

    The `repr` of `question` has to tell apart what has different scores.
    """
    if folder is None:
        return compute()
    path = folder / f"{hashlib.sha256(repr(question).encode()).hexdigest()}.npz"
    if path.exists():
        with np.load(path) as stored:
            return Scores(**stored)
    scores = compute()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        np.savez(partial, **{each.name: getattr(scores, each.name) for each in fields(scores)})
    return scores


def cached_values(folder: Path | None, question: object, compute: Callable[[], Floats]) -> Floats:
    """Return an array stored in `folder` for `question`, or compute and store it, as `cached_scores` does."""
    if folder is None:
        return compute()
    path = folder / f"{hashlib.sha256(repr(question).encode()).hexdigest()}.npy"
    if path.exists():
        stored: Floats = np.load(path)
        return stored
    values = compute()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial, open(partial, "wb") as file:
        np.save(file, values)
    return values
