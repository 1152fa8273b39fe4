"""A model folder and its base, asked about the same test cases: figures, cases, samples, report, plots.

Everything is written into a folder that the caller has made, and that nobody reads before the caller
renames it. On the sample corpus (175 test conversations, 2,200 queries, 0.6 million parameters) all of it
takes about 6.5 s of one core after the imports: 2.4 s of scoring for each of the two models, 0.8 s of plots,
0.3 s of samples, 0.1 s of bootstrap.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adc_pipeline.evaluation import measures
from adc_pipeline.evaluation.bootstrap import Estimate
from adc_pipeline.evaluation.cases import Cases, answered, read_cases
from adc_pipeline.evaluation.figures import draw
from adc_pipeline.evaluation.measures import Measured
from adc_pipeline.evaluation.report import escaped, estimates_table, table
from adc_pipeline.evaluation.samples import Sample, sample, sample_figures, write_samples
from adc_pipeline.evaluation.scoring import Progress, Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.rendering import Speakers

Estimates = dict[str, Estimate]


@dataclass(frozen=True)
class Evaluation:
    """What is known of one model: estimates by measure, for it and for what it is compared with."""

    model: Estimates
    base: Estimates
    length: Estimates  # preference accuracy of the reply length alone
    counts: Mapping[str, float | None]  # conversations and queries, and the figures of the samples

    def metrics(self) -> dict[str, float | None]:
        """Flat, under the same names for every model; None where no case says anything.

        NAME, NAME.low, NAME.high, NAME.cases and NAME.conversations for the model; the first three also
        with `base.` and `length.` before them, over the same cases.
        """
        flat: dict[str, float | None] = dict(self.counts)
        for prefix, estimates in (("", self.model), ("base.", self.base), ("length.", self.length)):
            for name, estimate in estimates.items():
                figures = asdict(estimate)
                flat[prefix + name] = figures.pop("value")
                flat |= {
                    f"{prefix}{name}.{key}": figure
                    for key, figure in figures.items()
                    if not prefix or key in ("low", "high")
                }
        return flat

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """What `evaluate` wrote into `folder`."""
        flat: dict[str, Any] = json.loads((folder / "metrics.json").read_bytes())
        names = [name.removesuffix(".cases") for name in flat if name.endswith(".cases")]

        def estimates(prefix: str) -> Estimates:
            return {
                name: Estimate(
                    flat.pop(prefix + name),
                    flat.pop(f"{prefix}{name}.low"),
                    flat.pop(f"{prefix}{name}.high"),
                    flat[f"{name}.cases"],
                    flat[f"{name}.conversations"],
                )
                for name in names
                if prefix + name in flat
            }

        model, base, length = (estimates(prefix) for prefix in ("", "base.", "length."))
        of_cases = {f"{name}.{kind}" for name in names for kind in ("cases", "conversations")}
        counts = {name: value for name, value in flat.items() if name not in of_cases}
        return cls(model, base, length, counts)


def evaluate(
    model: Path,
    base: Path,
    dataset: Path,
    utterances: Path,
    ranked: Path,
    out: Path,
    settings: EvaluationSettings | None = None,
    speakers: Speakers = "names",
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate the Hugging Face folder `model` against `base` on the test split of `dataset`.

    `dataset`, `utterances` and `ranked` are the folders that those stages wrote, `speakers` is the
    dataset's setting; `out` is an empty folder and receives `metrics.json`, `cases.parquet`,
    `samples.parquet`, `report.md` and the plots. `progress` is called with what is being done, how much
    of it is done, and how much there is.
    """
    settings = settings or EvaluationSettings()
    scorer = Scorer.load(model, settings)
    format = next(name for name, markers in FORMATS.items() if markers == scorer.tokenizer.markers)
    cases = read_cases(dataset, utterances, ranked, format, speakers, settings, out / "spill")
    scores = scorer.score(cases.queries, cases.ask_text, progress, "model")
    samples = sample(scorer, cases, settings)
    scorer = Scorer.load(base, settings)
    base_scores = scorer.score(cases.queries, cases.ask_text, progress, "base model")
    fits = scores.fits & base_scores.fits
    sets = (
        answered(cases.pairs, fits),
        answered(cases.steerings, fits),
        answered(cases.turns, fits),
        answered(cases.improvements, fits),
    )
    model_measures = measures.all_measures(sets, scores)
    base_measures = measures.all_measures(sets, base_scores)
    length_measures = measures.preference_accuracy(sets[0], sets[0].better_bytes, sets[0].worse_bytes)

    def estimates(measured: list[Measured]) -> Estimates:
        return {each.name: each.estimate(settings.draws, settings.seed) for each in measured}

    counts = {
        "conversations.test": cases.test_conversations,
        "conversations.evaluated": len(cases.conversations),
        "queries": len(cases.queries),
        "queries.left_out": int((~fits).sum()),
        "queries.cut": int((scores.cut | base_scores.cut)[fits].sum()),
    }
    evaluation = Evaluation(
        estimates(model_measures),
        estimates(base_measures),
        estimates(length_measures),
        counts | sample_figures(samples),
    )
    (out / "metrics.json").write_text(json.dumps(evaluation.metrics(), indent=1, allow_nan=False) + "\n")
    write_cases(out / "cases.parquet", cases, model_measures, base_measures, length_measures)
    write_samples(out / "samples.parquet", samples)
    (out / "report.md").write_text(report(evaluation, samples), encoding="utf-8")
    draw(out, {"base model": evaluation.base, "model": evaluation.model, "length alone": evaluation.length})
    return evaluation


def report(evaluation: Evaluation, samples: list[Sample]) -> str:
    """The figures, what they rest on, and the samples, for a person to read."""
    counts = evaluation.counts
    figures = {"model": evaluation.model, "base model": evaluation.base, "length alone": evaluation.length}
    shown = ("prompt", "verdict", "continuation", "ended", "words", "distinct_1", "distinct_2", "valid")
    rows = [[cell(getattr(sample, name)) for name in shown] for sample in samples]
    return "\n".join(
        [
            "# Evaluation\n",
            f"{counts['conversations.evaluated']:,} of the {counts['conversations.test']:,} conversations of the"
            " test split. Every figure has its 95 % interval, a bootstrap over conversations; one that rests on"
            " fewer than about twenty of them is too narrow.\n",
            estimates_table(figures, ["model"]),
            "Bits per byte and perplexity are of a turn's segment: speaker line and text, without the marker."
            " In-context improvement is bits per byte of accepted turns with the rejected siblings before them,"
            " minus without; negative is improvement."
            f" Of {counts['queries']:,} questions to a model, {counts['queries.cut']:,} had a context too long for"
            " it and saw the start of the background and the nearest turns;"
            f" {counts['queries.left_out']:,} had a reply too long for it and are left out.\n",
            "## Samples\n",
            table(shown, rows) if samples else "No test conversation to sample from.\n",
        ]
    )


def cell(value: str | bool | int | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "–" if value is None else escaped(str(value))


def write_cases(path: Path, cases: Cases, model: list[Measured], base: list[Measured], length: list[Measured]) -> None:
    """Every case of every measure, so that two models can be compared case by case.

    Columns: `measure`, `conversation_id`, `case` (see `cases.py`), `weight`, `model`, `base`, and `length`
    where there is one; a measure is the sum of a column over the sum of the weights.
    """
    import pyarrow as pa
    import pyarrow.parquet

    # Lists, because pyarrow imports pandas (0.6 s) to look at an array of numpy.
    length_of = {measured.name: measured.value.tolist() for measured in length}
    ids = np.array(cases.conversations, dtype=np.str_)
    schema = pa.schema(
        {name: pa.string() for name in ("measure", "conversation_id", "case")}
        | {name: pa.float64() for name in ("weight", "model", "base", "length")}
    )
    tables = [
        pa.table(
            [
                pa.array([ours.name] * len(ours.value), pa.string()),
                pa.array(ids[ours.conversation].tolist(), pa.string()),
                pa.array(ours.case.tolist(), pa.string()),
                pa.array(ours.weight.tolist(), pa.float64()),
                pa.array(ours.value.tolist(), pa.float64()),
                pa.array(theirs.value.tolist(), pa.float64()),
                pa.array(length_of.get(ours.name, [None] * len(ours.value)), pa.float64()),
            ],
            schema=schema,
        )
        for ours, theirs in zip(model, base, strict=True)
    ]
    pyarrow.parquet.write_table(pa.concat_tables(tables), path, compression="zstd")
