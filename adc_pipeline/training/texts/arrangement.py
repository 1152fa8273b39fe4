"""What an objective or an ablation changes in the layout of a walk.

By default each turn is followed by its marker. `filtering` excludes rejected turns, `conditional` puts the marker in
front of its turn; both are then maximum likelihood of the changed text, so only the tokenization knows about them.
`quantiles` and `hindsight` put other labels there: a level by rank, or a word.
Three ablations test what the markers do: one replaces them by line breaks, one by a single neutral marker, which keeps
the boundaries of turns and tells no verdict, and one shuffles the verdicts of a walk.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adc_pipeline.training.settings import MARKERS_FIRST, PREFERENCES, TrainingSettings
from adc_pipeline.training.texts.tokens import Label
from adc_pipeline.walks.markers import Verdict

# The marker that stands for both verdicts. All markers start alike, so that which of the two it is does not matter.
NEUTRAL: Verdict = "accepted"
# The words of `hindsight`, behind a marker that ends the text before: Liu et al. 2023 write "Good:" and "Bad:".
WORDS: Mapping[Verdict, Label] = {
    "accepted": Label((NEUTRAL,), "Good: "),
    "rejected": Label((NEUTRAL,), "Bad: "),
}
# Measures that read or set P(accepted) by the marker after a turn; they mean nothing for some models.
BY_MARKERS = ("preference_accuracy", "verdict_calibration", "steering")


@dataclass(frozen=True)
class Arrangement:
    """Changes to the layout of a walk; by default none.

    `dropped_markers` is the share of markers that a line break replaces. `neutral` puts one marker after every turn.
    `words` puts words in place of markers; `levels`, if not 0, puts one of so many levels. `completions` makes texts of
    at most `room` tokens of single turns (see `completions.py`).
    """

    exclude_rejected: bool = False
    markers_first: bool = False
    dropped_markers: float = 0.0
    neutral: bool = False
    words: bool = False
    levels: int = 0
    completions: Literal["", "dpo", "kto"] = ""
    room: int = 0
    verdicts_shuffled: bool = False
    seed: int = 0

    def excludes(self, verdict: Verdict) -> bool:
        """Return whether turns of this verdict are excluded from the text."""
        return self.exclude_rejected and verdict == "rejected"

    def marked(self, verdict: Verdict) -> Label | Verdict | None:
        """Return what is written for a verdict: of levels, the best for accepted and the worst for rejected."""
        if self.dropped_markers == 1:
            return None
        if self.levels:
            return self.level(self.levels if verdict == "accepted" else 1)
        return WORDS[verdict] if self.words else NEUTRAL if self.neutral else verdict

    def level(self, level: int) -> Label:
        """Return the label of a level from 1, the worst, to `levels`: one `accepted` for each level that is worse, and
        one `rejected` for each that is better. Two levels are the two markers.
        """
        worse: tuple[Verdict, ...] = ("accepted",)
        better: tuple[Verdict, ...] = ("rejected",)
        return Label(worse * (level - 1) + better * (self.levels - level))

    def label(self, walk: Mapping[str, Any], turn: Mapping[str, Any], verdict: Verdict) -> Label | Verdict | None:
        """Return what is written for a turn of a walk; None where a line break replaces it.

        A level is the place among the turn's siblings: that of rank r of n is the quantile (n - r + 1) / n, rounded up.
        """
        if self.drops(walk["conversation_id"], walk["walk"], turn["utterance_id"]):
            return None
        if self.levels:
            return self.level(-(-self.levels * (turn["siblings"] - turn["rank"] + 1) // turn["siblings"]))
        return self.marked(verdict)

    def drops(self, conversation_id: str, walk: int, utterance_id: str) -> bool:
        """Return whether this turn's marker is dropped: the same for the same seed, walk and turn.

        MD5 of `SEED:dropped:CONVERSATION:WALK:UTTERANCE`; its first eight hexadecimal digits, read as a fraction of
        16**8, are compared with the share.
        """
        if not self.dropped_markers:
            return False
        return self._fraction("dropped", conversation_id, walk, utterance_id) < self.dropped_markers

    def verdicts(self, walk: Mapping[str, Any]) -> list[Verdict]:
        """Return each turn's verdict, or the walk's verdicts in an order that a hash decides."""
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
    """Return the layout of an objective; Korbak et al. 2023, section 2 (https://arxiv.org/abs/2302.08582).

    `filtering`: rejected turns are excluded with their markers, and so is a walk that has no other turn. The model
    never sees `rejected` and knows of it what the base model did.

    `conditional`: background, then `marker + speaker line + text` for each turn, so that a turn is written given its
    verdict. All tokens count, markers included, as in the paper's code: the next marker ends a turn. A line break
    replaces a share `dropped_markers` of them (the paper's code: 0.01 or 0.1), so that the model can also write without
    a verdict. The marker after a turn is the next turn's and tells nothing about this one. Preference accuracy, verdict
    calibration and steering, which the evaluation reads there, therefore mean nothing for such a model, whatever figure
    comes out. Perplexity and in-context improvement do, once the evaluation lays its texts out the same way; `markers`
    in `training.json` is then `before`.

    `quantiles`: like `conditional`, with one of `levels` levels in place of two, by rank among the siblings (Lu et al.
    2022, Quark, https://arxiv.org/abs/2205.13636). Evaluation and generation ask for the best level, and show rejected
    turns with the worst.

    `hindsight`: like `conditional`, with `Good: ` or `Bad: ` behind a marker that tells no verdict (Liu et al. 2023,
    Chain of Hindsight, https://arxiv.org/abs/2302.02676). The words are given and carry no loss.

    `dpo`, `kto`: single turns behind the accepted ones before them, all with one marker (see `completions.py`).

    `markers: stripped` replaces every marker by a line break, `markers: neutral` by one and the same marker.
    `verdicts: shuffled` permutes the verdicts of a walk, so that they tell how many of its turns were rejected but not
    which.
    """
    dropped = settings.dropped_markers if settings.objective in ("conditional", "quantiles") else 0.0
    return Arrangement(
        exclude_rejected=settings.objective == "filtering",
        markers_first=settings.objective in MARKERS_FIRST,
        dropped_markers=1.0 if settings.markers == "stripped" else dropped,
        neutral=settings.markers == "neutral" or settings.objective in PREFERENCES,
        words=settings.objective == "hindsight",
        levels=settings.levels if settings.objective == "quantiles" else 0,
        completions=settings.objective if settings.objective in PREFERENCES else "",  # type: ignore[arg-type]
        room=settings.sequence_length if settings.objective in PREFERENCES else 0,
        verdicts_shuffled=settings.verdicts == "shuffled",
        seed=settings.seed,
    )


def arrangement_facts(settings: TrainingSettings) -> dict[str, str | int | list[str]]:
    """Return what an evaluation has to know: where markers stand, and which measures mean nothing."""
    arranged = arrangement(settings)
    markers = "before" if arranged.markers_first else "neutral" if arranged.neutral else "after"
    if settings.markers == "stripped":
        markers = "none"
    unread: tuple[str, ...] = BY_MARKERS if markers != "after" or arranged.exclude_rejected else ()
    if settings.objective in PREFERENCES:
        # Of preference accuracy, the model's implicit reward decides.
        unread = tuple(each for each in BY_MARKERS if each != "preference_accuracy")
    return {
        "objective": settings.objective,
        "markers": markers,
        "verdicts": settings.verdicts,
        "measures_without_meaning": list(unread),
        **({"levels": arranged.levels} if arranged.levels else {}),
    }
