"""Settings of the resource `mlflow`: the names that the pipeline uses there."""

import re
from dataclasses import dataclass

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import Settings, as_shown, setting


@dataclass(frozen=True)
class MlflowSettings(Settings):
    """Settings of the resource `mlflow`."""

    experiment: str = setting("adc", "MLflow experiment of the runs.")
    model_prefix: str = setting(
        "adc", "Begins the names of registered models: PREFIX-top-2, PREFIX-random-walk and so on."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # MLflow refuses / : . % and quotes in the name of a model, and more than 500 characters in an experiment's.
        if not re.fullmatch(r"[\w-]{1,100}", self.model_prefix, re.ASCII):
            raise PipelineError(
                f"`model_prefix` is {as_shown(self.model_prefix)}; use letters, digits, - and _, such as my-team."
            )
        if not re.fullmatch(r"\S.{0,198}\S|\S", self.experiment) or not self.experiment.isprintable():
            raise PipelineError(
                f"`experiment` is {as_shown(self.experiment)}; use a name of up to 200 printable characters."
            )
