"""Settings of a cell: those of its training, and the extent of its evaluation."""

from dataclasses import dataclass, fields

from adc_pipeline.core.settings import setting
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.settings import TrainingSettings

DEFAULTS = EvaluationSettings()


@dataclass(frozen=True)
class CellSettings(TrainingSettings):
    """Settings of the asset `study_cell`."""

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
        own = {each.name for each in fields(self)} - {each.name for each in fields(TrainingSettings)}
        return EvaluationSettings(**{name: getattr(self, name) for name in own})
