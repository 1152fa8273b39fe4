"""The reports of an evaluation and of a comparison: which sections they have and how their figures are to be read."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.evaluation.baselines import informative, is_tie
from adc_pipeline.evaluation.cases.leakage import leakage_sentences
from adc_pipeline.evaluation.comparison import Comparison
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.formatting import figure, sample_size
from adc_pipeline.evaluation.intervals.student import FEW
from adc_pipeline.evaluation.judging.judge import LEAST_ACCURACY
from adc_pipeline.evaluation.left_out import coverage
from adc_pipeline.evaluation.presentation.page import Section, Table, page, provenance_section
from adc_pipeline.evaluation.presentation.tables import (
    CASES,
    all_tables,
    baselines_table,
    comparison_tables,
    differences_table,
    headline_table,
    lengths_table,
    policy_table,
)
from adc_pipeline.evaluation.presentation.verdict import verdict
from adc_pipeline.evaluation.replies.policy import INSTRUCT, POLICY
from adc_pipeline.walks.kinds import KINDS

if TYPE_CHECKING:
    from adc_pipeline.evaluation.samples import Sample

INTERVALS = (
    "Parentheses hold the number of conversations that the cases come from."
    f" Brackets hold the 95 % confidence interval, a bootstrap over conversations; with fewer than {FEW} conversations,"
    " where a bootstrap is too narrow, Student's t. One conversation, or conversations that are all alike, give none,"
    " and the reason stands there. A p-value is that of a paired, two-sided sign-flip test over conversations."
    " Holm's correction covers all tests of a table, or of the page where a page compares models."
)
MEANINGS = (
    "Preference accuracy: how often the model gives the verdict accepted a higher probability after the better-scored"
    " of two siblings. Its reading dialogrpt takes the pairs of Gao et al. 2020, with which figures of that model"
    " compare: within an hour, scores at least 20 and half of the siblings' ranks apart.",
    "Steering: how often a rejected turn calls for a sibling, and an accepted one for a reply. The baseline length is"
    " the share of cases whose sibling is the longer text: a rejection that shifts every text's probability by the same"
    " amount per byte, whatever its content, scores this, or one minus this.",
    "In-context improvement: bits per byte of accepted turns with the rejected siblings before them in the context,"
    " minus without them; negative is improvement. A stranger is a reply of another conversation, of nearly the same"
    " length, in a sibling's place: what it gains is not read in the sibling. Rejection contrast: how many bits per"
    " byte a rejected sibling gains for a better sibling more than for a worse one, minus the same after a stranger;"
    " above 0, the model reads what was rejected. Bits per byte and perplexity are of a turn's speaker line and text,"
    " without the marker.",
    "Verdict calibration: the Brier score of P(accepted) among the two verdicts, after each turn of the dataset's own"
    " walks; 0 is perfect. Its constant is the share of accepted turns, whatever the turn; the verdict before is the"
    " share of accepted turns after each verdict. Both know these shares from the test split itself. A model that is"
    " not below the verdict before has shown no more than the grammar of the walks.",
    "Policy improvement: the judge's score of the model's reply after its own earlier replies were rejected one by one,"
    " minus that of its first reply; minus_yoked: minus its score after another conversation's rejected replies.",
)
BASELINES_READING = (
    "What tells the better-scored of two siblings without reading a verdict, on the same pairs, and the model minus it,"
    " tested. length: the longer reply. time: the earlier one, which more people see. speaker's score: the mean of the"
    " speaker's replies in the training split. log P per byte: what the model itself gives to the reply's text."
    " bag of words: logistic regression on pairs of the training split. reward model: the one that the judge's"
    " setting reward_model names.",
    "Pairs written within an hour of each other are not free of time: even there the earlier reply is better more often"
    " than not. Matched on time are as many of them whose better reply is the earlier one as ones whose better reply is"
    " the later one, so that time decides about half of them rightly. Speakers without a different record: pairs of"
    " which the speakers' scores in training tell nothing, mostly since neither wrote there.",
)
READING = " ".join(kind.reading for kind in KINDS.values())
VERDICT_FIRST = (
    "This model and its base model read each turn's verdict before the turn. Bits per byte are therefore of a turn"
    " given its verdict, and a sample is a turn requested by its verdict."
)
DATASETS_DIFFER = (
    "In-context improvement, calibration, bits per byte and perplexity rest on the turns of each dataset's own walks"
    " and do not compare two datasets. Preference accuracy, steering and rejection contrast ask every model the same"
    " questions."
)


def excluded_measures(evaluation: Evaluation) -> list[str]:
    """Return a sentence for each measure that does not apply to the model."""
    return [f"Excluded: {name}, because {reason}." for name, reason in evaluation.left_out.items()]


def samples_by_prompt(samples: "Sequence[Sample]") -> "list[dict[str, Sample]]":
    """Group the samples of one prompt, each under its heading: writer and verdict."""
    groups: dict[tuple[str, str], dict[str, Sample]] = {}
    for sample in samples:
        heading = ("base model, " if sample.writer == "base model" else "") + f"after {sample.verdict}"
        groups.setdefault((sample.conversation_id, sample.prompt), {})[heading] = sample
    return list(groups.values())


def judge_sentence(evaluation: Evaluation) -> str:
    return (
        f"The judge of policy improvement is {evaluation.judge_name}. Its accuracy, on pairs of siblings of the test"
        f" split, is {figure(evaluation.judge['preference_accuracy'])}; below {LEAST_ACCURACY:.2f} it decides nothing."
    )


def policy_section(evaluation: Evaluation) -> list[Section]:
    """Return the section on policy improvement; none if it was not measured."""
    differs = evaluation.model.get(f"{POLICY}.differs")
    if differs is None:
        return []
    sentences = [judge_sentence(evaluation)]
    if POLICY in evaluation.left_out:
        sentences.append(f"Policy improvement is {evaluation.left_out[POLICY]}.")
    sentences.append(
        "own: the model's own earlier replies are rejected in the context. yoked: those to another conversation are,"
        " which tells counting from reading. independent: no reply is. best of: the best of as many independent"
        " replies by the judge. real: people's worst replies are rejected."
    )
    if f"{POLICY}.{INSTRUCT}.k0" in evaluation.model:
        sentences.append(
            "instruct: a model that follows instructions writes, and is told in words that its earlier replies were"
            " rejected."
        )
    names = {
        "differs": "of the replies after a rejection differ from all before",
        "novelty": "of their 3-grams are new",
        "parses": "of all replies can be judged",
    }
    sentences += [f"{figure(evaluation.model.get(f'{POLICY}.{name}'))} {words}." for name, words in names.items()]
    tables = [] if POLICY in evaluation.left_out else [policy_table(evaluation)]
    return [Section("Policy improvement", sentences, tables=tables)]


def split_headline(plots: Mapping[Path, str]) -> tuple[dict[Path, str], dict[Path, str]]:
    """Return the first plot, for the head of a report, and the others."""
    first, others = list(plots.items())[:1], list(plots.items())[1:]
    return dict(first), dict(others)


def baselines_section(evaluations: Mapping[str, Evaluation]) -> list[Section]:
    """Return the section on the baselines of preference accuracy, with a table for each evaluation that has some."""
    tables = [baselines_table(each, name) for name, each in evaluations.items() if each.minus_baselines]
    return [Section("Baselines of preference accuracy", BASELINES_READING, tables=tables)] if tables else []


def ties(evaluation: Evaluation) -> list[str]:
    """Return the sentence on a base model that cannot tell the verdicts apart."""
    if not any(is_tie(name, each) for name, each in evaluation.base.items()):
        return []
    return [
        "Before fine-tuning both verdicts' markers have the same embedding, so that the base model gives them equal"
        " probabilities whatever it has read: where it only ties it is no baseline and is not shown, and model − base"
        " is the difference from a tie."
    ]


def promotion_section(evaluation: Evaluation, validation: Evaluation | None, metric: str) -> list[Section]:
    """Return the section on the figure that promotion decides on, beside that of the test split; none without one."""
    if validation is None:
        return []
    splits = {"validation, decides": validation, "test, reported": evaluation}
    rows = [
        [
            name,
            figure(each.model.get(metric)),
            figure(informative(each.base).get(metric)),
            figure(each.minus_base.get(metric)),
            sample_size(each.model.get(metric)),
        ]
        for name, each in splits.items()
    ]
    sentence = (
        "Whether this version becomes the champion is decided on the validation split, so that the test split, which"
        " this report is about, stays unbiased however many versions are compared. A new version is compared with the"
        " champion case by case, and with the base model where there is no champion."
    )
    return [
        Section("Promotion", [sentence], tables=[Table([metric, "model", "base model", "model − base", CASES], rows)])
    ]


def evaluation_page(
    evaluation: Evaluation,
    samples: "Sequence[Sample]",
    plots: Mapping[Path, str],
    provenance: Mapping[str, str],
    validation: Evaluation | None,
    validation_metric: str,
) -> str:
    """Return the report of an evaluation as HTML; `plots` are captions by path, the headline plot first.

    `validation` has the figures of `validation_metric` on the validation split.
    """
    counts = evaluation.counts
    verdict_first = [VERDICT_FIRST] if evaluation.markers == "before" else []
    headline, plots = split_headline(plots)
    sections = [
        Section(
            "Headline",
            (*evaluation.shortcomings, INTERVALS, *verdict_first, *ties(evaluation), *excluded_measures(evaluation)),
            headline,
            (headline_table(evaluation),),
        ),
        *baselines_section({"": evaluation}),
        Section("How to read this", (*MEANINGS, READING, *leakage_sentences(counts), *coverage(counts))),
        *promotion_section(evaluation, validation, validation_metric),
        *policy_section(evaluation),
        Section("Plots", pictures=plots),
        Section("Lengths", tables=[lengths_table(counts)]),
        Section("Samples", () if samples else ("There are no samples.",), samples=samples_by_prompt(samples)),
        Section("All figures", tables=all_tables(evaluation)),
        *provenance_section(provenance),
    ]
    lead = (
        f"{counts['conversations.evaluated']:,} of the {counts['conversations.test']:,} conversations of the test"
        f" split; objective {evaluation.objective}."
    )
    return page(" of ".join(["Evaluation", *filter(None, [provenance.get("dataset")])]), lead, sections)


def comparison_page(comparison: Comparison, plots: Mapping[Path, str], facts: Mapping[str, str]) -> str:
    """Return the report of a comparison as HTML, which opens with the verdict.

    `plots` are captions by path, the headline plot first; `facts` say where the models come from, by label.
    """
    evaluations = comparison.evaluations
    notes = [f"{name}: {sentence}" for name, each in evaluations.items() for sentence in each.shortcomings]
    notes += [
        f"The test splits of {first} and {second} hold the same walks."
        for first, second in combinations(evaluations, 2)
        if evaluations[first].test_split == evaluations[second].test_split
    ]
    notes += [f"{name}: {VERDICT_FIRST}" for name, each in evaluations.items() if each.markers == "before"]
    if len({each.test_split for each in evaluations.values()}) > 1:
        notes.append(DATASETS_DIFFER)
    notes += dict.fromkeys(sentence for each in evaluations.values() for sentence in ties(each))
    notes += dict.fromkeys(judge_sentence(each) for each in evaluations.values() if each.judge)
    notes += [f"{name}: {sentence}" for name, each in evaluations.items() for sentence in excluded_measures(each)]
    headline, plots = split_headline(plots)
    sections = [
        Section("Verdict", verdict(comparison)),
        Section("Headline", (INTERVALS, READING, *notes), headline, comparison_tables(comparison)),
        *(
            Section(
                f"{first} minus {second}",
                ("The same cases, paired." if found else "The two models share no case.",),
                tables=[differences_table(comparison, (first, second))] if found else (),
            )
            for (first, second), found in comparison.differences.items()
        ),
        *baselines_section(evaluations),
        Section("How to read this", MEANINGS),
        Section("Plots", pictures=plots),
    ]
    lead = "; ".join([f"{', '.join(evaluations)}, each with its base model", *map(": ".join, facts.items())])
    return page("Comparison", f"{lead}.", sections)
