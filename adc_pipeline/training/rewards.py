"""Rewards and advantages of turns, from their scores.

Scores of a forum are heavy-tailed: a few thousand where most have one to ten. Their logarithm tells 1
from 10 as it does 100 from 1,000, and one popular thread does not outweigh all others.
"""

import numpy as np

from adc_pipeline.training.dataset import TokenizedSplit


def rewards(split: TokenizedSplit) -> np.ndarray:
    """sign(score) * log(1 + |score|), standardised over all turns of the split; float64 of (turns,).

    Mean 0 and standard deviation 1, so that `beta` means the same for every corpus. All 0 where all scores
    are the same.
    """
    score = np.asarray(split.score, dtype=np.float64)
    reward = np.sign(score) * np.log1p(np.abs(score))
    if not len(reward) or reward.min() == reward.max():
        return np.zeros_like(reward)
    standardised: np.ndarray = (reward - reward.mean()) / reward.std()
    return standardised


def advantages(split: TokenizedSplit) -> np.ndarray:
    """The reward minus the mean reward of the turn's siblings in its walk; float64 of (turns,).

    After a rejected turn a walk goes on with a sibling of it, after an accepted one with a reply to it, so
    that siblings are a run of rejected turns and the turn that ends it. A turn is not its own sibling. Where
    the walk shows none, the baseline is the split's mean reward, which is 0.
    """
    reward = rewards(split)
    # A turn begins a group if it begins a walk or comes after an accepted turn.
    begins = np.ones(len(reward), dtype=bool)
    begins[1:] = split.accepted[:-1]
    begins[split.turn_start[:-1]] = True
    group = np.cumsum(begins) - 1
    size = np.bincount(group, minlength=1)[group]
    total = np.bincount(group, weights=reward, minlength=1)[group]
    baseline = np.where(size > 1, (total - reward) / np.maximum(size - 1, 1), 0.0)
    found: np.ndarray = reward - baseline
    return found
