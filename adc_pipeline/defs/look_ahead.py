"""What a run will need later and can be known at its start: settings that cannot work, a model that is not there.

An orchestrator checks the types of a configuration; whether 90 + 5 + 4 is 100, and whether the base model
exists, is seen here, before hours of work.
"""

from collections.abc import Collection, Mapping
from typing import Any

from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.evaluation.settings import ComparisonSettings, EvaluationSettings
from adc_pipeline.lifecycle.settings import PromotionSettings
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.training.settings import BaseModelSettings, TrainingSettings
from adc_pipeline.walks.settings import WalkSettings

SETTINGS: Mapping[str, type] = {
    "utterances": UtteranceSettings,
    "ranked_replies": RankingSettings,
    "top_2": WalkSettings,
    "random_walk": WalkSettings,
    "base_model": BaseModelSettings,
    "top_2_model": TrainingSettings,
    "random_walk_model": TrainingSettings,
    "top_2_evaluation": EvaluationSettings,
    "random_walk_evaluation": EvaluationSettings,
    "comparison": ComparisonSettings,
    "top_2_champion": PromotionSettings,
    "random_walk_champion": PromotionSettings,
}


def check_settings(assets: Collection[str], configured: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise PipelineError for what `configured` (settings by asset) asks of `assets` and cannot be had."""
    for name, settings in SETTINGS.items():
        values = configured.get(name, {})
        # A value that is to come from the environment is known only where it is used.
        if name in assets and not any(isinstance(value, dict) for value in values.values()):
            made = settings(
                **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
            )
            if isinstance(made, BaseModelSettings) and made.name != "small":
                # Imports torch, which the small model does not need yet.
                from adc_pipeline.training.model import check_base_model

                check_base_model(made)
