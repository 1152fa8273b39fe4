"""Settings of a cell: those of its training, and the extent of its evaluation."""

from dataclasses import dataclass, fields, replace

from adc_pipeline.core.settings import setting
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.settings import PREFERENCES, TrainingSettings

DEFAULTS = EvaluationSettings()


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
    )
    max_conversations: int = setting(DEFAULTS.max_conversations, "Maximum number of test conversations.", minimum=1)
    max_groups: int = setting(
        DEFAULTS.max_groups, "Maximum number of sibling groups of a conversation for preference accuracy.", minimum=1
    )
    max_siblings: int = setting(
        DEFAULTS.max_siblings, "Siblings of a group, best-ranked first, that are compared in pairs.", minimum=2
    )
    max_steering: int = setting(
        DEFAULTS.max_steering, "Maximum number of turns of a conversation for steering.", minimum=1
    )
    max_contrasts: int = setting(
        DEFAULTS.max_contrasts,
        "Maximum number of sibling groups for the rejection contrast; one of each conversation before a second one.",
        minimum=0,
    )
    samples: int = setting(
        DEFAULTS.samples, "Number of contexts for which continuations are sampled.", minimum=0, maximum=1_000_000
    )
    contexts: int = setting(
        0, "Number of test conversations in which policy improvement is measured; 0 measures none.", minimum=0
    )
    rejections: int = setting(
        DEFAULTS.rejections,
        "How often the model's own reply is rejected before its last one, for policy improvement.",
        minimum=1,
        maximum=100,
    )
    reply_tokens: int = setting(
        DEFAULTS.reply_tokens,
        "Maximum length in tokens of a reply for policy improvement.",
        minimum=1,
        maximum=1_048_576,
    )

    @property
    def training(self) -> TrainingSettings:
        return TrainingSettings(**{each.name: getattr(self, each.name) for each in fields(TrainingSettings)})

    @property
    def evaluation(self) -> EvaluationSettings:
        own = {each.name for each in fields(self)} & {each.name for each in fields(EvaluationSettings)}
        return EvaluationSettings(**{name: getattr(self, name) for name in own})

    @property
    def stages(self) -> tuple[TrainingSettings, ...]:
        """The trainings of a cell, each from the model of the one before.

        `dpo` and `kto` start from a model of the accepted turns, since a new model knows no text that is to be
        preferred. Both trainings together have the steps, or epochs, of any other cell.
        """
        whole = self.training
        if self.objective not in PREFERENCES:
            return (whole,)
        steps = whole.max_steps and max(1, min(round(self.supervised_share * whole.max_steps), whole.max_steps - 1))
        first = replace(whole, objective="filtering", markers="neutral", max_steps=steps)
        rate = self.preference_learning_rate
        second = replace(
            whole, learning_rate=rate, max_steps=whole.max_steps and max(1, whole.max_steps - (steps or 0))
        )
        if steps:
            return first, second
        share = self.supervised_share
        return replace(first, epochs=whole.epochs * share), replace(second, epochs=whole.epochs * (1 - share))
