"""Decide whether a new version of a model becomes the champion: only if it is significantly better.

Both versions answered test cases in their own evaluations. The decision compares the cases that both answered, one by
one (a paired cluster bootstrap, see `evaluation/bootstrap.py`), and requires the whole 95 % interval of the difference
to lie on the better side of zero. A version that cannot be compared is not promoted, and the reason is stated. Without
a champion the version has to beat its base model, which its evaluation has tested already. Cost: that of one paired
comparison, 0.4 s for 980 cases of 169 conversations.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adc_pipeline.evaluation.comparison import paired_differences
from adc_pipeline.evaluation.estimate import Difference
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.formatting import interval, number, p_value
from adc_pipeline.evaluation.measures import family
from adc_pipeline.evaluation.settings import ComparisonSettings
from adc_pipeline.evaluation.training_facts import comparable_bits
from adc_pipeline.lifecycle.settings import DIRECTIONS, PromotionSettings
from adc_pipeline.walks.learnable import FEWEST_CONVERSATIONS

Verdict = Literal["promoted", "not better", "not compared", "check failed", "champion already", "pinned"]


@dataclass(frozen=True)
class Evaluated:
    """A version of a model and the folder of its evaluation; None, with the reason `missing`, if it is not available.

    `longest_context` is the evaluation's setting `max_context_tokens`.
    """

    version: str
    evaluation: Path | None
    longest_context: int | None = None
    missing: str = ""


@dataclass(frozen=True)
class Decision:
    """The verdict on a version, compared with another version or the base model, and the figures behind it."""

    verdict: Verdict
    version: str
    against: str
    metric: str
    difference: Difference | None
    reason: str

    @property
    def promoted(self) -> bool:
        return self.verdict == "promoted"

    def figures(self) -> dict[str, float]:
        """Return the known figures: the difference, new minus old, its interval, p, and the numbers of cases."""
        figures = self.difference.figures() if self.difference else {}
        named = {"difference" if key == "value" else key: value for key, value in figures.items()}
        return {key: float(value) for key, value in named.items() if value is not None}


def decide(
    new: Evaluated,
    champion: Evaluated | None,
    failed: list[str],
    settings: PromotionSettings,
    pinned: str | None = None,
) -> Decision:
    """Decide on `new`, which has an evaluation, by `settings.metric`.

    `failed` names the checks that failed, `pinned` is the number of a version that a person has pinned as champion.
    """
    against = f"version {champion.version}" if champion else "the base model"
    unchanged = f"version {champion.version} stays champion" if champion else "there is still no champion"

    def decision(verdict: Verdict, reason: str, difference: Difference | None = None) -> Decision:
        return Decision(verdict, new.version, against, settings.metric, difference, reason)

    if champion and champion.version == new.version:
        return decision("champion already", f"Version {new.version} is the champion already.")
    if pinned:
        return decision(
            "pinned", f"Version {pinned} is pinned as champion, so version {new.version} is not compared with it."
        )
    assert new.evaluation is not None
    evaluation = Evaluation.read(new.evaluation)
    if not evaluation.learned_something():
        failed = [*failed, "learned_something"]
    if failed:
        checks = ", ".join(dict.fromkeys(failed))
        return decision("check failed", f"Version {new.version} failed the checks {checks}; {unchanged}.")
    if champion is None:
        difference, missing = evaluation.minus_base.get(settings.metric), "its evaluation does not have that figure"
    else:
        difference, missing = paired(new, champion, settings)
    if difference is None or difference.low is None or difference.high is None or difference.value is None:
        if difference:
            missing = f"their shared cases have no interval ({difference.refused or 'no value'})"
        compared = f"Version {new.version} cannot be compared with {against} by {settings.metric}"
        return decision("not compared", f"{compared}: {missing}; {unchanged}.")
    if difference.conversations < FEWEST_CONVERSATIONS:
        few = f"the cases are of {difference.conversations} conversations, and an interval needs {FEWEST_CONVERSATIONS}"
        reason = f"Version {new.version} is not compared with {against}: {few}; {unchanged}."
        return decision("not compared", reason, difference)
    direction = DIRECTIONS[settings.metric]
    figures = (
        f"{settings.metric} of version {new.version} minus that of {against} is {number(difference.value, sign=True)}"
        f" (95 % interval {interval(difference.low, difference.high, sign=True)}, p {p_value(difference.p)};"
        f" {difference.cases:,} shared cases of {difference.conversations:,} conversations)"
    )
    better_side = f"better side of zero ({'more' if direction > 0 else 'less'} is better)"
    if min(direction * difference.low, direction * difference.high) > 0:
        reason = f"{figures}; all of the interval is on the {better_side}, so version {new.version} becomes champion."
        return decision("promoted", reason, difference)
    reason = f"{figures}; not all of the interval is on the {better_side}, so {unchanged}."
    return decision("not better", reason, difference)


def paired(new: Evaluated, champion: Evaluated, settings: PromotionSettings) -> tuple[Difference | None, str]:
    """Return the paired difference, new minus champion, or None and the reason why there is none."""
    if new.evaluation is None or champion.evaluation is None:
        return None, champion.missing or new.missing
    if new.longest_context != champion.longest_context:
        return None, (
            f"they were evaluated with `max_context_tokens` {new.longest_context} and {champion.longest_context}, so"
            " that a case is not the same question to both"
        )
    found = paired_differences(
        new.evaluation, champion.evaluation, ComparisonSettings(settings.draws, settings.draw_seed)
    )
    if settings.metric in found:
        return found[settings.metric], ""
    ours, theirs = Evaluation.read(new.evaluation), Evaluation.read(champion.evaluation)
    for version, evaluation in ((new.version, ours), (champion.version, theirs)):
        if reason := evaluation.left_out.get(family(settings.metric)):
            return None, f"the evaluation of version {version} excludes it, because {reason}"
    if not comparable_bits(ours.markers, theirs.markers):
        return None, "one reads a verdict before its turn and the other does not"
    if ours.test_split != theirs.test_split:
        return None, "they were evaluated on other test splits and share none of its cases"
    return None, "they share none of its cases"
