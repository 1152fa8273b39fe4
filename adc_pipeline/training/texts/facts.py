"""Read `training.json`, in which a training states how its model's texts are laid out.

Generation and evaluation have to lay texts out as the training did, and to stay within the pieces that it trained on.
The file may come with a model from elsewhere, so the types of its values are checked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import checked_fields, read_record
from adc_pipeline.training.settings import PREFERENCES
from adc_pipeline.training.texts.arrangement import Arrangement

FACTS = "training.json"
REMEDY = "copy the whole folder of the model again"

# Objectives whose models never read a rejected turn before another one.
WITHOUT_REJECTED = ("filtering", *PREFERENCES)
# Where a turn's marker stands; `neutral` is one marker after every turn, whatever its verdict.
MarkerPlace = Literal["after", "before", "none", "neutral"]


@dataclass(frozen=True)
class ModelFacts:
    """What `training.json` states of a model; the defaults describe a model without that file."""

    objective: str = "mle"
    markers: MarkerPlace = "after"
    measures_without_meaning: tuple[str, ...] = ()
    sequence_length: int | None = None  # the longest piece of a walk in the training, in tokens
    speakers: str = "names"  # the dataset's setting
    levels: int = 0  # of `quantiles`

    @classmethod
    def read(cls, folder: Path) -> "ModelFacts":
        """Read the facts of a model folder."""
        path = folder / FACTS
        return cls.read_file(path) if path.exists() else cls()

    @classmethod
    def read_file(cls, path: Path) -> "ModelFacts":
        """Read a `training.json`; raise PipelineError for a file that no training wrote. A value may be missing."""
        record = DEFAULTS | read_record(path, remedy=REMEDY)
        try:
            checked_fields(record, {name: type(value) for name, value in DEFAULTS.items()})
            train = checked_fields({"sequence_length": None} | record["train"], {"sequence_length": int | None})
            facts = cls(
                objective=record["objective"],
                markers=record["markers"],
                measures_without_meaning=tuple(record["measures_without_meaning"]),
                sequence_length=train["sequence_length"],
                speakers=record["speakers"],
                levels=record["levels"],
            )
            facts.check()
        except ValueError as error:
            raise PipelineError(
                f"{path} is not what a training writes ({error}): copy the whole folder of the model again."
            ) from error
        return facts

    def check(self) -> None:
        """Raise ValueError for a value that no training writes."""
        if self.markers not in get_args(MarkerPlace):
            raise ValueError(f"`markers` is {self.markers!r:.60}")
        if self.sequence_length is not None and self.sequence_length < 1:
            raise ValueError(f"`sequence_length` is {self.sequence_length}")
        if not 0 <= self.levels <= 16:
            raise ValueError(f"`levels` is {self.levels}")
        if not all(isinstance(name, str) for name in self.measures_without_meaning):
            raise ValueError("`measures_without_meaning` holds other things than names")

    @property
    def arrangement(self) -> Arrangement:
        """The layout of the texts that the model continues."""
        return Arrangement(
            exclude_rejected=self.objective in WITHOUT_REJECTED,
            markers_first=self.markers == "before",
            dropped_markers=float(self.markers == "none"),
            neutral=self.markers == "neutral",
            words=self.objective == "hindsight",
            levels=self.levels,
        )


DEFAULTS: dict[str, Any] = {
    "objective": ModelFacts.objective,
    "markers": ModelFacts.markers,
    "measures_without_meaning": [],
    "train": {},
    "speakers": ModelFacts.speakers,
    "levels": ModelFacts.levels,
}
