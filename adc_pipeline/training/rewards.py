"""Rewards and advantages of turns, from their scores.

Scores of a forum are heavy-tailed: a few thousand where most are one to ten. Their logarithm separates 1 from 10 as it
does 100 from 1,000, and one popular thread does not outweigh all others.
"""

import numpy as np

from adc_pipeline.training.dataset import TokenizedSplit


def rewards(split: TokenizedSplit) -> np.ndarray:
    """Return sign(score) * log(1 + |score|), standardised over all turns of the split; float64 (turns,).

    Mean 0 and standard deviation 1, so that `beta` means the same for every corpus; all 0 if all scores are the same.
    """
    score = np.asarray(split.score, dtype=np.float64)
    reward = np.sign(score) * np.log1p(np.abs(score))
    if not len(reward) or reward.min() == reward.max():
        return np.zeros_like(reward)
    standardised: np.ndarray = (reward - reward.mean()) / reward.std()
    return standardised


def advantages(split: TokenizedSplit) -> np.ndarray:
    """Return the reward minus the mean reward of the turn's siblings in its walk; float64 (turns,).

    After a rejected turn a walk continues with a sibling of it, after an accepted turn with a reply to it. Siblings are
    therefore a run of rejected turns and the turn that ends it. A turn is not its own sibling. Without siblings the
    baseline is the split's mean reward, which is 0.
    """
    reward = rewards(split)
    # A turn starts a group of siblings if it starts a walk or follows an accepted turn.
    begins = np.ones(len(reward), dtype=bool)
    begins[1:] = split.accepted[:-1]
    begins[split.turn_start[:-1]] = True
    group = np.cumsum(begins) - 1
    size = np.bincount(group, minlength=1)[group]
    total = np.bincount(group, weights=reward, minlength=1)[group]
    baseline = np.where(size > 1, (total - reward) / np.maximum(size - 1, 1), 0.0)
    found: np.ndarray = reward - baseline
    return found
