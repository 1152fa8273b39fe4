"""Read `training.json`, in which a training states how its model's texts are laid out.

Generation and evaluation have to lay texts out as the training did, and to stay within the pieces that it trained on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adc_pipeline.training.arrangement import Arrangement

FACTS = "training.json"


@dataclass(frozen=True)
class ModelFacts:
    """What `training.json` states of a model; the defaults describe a model without that file."""

    objective: str = "mle"
    # Where a turn's marker stands; `neutral` is one marker after every turn, whatever its verdict.
    markers: Literal["after", "before", "none", "neutral"] = "after"
    measures_without_meaning: tuple[str, ...] = ()
    sequence_length: int | None = None  # the longest piece of a walk in the training, in tokens
    speakers: str = "names"  # the dataset's setting

    @classmethod
    def read(cls, folder: Path) -> "ModelFacts":
        """Read the facts of a model folder."""
        path = folder / FACTS
        return cls.of(json.loads(path.read_bytes())) if path.exists() else cls()

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "ModelFacts":
        """Return the facts that the content of `training.json` states."""
        return cls(
            objective=facts.get("objective", cls.objective),
            markers=facts.get("markers", cls.markers),
            measures_without_meaning=tuple(facts.get("measures_without_meaning", ())),
            sequence_length=facts.get("train", {}).get("sequence_length"),
            speakers=facts.get("speakers", cls.speakers),
        )

    @property
    def arrangement(self) -> Arrangement:
        """The layout of the texts that the model continues."""
        return Arrangement(
            exclude_rejected=self.objective == "filtering",
            markers_first=self.markers == "before",
            neutral=self.markers == "neutral",
        )
