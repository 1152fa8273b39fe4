"""Models that settings of the judge name: a folder, or a name on the Hub with a revision."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import check_model_folder, named_path


@dataclass(frozen=True)
class NamedModel:
    """A model by the name that the setting `setting` gives it; an empty name is none."""

    setting: str
    name: str
    revision: str | None = None

    @property
    def source(self) -> str:
        """What transformers loads from: a folder, whose path may begin with ~, or a Hub name."""
        folder = named_path(self.name)
        return str(folder) if folder.is_dir() else self.name

    @property
    def options(self) -> dict[str, Any]:
        return {"revision": self.revision} if self.revision else {}

    def check(self) -> None:
        """Raise PipelineError if a folder is missing, is no model's, or has irregular files."""
        folder = named_path(self.name)
        if folder.is_dir():
            check_model_folder(folder, self.setting)
            if not (folder / "config.json").exists():
                raise PipelineError(
                    f"The `{self.setting}` {self.name!r} has no config.json; give the folder that a model was saved to."
                )
        elif self.name[:1] in ("/", ".", "~") or self.name.count("/") > 1:
            raise PipelineError(
                f"The `{self.setting}` {self.name!r} is a path without a folder; give the folder of a model or a Hub"
                " name."
            )

    def reported(self) -> AbstractContextManager[None]:
        """Raise PipelineError for whatever the libraries raise when they load the model."""
        from adc_pipeline.training.architectures.loading import reported

        return reported(
            lambda reason: (
                f"The `{self.setting}` {self.name!r} cannot be loaded ({reason}): check the spelling and the network,"
                " and that its weights are safetensors."
            )
        )
