"""How a walk's turns are laid out as tokens, which two of the objectives and both ablations change.

Plainly, each turn is followed by its marker. `filtering` leaves rejected turns out. `conditional` puts the
marker in front of its turn. Both are maximum likelihood of what the text then is, so that nothing but the
tokenization knows of them. The ablations ask what the markers do: without them, and with verdicts that are
those of other turns of the walk.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adc_pipeline.training.settings import TrainingSettings
from adc_pipeline.walks.markers import Verdict

# What the evaluation cannot learn from some models, because it reads P(accepted), or sets it, by the marker
# after a turn.
BY_MARKERS = ("preference_accuracy", "verdict_calibration", "steering")


@dataclass(frozen=True)
class Arrangement:
    """How turns are laid out; as it is made without arguments, the way the walks stage writes them.

    `dropped_markers` is the share of markers, in front or behind, that a line break replaces.
    """

    rejected_left_out: bool = False
    markers_first: bool = False
    dropped_markers: float = 0.0
    verdicts_shuffled: bool = False
    seed: int = 0

    def drops(self, conversation_id: str, walk: int, utterance_id: str) -> bool:
        """Whether this turn's marker is dropped: the same for the same seed, walk and turn.

        MD5 of `SEED:dropped:CONVERSATION:WALK:UTTERANCE`; its first eight hexadecimal digits, read as a
        fraction of 16**8, are compared with the share.
        """
        return self._fraction("dropped", conversation_id, walk, utterance_id) < self.dropped_markers

    def verdicts(self, walk: Mapping[str, Any]) -> list[Verdict]:
        """What stands for the verdict of each turn: its own, or those of the walk in an order that a hash decides."""
        turns = walk["turns"]
        own: list[Verdict] = [turn["verdict"] for turn in turns]
        if not self.verdicts_shuffled:
            return own
        drawn = [
            self._fraction("shuffled", walk["conversation_id"], walk["walk"], turn["utterance_id"]) for turn in turns
        ]
        return [own[place] for place in sorted(range(len(own)), key=drawn.__getitem__)]

    def _fraction(self, purpose: str, conversation_id: str, walk: int, utterance_id: str) -> float:
        text = f"{self.seed}:{purpose}:{conversation_id}:{walk}:{utterance_id}"
        return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8], 16) / 16**8


def arrangement(settings: TrainingSettings) -> Arrangement:
    """The layout that an objective learns from; Korbak et al. 2023, section 2 (https://arxiv.org/abs/2302.08582).

    `filtering`: rejected turns are left out, with their markers, and a walk that has no other turn is left
    out whole. The model never meets `rejected`, and what it holds of it is what the base model did.

    `conditional`: background, then `marker + speaker line + text` for each turn, so that a turn is written
    given its verdict. All tokens count, markers included, as in the paper's code: the next marker is what
    ends a turn. A share `dropped_markers` of them (the paper's code: 0.01) is replaced by a line break, so that
    the model can also write without a verdict. After a turn stands the marker of the next turn, which knows
    nothing of this one's worth: preference accuracy, verdict calibration and steering, which the evaluation reads
    there, cannot be had of such a model, whatever figure comes out. Perplexity and in-context improvement
    can, once the evaluation lays its texts out the same way; `markers` in `training.json` says `before`.

    `markers: stripped` replaces every marker, and `verdicts: shuffled` exchanges those of a walk, so that they
    say how many of its turns were rejected and not which.
    """
    dropped = settings.dropped_markers if settings.objective == "conditional" else 0.0
    return Arrangement(
        rejected_left_out=settings.objective == "filtering",
        markers_first=settings.objective == "conditional",
        dropped_markers=1.0 if settings.markers == "stripped" else dropped,
        verdicts_shuffled=settings.verdicts == "shuffled",
        seed=settings.seed,
    )


def arrangement_facts(settings: TrainingSettings) -> dict[str, str | list[str]]:
    """What an evaluator has to know: where markers stand, and which measures have no meaning."""
    arranged = arrangement(settings)
    markers = "before" if arranged.markers_first else "after"
    unread = settings.markers == "stripped" or arranged.markers_first or arranged.rejected_left_out
    return {
        "objective": settings.objective,
        "markers": "none" if settings.markers == "stripped" else markers,
        "verdicts": settings.verdicts,
        "measures_without_meaning": list(BY_MARKERS if unread else ()),
    }
