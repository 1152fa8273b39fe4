"""Objectives: what a model is to learn of a walk, and how much each token counts.

Every objective is a weighted mean of a loss a token,

    loss = sum_i weight_i * loss_i / sum_i weight_i,

over all predicted tokens i of a step, whatever rows, forward passes and processes they fall into, so
that how a step is divided up does not change what it learns. Names as in Korbak et al. 2023, Pretraining
Language Models with Human Preferences (https://arxiv.org/abs/2302.08582), whose code divides by the number of
tokens instead; under AdamW the two differ little.

`filtering` and `conditional` change the text (see `arrangement`) and are maximum likelihood of what it
then is. The others change what a turn's tokens count, here, as one figure a turn: it is looked up for the
tokens of a batch only, so that no array as long as the corpus is held. Background tokens count 1 always.

A turn's text is its speaker line and what was said. Its controls are its marker and, behind the last turn,
the end of the text: no author wrote them, so being rejected says nothing against them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from adc_pipeline.training.dataset import TokenizedSplit
from adc_pipeline.training.rewards import advantages, rewards
from adc_pipeline.training.settings import Objective, TrainingSettings


@dataclass(frozen=True, eq=False)
class TurnWeights:
    """What the tokens of each turn count, one entry a turn of the split.

    `text` and `controls` are float32 of (turns,). `unlikely` is bool of (turns,): turns whose text is to
    become unlikely; None where there are none, which spares the batch its mask and the loss its copy.
    """

    text: np.ndarray
    controls: np.ndarray
    unlikely: np.ndarray | None = None

    def of_tokens(
        self, turn: np.ndarray, background: np.ndarray, control: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights (float32) and what is to become unlikely (bool, or None) of some tokens, all of (tokens,).

        `turn` is each token's turn as its place among all turns of the split, whatever it is where
        `background`; `control` says which tokens are controls.
        """
        weights = np.where(control, self.controls[turn], self.text[turn])
        weights[background] = 1
        if self.unlikely is None:
            return weights, None
        return weights, self.unlikely[turn] & ~control & ~background


def every_token(split: TokenizedSplit, settings: TrainingSettings) -> None:
    """`mle`, `filtering`, `conditional`: loss_i = -log p(token_i | what is before it), weight_i = 1.

    Korbak et al. 2023, section 2. Nothing is looked up: None stands for weight 1 everywhere.
    """


def accepted_only(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`accepted-only`: loss_i = -log p(token_i), weight_i = 0 for the text of rejected turns, else 1.

    Rejected turns are context, as a worse policy's episodes are in Laskin et al. 2022, In-context
    Reinforcement Learning with Algorithm Distillation (https://arxiv.org/abs/2210.14215). Their speaker
    lines carry no loss either. Their markers do: a marker is a judgement on the text, not a part of it, and
    a model that is never asked for `rejected` would hold every turn for accepted. (turns,) of float32.
    """
    accepted = np.asarray(split.accepted, dtype=np.float32)
    return TurnWeights(text=accepted, controls=np.ones_like(accepted))


def unlikelihood(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`unlikelihood`: -log p(token_i) with weight 1, but -log(1 - p(token_i)) with weight `alpha` for the
    text of rejected turns.

    Welleck et al. 2019 (https://arxiv.org/abs/1908.04319), on the tokens that Korbak et al. 2023 take: those
    of rejected segments. Their markers are learned as usual, as in `accepted-only`, which is what `alpha` 0
    comes to. The training's `loss_rejected` is then of both kinds; `validation_loss_rejected` is -log p,
    with every objective. (turns,) of float32, and bool.
    """
    accepted = np.asarray(split.accepted)
    text = np.where(accepted, 1, settings.alpha).astype(np.float32)
    return TurnWeights(text=text, controls=np.ones_like(text), unlikely=~accepted)


def reward_weighted(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`rwr`: loss_i = -log p(token_i), weight_i = min(exp(reward / `beta`), `max_weight`) of the token's turn.

    Reward-weighted regression, Peters and Schaal 2007, as in Korbak et al. 2023; the reward as in
    `rewards.rewards`. Markers count what their turn does: given the turn's text, both verdicts are then
    weighed alike, and their probabilities stay true. (turns,) of float32.
    """
    return _exponential(rewards(split), settings)


def advantage_weighted(split: TokenizedSplit, settings: TrainingSettings) -> TurnWeights:
    """`awr`: the same with the advantage in the reward's place: exp(advantage / `beta`), at most `max_weight`.

    Advantage-weighted regression, Peng et al. 2019 (https://arxiv.org/abs/1910.00177), with the siblings
    that the walk shows as the baseline (see `rewards.advantages`) where the paper, and Korbak et al. 2023,
    learn a value head. (turns,) of float32.
    """
    return _exponential(advantages(split), settings)


def _exponential(values: np.ndarray, settings: TrainingSettings) -> TurnWeights:
    # The clip comes before the exponential, which therefore cannot overflow.
    exponent = np.minimum(values / settings.beta, np.log(settings.max_weight))
    weights = np.exp(exponent).astype(np.float32)
    return TurnWeights(text=weights, controls=weights)


WEIGHTS: Mapping[Objective, Callable[[TokenizedSplit, TrainingSettings], TurnWeights | None]] = {
    "mle": every_token,
    "accepted-only": accepted_only,
    "filtering": every_token,
    "conditional": every_token,
    "unlikelihood": unlikelihood,
    "rwr": reward_weighted,
    "awr": advantage_weighted,
}
