"""Settings of a cell: those of its training, and the extent of its evaluation."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from adc_pipeline.core.settings import setting
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.settings import PREFERENCES, TrainingSettings


def of_evaluation(name: str, default: int | None = None) -> Any:
    """Return the field of a setting that the evaluation has too, with another default if one is given."""
    found = next(each for each in fields(EvaluationSettings) if each.name == name)
    return field(default=found.default if default is None else default, metadata=found.metadata)


@dataclass(frozen=True)
class CellSettings(TrainingSettings):
    """Settings of the asset `study_cell`."""

    supervised_share: float = setting(
        0.5,
        "Share of the steps of `dpo` and `kto` in which the accepted turns are learned first; the model after them is"
        " the reference of the others.",
        more_than=0,
        less_than=1,
    )
    preference_learning_rate: float = setting(
        4e-4,
        "Peak learning rate of `dpo` and `kto` after that; `learning_rate` is that of the first part.",
        more_than=0,
        maximum=10,
    )
    second_round: Literal["none", "own", "people"] = setting(
        "none",
        "Learn in the last part of the steps from the model's own replies, ranked by the judge, or from people's in the"
        " same places. The partition decides it.",
    )
    second_round_share: float = setting(0.25, "Share of the steps of a second round.", more_than=0, less_than=1)
    max_conversations: int = of_evaluation("max_conversations")
    max_groups: int = of_evaluation("max_groups")
    max_siblings: int = of_evaluation("max_siblings")
    max_steering: int = of_evaluation("max_steering")
    max_contrasts: int = of_evaluation("max_contrasts")
    samples: int = of_evaluation("samples")
    contexts: int = of_evaluation("contexts", 0)
    rejections: int = of_evaluation("rejections")
    reply_tokens: int = of_evaluation("reply_tokens")

    @property
    def training(self) -> TrainingSettings:
        return TrainingSettings(**{each.name: getattr(self, each.name) for each in fields(TrainingSettings)})

    @property
    def evaluation(self) -> EvaluationSettings:
        own = {each.name for each in fields(self)} & {each.name for each in fields(EvaluationSettings)}
        return EvaluationSettings(**{name: getattr(self, name) for name in own})

    @property
    def stages(self) -> tuple[TrainingSettings, ...]:
        """The trainings of a cell, each from the model of the one before; together they have its steps, or epochs.

        `dpo` and `kto` start from a model of the accepted turns, since a new model knows no text that is to be
        preferred. A second round has a training of its own.
        """
        whole = self.training
        if self.objective in PREFERENCES:
            first, second = divided(whole, self.supervised_share)
            supervised = replace(first, objective="filtering", markers="neutral")
            return supervised, replace(second, learning_rate=self.preference_learning_rate)
        if self.second_round != "none":
            return divided(whole, 1 - self.second_round_share)
        return (whole,)


def divided(whole: TrainingSettings, share: float) -> tuple[TrainingSettings, TrainingSettings]:
    """Divide a training into two, the first with this share of the steps or epochs."""
    if whole.max_steps is None:
        return replace(whole, epochs=whole.epochs * share), replace(whole, epochs=whole.epochs * (1 - share))
    steps = max(1, min(round(share * whole.max_steps), whole.max_steps - 1))
    return replace(whole, max_steps=steps), replace(whole, max_steps=max(1, whole.max_steps - steps))
