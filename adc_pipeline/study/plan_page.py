"""Write the result of a plan as Markdown: what its figures rest on, and tables of primaries, secondaries and arms."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from adc_pipeline.core.markdown import escape
from adc_pipeline.evaluation.cases.leakage import repeated_roots
from adc_pipeline.evaluation.formatting import NONE, figure, number, p_value
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.left_out import too_long
from adc_pipeline.evaluation.measures import family
from adc_pipeline.evaluation.presentation.page import Table
from adc_pipeline.evaluation.replies.policy import POLICY
from adc_pipeline.study.exported import ExportedCell
from adc_pipeline.study.plan_result import NULL, Found, PlanResult


def markdown(result: PlanResult) -> str:
    """Return the result as Markdown."""
    plan = result.plan
    upcoming = [look for look in sorted({*plan.futility, *plan.efficacy}) if look > result.look]
    state = (
        f"{len(result.cells)} of {len(plan.cells)} cells are made; {result.complete} of {len(plan.seeds)} seeds are"
        f" complete for the primaries. {f'Look at {result.look} seeds.' if result.look else 'No look has been held.'}"
        f"{f' The next look is at {upcoming[0]} seeds.' if upcoming else ' This is the last look.'}"
    )
    header = ["contrast", "estimate", "by seed", "p", "level", "smallest effect seen in 80 %", "verdict"]
    verdicts = [result.verdict(each) for each in plan.primaries]
    primaries = [
        [
            f"{each.name}: {each}",
            *figures(result.found.get(each.name)),
            number(result.levels.get(each.name)),
            number(found.smallest if (found := result.found.get(each.name)) else None),
            verdict,
        ]
        for each, verdict in zip(plan.primaries, verdicts, strict=True)
    ]
    secondaries = [
        [f"{each.name}: {each}", *figures(result.found.get(each.name)), number(found.smallest if found else None)]
        for each in plan.secondaries
        for found in (result.found.get(each.name),)
    ]
    learned = [[name, variant.name, *counts(result.cells, variant.name)] for name, variant in plan.arms.items()]
    caption = "Intervals of 95 %, over seeds and conversations. Level: that of this look, with Holm's correction."
    tables = {
        "Primaries": Table(header, primaries, caption),
        "Secondaries": Table([*header[:4], header[5]], secondaries, "Not corrected: these show nothing by themselves."),
        "Arms": Table(
            ["arm", "variant", "seeds", "steps", "training tokens", "rejected turns to learn from"],
            learned,
            "Of one seed. A rejected turn is a training pair: it is followed by another sibling.",
        ),
    }
    excluded = [f"Excluded: {name}, because {reason}." for name, reason in result.excluded.items()]
    untested = [f"- {escape(sentence)}" for sentence in result.untested()]
    return "\n\n".join(
        [
            f"# {plan.name}",
            *([plan.question] if plan.question else []),
            state,
            *split_sentences(result),
            *judge_sentences(result),
            *versions_sentence(result),
            *null_sentence(verdicts),
            *excluded,
            *(f"## {title}\n\n{table.caption}\n\n{table.markdown()}" for title, table in tables.items()),
            *(["## Not testable", "\n".join(untested)] if untested else []),
        ]
    )


def split_sentences(result: PlanResult) -> list[str]:
    """Return what of the test split the figures rest on, and what the datasets cannot teach."""
    told: dict[str, dict[str, None]] = {}
    arms = {variant.name: arm for arm, variant in result.plan.arms.items()}
    for (variant, _), cell in result.cells.items():
        sentences: list[str] = [escape(each) for each in cell.facts["shortcomings"]]
        if counts := cell.facts["counts"]:
            evaluated, test = counts["conversations.evaluated"], counts["conversations.test"]
            lead = f"{evaluated:,} of {test:,} conversations of the test split are evaluated."
            cut = [too_long(counts)] if counts["queries.left_out"] or counts["queries.cut"] else []
            sentences.append(" ".join([lead, *repeated_roots(counts), *cut]))
        for sentence in sentences:
            told.setdefault(sentence, {})[arms[variant]] = None
    every = {arms[variant] for variant, _ in result.cells}
    return [
        sentence if own.keys() == every else f"{', '.join(map(escape, own))}: {sentence}"
        for sentence, own in told.items()
    ]


def judge_sentences(result: PlanResult) -> list[str]:
    """Return who judged and how well, where a contrast is a judge's."""
    if POLICY not in map(family, result.plan.measures):
        return []
    told = {
        (str(cell.facts.get("judge_name", "")), accuracy_sentence(Estimate(**accuracy)))
        for cell in result.cells.values()
        for accuracy in cell.facts.get("judge", {}).values()
    }
    return [f"The judge is {escape(name)}. {sentence}" for name, sentence in sorted(told)]


def versions_sentence(result: PlanResult) -> list[str]:
    """Return a sentence where cells were made by different code, which may train or evaluate in other ways."""
    versions = Counter(str(cell.facts.get("code_version")) for cell in result.cells.values())
    if len(versions) < 2:
        return []
    counted = ", ".join(f"{count} by {escape(version)}" for version, count in versions.most_common())
    return [f"The cells were made by {len(versions)} versions of the code: {counted}."]


def null_sentence(verdicts: Sequence[str]) -> list[str]:
    """Return a sentence on what a null result rests on, where there is one."""
    if not any(verdict.startswith(NULL) for verdict in verdicts):
        return []
    return [
        "A null result holds for models of this training only: models that learned nothing show it too, so read it"
        " beside what they did learn."
    ]


def accuracy_sentence(accuracy: Estimate) -> str:
    if accuracy.value is None:
        return "The test split has no two replies with different scores to test it on."
    pairs, conversations = accuracy.cases, accuracy.conversations
    return (
        f"Its accuracy on people's replies of the test split is {figure(accuracy)}, on {pairs:,} pair"
        f"{'s' * (pairs != 1)} of {conversations:,} conversation{'s' * (conversations != 1)}."
    )


def figures(found: Found | None) -> list[str]:
    """Return the estimate, the value of each seed and the p-value as text."""
    if found is None:
        return [NONE, NONE, NONE]
    return [figure(found.estimate, sign=True), ", ".join(map(number, found.by_seed)), p_value(found.estimate.p)]


def counts(cells: Mapping[tuple[str, int], ExportedCell], variant: str) -> list[str]:
    """Return what the cells of a variant learned from, as text."""
    own = [cell.facts for (name, _), cell in cells.items() if name == variant]
    if not own:
        return ["0", NONE, NONE, NONE]
    first = own[0]
    return [str(len(own)), f"{first['steps']:,}", f"{first['tokens']:,}", f"{first['train']['turns_rejected']:,}"]


def write_result(result: PlanResult, folder: Path) -> Path:
    """Write `result.md` into `folder` and return its path."""
    path = folder / "result.md"
    path.write_text(markdown(result), encoding="utf-8")
    return path
