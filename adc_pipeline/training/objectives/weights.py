"""Objectives: what a model learns from a walk, and how much each token counts.

Every objective is a weighted mean of the losses of tokens,

    loss = sum_i weight_i * loss_i / sum_i weight_i,

over all predicted tokens i of a step, whatever rows, forward passes and processes they fall into: how a step is divided
does not change what it learns. Names as in Korbak et al. 2023, Pretraining Language Models with Human Preferences
(https://arxiv.org/abs/2302.08582).

`rwr`, `awr` and `a-lol` divide by the number of predicted tokens instead, as the paper's code does
(`apo/objectives.py` of https://github.com/tomekkorbak/pretraining-with-human-feedback: `(lm_loss * weights).mean()`).
Dividing by the sum of weights would cancel a factor that all tokens of a step share: at one walk a step, tokens had
0.29 to 2.36 times the weight that was intended.

`filtering`, `conditional` and `quantiles` change the text (see `arrangement`) and are maximum likelihood of the changed
text; `hindsight` changes the text and learns from accepted turns. The others change the weights of a turn's tokens, as
one figure a turn that is looked up for the tokens of a batch only, so that no array as long as the corpus is allocated.
Background tokens and controls always count 1.

A turn's text is its speaker line and its words. Its controls are its marker and, behind the last turn, the end of the
text: no author wrote them, so a rejection or a low score is no evidence against them. A marker weighted by the score of
its turn would teach a wrong P(accepted), since accepted turns score higher: it was 0.73 where 0.44 of the turns were
accepted.
"""

from collections.abc import Callable, Mapping

import numpy as np

from adc_pipeline.training.objectives.rewards import advantages, rewards
from adc_pipeline.training.rows.batches import TurnWeights
from adc_pipeline.training.settings import Objective, TrainingSettings
from adc_pipeline.training.texts.dataset import TokenizedSplit


def every_token(split: TokenizedSplit, settings: TrainingSettings) -> None:
    """`mle`, `filtering`, `conditional`, `quantiles`: loss_i = -log p(token_i | the tokens before it), weight_i = 1.

    Korbak et al. 2023, section 2. Returns None, which stands for weight 1 everywhere.
    """


def accepted_only(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`accepted-only`: loss_i = -log p(token_i), weight_i = 0 for the text of rejected turns, else 1.

    Rejected turns are context, as a worse policy's episodes are in Laskin et al. 2022, In-context Reinforcement
    Learning with Algorithm Distillation (https://arxiv.org/abs/2210.14215). Their speaker lines carry no loss either.
    Their markers do: a marker is a judgement on the text, not a part of it, and a model that never has to predict
    `rejected` would take every turn for accepted.
    """
    accepted = np.asarray(split.accepted, dtype=np.float32)
    return TurnWeights(text=accepted, controls=np.ones_like(accepted))


def unlikelihood(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`unlikelihood`: -log(1 - p(token_i)) with weight `alpha` for the text of rejected turns, else -log p(token_i).

    Welleck et al. 2019 (https://arxiv.org/abs/1908.04319), on the tokens that Korbak et al. 2023 take: those of
    rejected segments. Their markers are learned as usual, as in `accepted-only`, which equals `alpha` 0. The training's
    `loss_rejected` then mixes both kinds; `validation_loss_rejected` is -log p with every objective.
    """
    accepted = np.asarray(split.accepted)
    text = np.where(accepted, 1, settings.alpha).astype(np.float32)
    return TurnWeights(text=text, controls=np.ones_like(text), unlikely=~accepted)


def reward_weighted(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`rwr`: loss_i = -log p(token_i), weight_i = min(exp(reward / `beta`), `max_weight`) for the text of a turn.

    Reward-weighted regression, Peters and Schaal 2007, as in Korbak et al. 2023, with the reward of `rewards.rewards`:
    where the turn stands among its siblings.
    """
    return _exponential(rewards(split), settings)


def advantage_weighted(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`awr`: like `rwr`, with weight_i = min(exp(advantage / `beta`), `max_weight`).

    Advantage-weighted regression, Peng et al. 2019 (https://arxiv.org/abs/1910.00177): by how much the turn is better.
    The baseline is the mean of the other siblings in the walk (see `rewards.advantages`); the paper and Korbak et al.
    2023 learn a value function instead.
    """
    return _exponential(advantages(split), settings)


def positive_advantage(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`a-lol`: loss_i = -log p(token_i), weight_i = min(max(advantage, 0), `max_weight`) for the text of a turn.

    Advantage-Leftover Lunch, Baheti et al. 2024 (https://arxiv.org/abs/2305.14718), in its variant without a reference
    model: turns that are no better than the mean of their siblings are not learned from. The paper also multiplies by
    the importance weight p(turn) / p_reference(turn), clipped to [0.1, 1.9], and draws examples by their advantage;
    both are left out, and so is the value function, as in `awr`.
    """
    weights = np.clip(advantages(split), 0, settings.max_weight).astype(np.float32)
    return TurnWeights(text=weights, controls=np.ones_like(weights), per_token=True)


def hindsight(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`hindsight`: loss_i = -log p(token_i), weight_i = 0 for the text of rejected turns, else 1.

    Chain of Hindsight, Liu et al. 2023: the model reads `Bad: ` and a rejected turn, and learns the accepted one behind
    `Good: `. The words are given. The paper also masks 15 % of the earlier tokens and mixes in pretraining data.
    """
    return accepted_only(split, settings)


def _exponential(values: np.ndarray, settings: TrainingSettings) -> TurnWeights:
    # Clipped before the exponential, which therefore cannot overflow.
    exponent = np.minimum(values / settings.beta, np.log(settings.max_weight))
    weights = np.exp(exponent).astype(np.float32)
    return TurnWeights(text=weights, controls=np.ones_like(weights), per_token=True)


WEIGHTS: Mapping[Objective, Callable[[TokenizedSplit, TrainingSettings], TurnWeights | None]] = {
    "mle": every_token,
    "accepted-only": accepted_only,
    "filtering": every_token,
    "conditional": every_token,
    "unlikelihood": unlikelihood,
    "rwr": reward_weighted,
    "awr": advantage_weighted,
    "a-lol": positive_advantage,
    "hindsight": hindsight,
    "quantiles": every_token,
    # Their weights depend on the model and are computed step by step (see `preferences`).
    "dpo": every_token,
    "kto": every_token,
}
