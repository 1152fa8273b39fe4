"""What people look at: one page an evaluation, one for a comparison, whole in one file.

Pictures are inside the page as data, and nothing is fetched or run, so that it opens from disk without a
network, in MLflow's artifact viewer, which lets no script run, and on paper. `report.html` beside this
module is the template; it escapes every text, because texts of a corpus are anybody's. The headline table
is also had as Markdown, for Dagster's pages. Cost: 40 ms, and 0.2 s to import Jinja.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.evaluation.bootstrap import Estimate, holm

if TYPE_CHECKING:
    from adc_pipeline.evaluation.comparison import Comparison
    from adc_pipeline.evaluation.evaluation import Evaluation
    from adc_pipeline.evaluation.samples import Sample

CASES = "cases (conversations)"
CHANCE = {"preference_accuracy": "0.5", "steering": "0.5", "in_context_improvement": "0"}

HEADLINES = (
    "preference_accuracy",
    "preference_accuracy.within_hour",
    "preference_accuracy.later_doubled",
    "steering",
    "in_context_improvement",
    "verdict_calibration.brier",
    "bits_per_byte",
    "bits_per_byte.accepted",
    "bits_per_byte.rejected",
    "perplexity",
)

CAPTIONS = {
    "headline": "Preference accuracy, steering and in-context improvement",
    "in_context_improvement": "In-context improvement by the number of rejected siblings before the accepted turn",
    "preference_accuracy_by_gap": "Preference accuracy by score gap",
    "calibration": "Calibration of P(accepted)",
    "bits_per_byte": "Bits per byte of held-out turns",
    "study": "Means over the seeds with their intervals; ticks are the seeds, grey bars the base model",
}

INTERVALS = (
    "Every figure has its 95 % interval, a bootstrap over conversations; one that rests on fewer than about twenty of"
    " them is too narrow. A p-value is that of a paired, two-sided randomization test over conversations;"
    " Holm's correction makes up for all tests of its table, or of the page where a page compares models."
)
MEANINGS = (
    "Preference accuracy: how often the model expects the verdict accepted rather after the better-scored of two"
    " siblings. Steering: how often a rejected turn calls for a sibling, and an accepted one for a reply.",
    "In-context improvement: bits per byte of accepted turns with the rejected siblings before them left in, minus with"
    " them taken out; negative is improvement. Bits per byte and perplexity are of a turn's speaker line and text,"
    " without the marker.",
    "Verdict calibration: the Brier score of P(accepted) among the two verdicts, after each turn of the dataset's own"
    " walks; 0 is perfect. Its constant is the share of accepted turns, whatever the turn.",
)
READING = (
    "In top-2 the verdict follows the ranking, so preference accuracy is what it teaches. In random-walk the verdict is"
    " a coin that knows nothing of the text: its preference accuracy belongs near or below chance, and steering is what"
    " it can teach."
)
TOLD = (
    "This model, and the base model with it, reads each turn's verdict before the turn, so that bits per byte are of a"
    " turn given its verdict, and a sample is a turn that it was asked for by its verdict."
)

OTHER_WALKS = (
    "In-context improvement, calibration, bits per byte and perplexity are of the turns of each dataset's own walks, so"
    " that two datasets are not to be compared by them; preference accuracy and steering ask both the same."
)


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def markdown(self) -> str:
        """As Dagster's pages show it."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


@dataclass(frozen=True)
class Section:
    """A part of a page: paragraphs, then pictures, then tables, then samples by prompt."""

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Path] = ()
    tables: Sequence[Table] = ()
    samples: "Sequence[Mapping[str, Sample]]" = field(default=())


def figure(estimate: Estimate | None) -> str:
    """`0.612 [0.580, 0.644]`, which may break before the bracket; a dash where the measure does not exist."""
    if estimate is None:
        return "–"
    if estimate.value is None:
        return "no cases"
    value = signed(estimate.value)
    if estimate.low is None or estimate.high is None:
        return f"{value} (one conversation)"
    return f"{value} [{signed(estimate.low)},\N{NO-BREAK SPACE}{signed(estimate.high)}]"


def rests_on(estimate: Estimate) -> str:
    return f"{estimate.cases:,} ({estimate.conversations:,})"


def signed(number: float) -> str:
    return (f"{number:.3f}" if abs(number) < 100 else f"{number:,.0f}").replace("-", "−")


def p_value(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The page as HTML; `title` and `lead` stand at its head."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def inline(picture: Path) -> str:
        return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"

    template = environment.get_template("report.html")
    return template.render(title=title, lead=lead, sections=sections, inline=inline, captions=CAPTIONS) + "\n"


def headline_table(evaluation: "Evaluation") -> Table:
    """The figures that a run is known by, next to what they are compared with."""
    corrected = holm({name: each.p for name, each in evaluation.minus_base.items() if each.p is not None})
    rows = []
    for name in HEADLINES:
        if name not in evaluation.model:
            continue
        ours, apart = evaluation.model[name], evaluation.minus_base.get(name)
        baseline = evaluation.length.get(name) or evaluation.constant.get(name)
        rows.append(
            [
                name,
                CHANCE.get(name.split(".")[0], "–"),
                figure(ours),
                figure(evaluation.base.get(name)),
                figure(baseline),
                figure(apart),
                p_value(corrected.get(name)),
                rests_on(ours),
            ]
        )
    header = ["measure", "chance", "model", "base model", "length alone, or constant", "model − base", "p (Holm)"]
    return Table([*header, CASES], rows)


def estimates_table(columns: Mapping[str, Mapping[str, Estimate]], counted: Sequence[str]) -> Table:
    """One row a measure, one column a model; chance beside them, and the cases of the columns `counted`."""
    measures = dict.fromkeys(name for column in counted for name in columns[column])
    header = ["measure", "chance", *columns]
    for column in counted:
        header.append(f"{CASES}, {column}" if len(counted) > 1 else CASES)
    rows = []
    for name in measures:
        row = [name, CHANCE.get(name.split(".")[0], "–")]
        row += [figure(estimates.get(name)) for estimates in columns.values()]
        for column in counted:
            estimate = columns[column].get(name)
            row.append("–" if estimate is None else rests_on(estimate))
        rows.append(row)
    return Table(header, rows)


def lengths_table(counts: Mapping[str, float | None]) -> Table:
    """How long held-out turns are, and how long and varied what the model writes."""

    def row(label: str, of: str) -> list[str]:
        names = [prefix + of.format(verdict) for prefix in ("", "base.") for verdict in ("rejected", "accepted")]
        values = [counts.get(name) for name in names]
        return [label, *("–" if value is None else f"{value:,.2f}" for value in values)]

    return Table(
        ["mean", "rejected", "accepted", "base model, rejected", "base model, accepted"],
        [
            row("bytes of a held-out turn with this verdict", "bytes.{}"),
            row("words of a sample after this verdict", "samples.{}.words"),
            row("distinct words among its words", "samples.{}.distinct_1"),
            row("distinct pairs of words among its pairs", "samples.{}.distinct_2"),
            row("runs of four words that occurred before", "samples.{}.repetition"),
            row("share that keeps the grammar of the markers", "samples.{}.valid"),
        ],
    )


def side_by_side(samples: "Sequence[Sample]") -> "list[dict[str, Sample]]":
    """Samples of one prompt together, by what stands above each."""
    together: dict[tuple[str, str], dict[str, Sample]] = {}
    for sample in samples:
        above = ("base model, " if sample.writer == "base model" else "") + f"after {sample.verdict}"
        together.setdefault((sample.conversation_id, sample.prompt), {})[above] = sample
    return list(together.values())


def missing(evaluation: "Evaluation") -> list[str]:
    """A sentence for everything that is left out."""
    return [f"Left out: {name}, because {reason}." for name, reason in evaluation.left_out.items()]


def evaluation_page(
    evaluation: "Evaluation", samples: "Sequence[Sample]", plots: Sequence[Path], provenance: Mapping[str, str]
) -> str:
    """The report of one evaluation."""
    counts = evaluation.counts
    told = [TOLD] if evaluation.markers == "before" else []
    seen = (
        f"Of {counts['queries']:,} questions to a model, {counts['queries.cut']:,} had a context too long for it and"
        f" saw the start of the background and the nearest turns; {counts['queries.left_out']:,} had a reply too long"
        " for it and are left out."
    )
    no_room = [
        f"Of {measure} {counts[name]:,} cases are left out, since their context had no room for what they are about."
        for measure in ("steering", "in_context_improvement")
        if (name := f"{measure}.left_out") in counts
    ]
    columns = {
        "model": evaluation.model,
        "base model": evaluation.base,
        "length alone": evaluation.length,
        "constant": evaluation.constant,
    }
    sections = [
        Section("Headline", (INTERVALS, *told, *missing(evaluation)), plots[:1], (headline_table(evaluation),)),
        Section("How to read this", (*MEANINGS, READING, seen, *no_room)),
        Section("Plots", (), plots[1:]),
        Section("Lengths", (), (), (lengths_table(counts),)),
        Section(
            "Samples",
            () if samples else ("There are no samples.",),
            samples=side_by_side(samples),
        ),
        Section("All figures", (), (), (estimates_table(columns, ["model"]),)),
    ]
    if provenance:
        sections.append(Section("Provenance", (), (), (Table(["what", "value"], list(provenance.items())),)))
    lead = (
        f"{counts['conversations.evaluated']:,} of the {counts['conversations.test']:,} conversations of the test"
        f" split; objective {evaluation.objective}."
    )
    return page(" of ".join(["Evaluation", *filter(None, [provenance.get("dataset")])]), lead, sections)


def differences_table(comparison: "Comparison", pair: tuple[str, str]) -> Table:
    """First minus second, over the cases that both have."""
    corrected = comparison.corrected()
    rows = [
        [
            measure,
            figure(difference),
            p_value(difference.p),
            p_value(corrected.get((pair, measure))),
            rests_on(difference),
        ]
        for measure, difference in comparison.differences[pair].items()
    ]
    header = ["measure", f"{pair[0]} − {pair[1]}", "p", "p (Holm)", CASES]
    return Table(header, rows)


def comparison_table(comparison: "Comparison") -> Table:
    """The headline figures of all models and their bases."""
    read = comparison.evaluations
    columns: dict[str, Mapping[str, Estimate]] = {name: each.model for name, each in read.items()}
    columns |= {f"base of {name}": each.base for name, each in read.items()}
    columns["length alone"] = next((each.length for each in read.values() if each.length), {})
    table = estimates_table(columns, list(read))
    return Table(table.header, [row for row in table.rows if row[0] in HEADLINES])


def comparison_page(comparison: "Comparison", plots: Sequence[Path]) -> str:
    """The report of a comparison."""
    read = comparison.evaluations
    left_out = [f"{name}: {sentence}" for name, each in read.items() for sentence in missing(each)]
    told = [f"{name}: {TOLD}" for name, each in read.items() if each.markers == "before"]
    if len({each.test_split for each in read.values()}) > 1:
        told.append(OTHER_WALKS)
    sections = [
        Section("Headline", (INTERVALS, READING, *told, *left_out), plots[:1], (comparison_table(comparison),)),
        *(
            Section(
                f"{first} minus {second}",
                ("The same cases, paired." if found else "The two have no case in common.",),
                (),
                (differences_table(comparison, (first, second)),) if found else (),
            )
            for (first, second), found in comparison.differences.items()
        ),
        Section("How to read this", MEANINGS),
        Section("Plots", (), plots[1:]),
    ]
    return page("Comparison", f"{', '.join(read)}, each with its base model.", sections)
