"""Decide whether a new version of a model becomes the champion: only if it is significantly better.

Both versions answered cases of the validation split in their own evaluations. The decision compares the cases that both
answered, one by one (a paired cluster bootstrap, see `evaluation.intervals`), and requires the whole 95 % interval of
the difference to lie on the better side of zero, or the difference itself where every conversation has the same one,
which gives no interval. A version that cannot be compared is not promoted, and the reason is stated. Without a champion
the version has to beat its base model, which its evaluation has tested already. Cost: that of one paired comparison,
0.4 s for 980 cases of 169 conversations.

The test split, which the reports are about, does not decide: the best of many versions on the same cases looks better
on them than it is. Its figures stand beside the decision. An evaluation from before this rule has no figures of the
validation split; it is compared on the test split, and the reason says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from adc_pipeline.core.records import read_record, unfit_record
from adc_pipeline.evaluation.applicability import comparable_bits
from adc_pipeline.evaluation.comparison import paired_differences
from adc_pipeline.evaluation.evaluation import VALIDATION, Evaluation
from adc_pipeline.evaluation.formatting import interval, number, p_value
from adc_pipeline.evaluation.intervals.estimate import Difference
from adc_pipeline.evaluation.measures import family
from adc_pipeline.evaluation.settings import DIRECTIONS, ComparisonSettings
from adc_pipeline.lifecycle.settings import PromotionSettings
from adc_pipeline.walks.learnable import FEWEST_CONVERSATIONS

DecidingSplit = Literal["validation", "test"]
Verdict = Literal["promoted", "not better", "not compared", "check failed", "champion already", "pinned", "passed over"]
# The file of a decision, beside the figures that people read.
DECISION = "decision.json"


@dataclass(frozen=True)
class Evaluated:
    """A version of a model and the folder of its evaluation; None, with the reason `missing`, if it is not available.

    `longest_context` is the evaluation's setting `max_context_tokens`.
    """

    version: str
    evaluation: Path | None
    longest_context: int | None = None
    missing: str = ""

    def folder(self, split: DecidingSplit) -> Path | None:
        """Return the folder of a split's figures; None if they are not available."""
        if self.evaluation is None or split == "test":
            return self.evaluation
        folder = self.evaluation / VALIDATION
        return folder if folder.is_dir() else None


@dataclass(frozen=True)
class Decision:
    """The verdict on a version, compared with another version or the base model, and the figures behind it."""

    verdict: Verdict
    version: str
    against: str
    metric: str
    difference: Difference | None
    reason: str
    # The metric's values by split and version, such as `validation.new` and `test.against`.
    values: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def promoted(self) -> bool:
        return self.verdict == "promoted"

    def figures(self) -> dict[str, float]:
        """Return the known figures: the difference, new minus old, its interval, p, the numbers of cases, `values`."""
        figures = self.difference.figures() if self.difference else {}
        named = {"difference" if key == "value" else key: value for key, value in figures.items()}
        return {key: float(value) for key, value in {**named, **self.values}.items() if value is not None}


@dataclass(frozen=True)
class Pair:
    """A new version and what it has to beat: the champion or, where there is none, the base model."""

    new: Evaluated
    champion: Evaluated | None
    metric: str

    @property
    def against(self) -> str:
        return f"version {self.champion.version}" if self.champion else "the base model"

    @property
    def unchanged(self) -> str:
        return f"version {self.champion.version} stays champion" if self.champion else "there is still no champion"

    def decision(
        self,
        verdict: Verdict,
        reason: str,
        difference: Difference | None = None,
        values: Mapping[str, float | None] | None = None,
    ) -> Decision:
        return Decision(verdict, self.new.version, self.against, self.metric, difference, reason, values or {})


def read_decision(folder: Path) -> Decision:
    """Return the decision in an artefact's folder; raise DamagedError if its file is damaged."""
    path = folder / DECISION
    found = read_record(path, verdict=str, version=str, against=str, metric=str, difference=dict | None, reason=str)
    known = {each.name: found[each.name] for each in fields(Decision) if each.name in found}
    try:
        difference = Difference(**found["difference"]) if found["difference"] else None
    except TypeError as error:
        raise unfit_record(path, error) from error
    return Decision(**{**known, "difference": difference})


def decide(
    new: Evaluated,
    champion: Evaluated | None,
    failed: list[str],
    settings: PromotionSettings,
    pinned: str | None = None,
    passed_over: bool = False,
) -> Decision:
    """Decide on `new`, which has an evaluation, by `settings.metric`.

    `failed` names the checks that failed, `pinned` is the number of a version that a person has pinned as champion.
    `passed_over` says that a person has chosen the champion when the new version was there.
    """
    pair = Pair(new, champion, settings.metric)
    return decide_by_rule(pair, failed, pinned, passed_over) or decide_by_figures(pair, settings)


def decide_by_rule(pair: Pair, failed: list[str], pinned: str | None, passed_over: bool) -> Decision | None:
    """Return the decision that needs no comparison; None if the figures decide."""
    version, champion = pair.new.version, pair.champion
    if champion and champion.version == version:
        return pair.decision("champion already", f"Version {version} is the champion already.")
    if pinned:
        reason = f"Version {pinned} is pinned as champion, so version {version} is not compared with it."
        return pair.decision("pinned", reason)
    if champion and passed_over:
        reason = (
            f"Somebody made version {champion.version} champion when version {version} was there, so only a newer"
            f" version may take its place; `adc promote` makes version {version} champion."
        )
        return pair.decision("passed over", reason)
    assert pair.new.evaluation is not None
    if not Evaluation.read(pair.new.evaluation).learned_something():
        failed = [*failed, "learned_something"]
    if failed:
        checks = ", ".join(dict.fromkeys(failed))
        return pair.decision("check failed", f"Version {version} failed the checks {checks}; {pair.unchanged}.")
    return None


def decide_by_figures(pair: Pair, settings: PromotionSettings) -> Decision:
    """Return the decision by the difference between the two, or that it cannot be had."""
    version, against, metric, unchanged = pair.new.version, pair.against, pair.metric, pair.unchanged
    split, before = deciding_split(pair.new, pair.champion)
    values = values_of(pair.new, pair.champion, metric, split)
    if pair.champion is None:
        difference, missing = against_base(pair.new, metric, split)
    else:
        difference, missing = paired(pair.new, pair.champion, settings, split)
    if difference is None or difference.value is None or difference.p is None:
        if difference and not difference.cases:
            missing = f"the {split} split has no cases of it: increase its share in the setting `shares`"
        elif difference:
            missing = f"their shared cases have no interval ({difference.refused or 'no value'})"
        reason = f"Version {version} cannot be compared with {against} by {metric}: {missing}; {unchanged}."
        return pair.decision("not compared", reason, values=values)
    if difference.conversations < FEWEST_CONVERSATIONS:
        few = f"the cases are of {difference.conversations} conversations, and an interval needs {FEWEST_CONVERSATIONS}"
        reason = f"Version {version} is not compared with {against}: {few}; {unchanged}."
        return pair.decision("not compared", reason, difference, values)
    better, reason = compared(pair, difference, split)
    reason += f" {both_splits(values, version, against)}{before}"
    return pair.decision("promoted" if better else "not better", reason, difference, values)


def compared(pair: Pair, difference: Difference, split: DecidingSplit) -> tuple[bool, str]:
    """Return whether the whole interval is on the better side of zero, and the sentence that says so."""
    assert difference.value is not None
    assert difference.p is not None
    version, direction = pair.new.version, DIRECTIONS[pair.metric]
    if difference.low is None or difference.high is None:
        bounds, all_of, not_all_of = f"no interval: {difference.refused}", "every conversation", "no conversation"
    else:
        bounds = f"95 % interval {interval(difference.low, difference.high, sign=True)}"
        all_of, not_all_of = "all of the interval", "not all of the interval"
    figures = (
        f"On the {split} split, {pair.metric} of version {version} minus that of {pair.against} is"
        f" {number(difference.value, sign=True)} ({bounds}, p {p_value(difference.p)};"
        f" {difference.cases:,} shared cases of {difference.conversations:,} conversations)"
    )
    better_side = f"better side of zero ({'more' if direction > 0 else 'less'} is better)"
    # Without an interval the difference is the same in every conversation.
    limits = {difference.low, difference.high} - {None} or {difference.value}
    if min(direction * limit for limit in limits if limit is not None) > 0:
        return True, f"{figures}; {all_of} is on the {better_side}, so version {version} becomes champion."
    return False, f"{figures}; {not_all_of} is on the {better_side}, so {pair.unchanged}."


def deciding_split(new: Evaluated, champion: Evaluated | None) -> tuple[DecidingSplit, str]:
    """Return the split that decides, and the sentence why it is not the validation split."""
    missing = [each.version for each in (new, champion) if each and each.evaluation and not each.folder("validation")]
    if not missing:
        return "validation", ""
    return "test", (
        f" The evaluation of version {' and of version '.join(missing)} is from before promotion was decided on the"
        " validation split, so the test split decided this time."
    )


def both_splits(values: Mapping[str, float | None], version: str, against: str) -> str:
    """Return the sentence with the values on the splits that were evaluated."""
    shown = {
        split: f"{number(values[f'{split}.new'])} against {number(values[f'{split}.against'])}"
        for split in ("validation", "test")
        if f"{split}.new" in values
    }
    return f"Version {version} against {against}: {', '.join(f'{each} on {split}' for split, each in shown.items())}."


def values_of(new: Evaluated, champion: Evaluated | None, metric: str, split: DecidingSplit) -> dict[str, float | None]:
    """Return the metric's values on the validation and the test split: of the new version, and of what it has to beat.

    Each is over the version's own cases.
    """
    values = {}
    splits: tuple[DecidingSplit, ...] = ("validation", "test")
    for each in splits if split == "validation" else splits[1:]:
        ours, theirs = new.folder(each), champion.folder(each) if champion else new.folder(each)
        for name, folder, which in (("new", ours, "model"), ("against", theirs, "model" if champion else "base")):
            found = getattr(Evaluation.read(folder), which).get(metric) if folder else None
            values[f"{each}.{name}"] = found.value if found else None
    return values


def against_base(new: Evaluated, metric: str, split: DecidingSplit) -> tuple[Difference | None, str]:
    """Return the difference from the base model, or None and the reason why there is none."""
    folder = new.folder(split)
    assert folder is not None
    evaluation = Evaluation.read(folder)
    missing = absent(new, evaluation, metric, split)
    return evaluation.minus_base.get(metric), missing or "its evaluation does not have that figure"


def absent(version: Evaluated, evaluation: Evaluation, metric: str, split: DecidingSplit) -> str:
    """Return why an evaluation does not have a metric; empty if it has it, or if that is not known."""
    if reason := evaluation.left_out.get(family(metric)):
        return f"the evaluation of version {version.version} excludes it, because {reason}"
    if split == "validation" and metric not in evaluation.model:
        return (
            f"the evaluation of version {version.version} did not measure it on the validation split: set the"
            f" evaluation's `validation_metric` to {metric} too"
        )
    return ""


def paired(
    new: Evaluated, champion: Evaluated, settings: PromotionSettings, split: DecidingSplit
) -> tuple[Difference | None, str]:
    """Return the paired difference, new minus champion, or None and the reason why there is none."""
    our_folder, their_folder = new.folder(split), champion.folder(split)
    if our_folder is None or their_folder is None:
        return None, champion.missing or new.missing
    if new.longest_context != champion.longest_context:
        return None, (
            f"they were evaluated with `max_context_tokens` {new.longest_context} and {champion.longest_context}, so"
            " that a case is not the same question to both"
        )
    found = paired_differences(our_folder, their_folder, ComparisonSettings(settings.draws, settings.draw_seed))
    if settings.metric in found:
        return found[settings.metric], ""
    ours, theirs = Evaluation.read(our_folder), Evaluation.read(their_folder)
    for version, evaluation in ((new, ours), (champion, theirs)):
        if reason := absent(version, evaluation, settings.metric, split):
            return None, reason
    if not comparable_bits(ours.markers, theirs.markers):
        return None, "one reads a verdict before its turn and the other does not"
    if ours.test_split != theirs.test_split:
        return None, f"they were evaluated on other {split} splits and share none of its cases"
    return None, "they share none of its cases"
