"""A model folder and its base, asked about the same test cases: figures, cases, samples, report, plots.

Everything is written into a folder that the caller has made, and that nobody reads before the caller
renames it. On the sample corpus (169 test conversations, 2,400 queries, 0.6 million parameters) all of it
takes about 6.5 s of one core after the imports: 1.8 s of scoring for each of the two models,
1.9 s of plots, 0.3 s of samples of each, 0.5 s of intervals and tests.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from adc_pipeline.core.artefacts import file_digest, folder_digest
from adc_pipeline.core.code_version import code_version
from adc_pipeline.evaluation import measures
from adc_pipeline.evaluation.bootstrap import Difference, Estimate
from adc_pipeline.evaluation.cases import Cases, answered, read_cases
from adc_pipeline.evaluation.figures import draw
from adc_pipeline.evaluation.learned import Learned
from adc_pipeline.evaluation.measures import Measured
from adc_pipeline.evaluation.report import evaluation_page
from adc_pipeline.evaluation.samples import Sample, sample, sample_figures, write_samples
from adc_pipeline.evaluation.scoring import Progress, Scorer, Scores
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.walks.datasets import split_file
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.rendering import Speakers

Estimates = dict[str, Estimate]

# What a model is tested against its base in, all at once: one reading of each thing that it may have learned.
TESTED = (
    "preference_accuracy",
    "preference_accuracy.within_hour",
    "preference_accuracy.later_doubled",
    "steering",
    "in_context_improvement",
    "verdict_calibration.brier",
    "bits_per_byte.accepted",
    "bits_per_byte.rejected",
)


@dataclass(frozen=True)
class Evaluation:
    """What is known of one model: estimates by measure, for it and for what it is compared with.

    `left_out` says of measures and of samples why they would mean nothing for this model.
    """

    model: Estimates
    base: Estimates
    length: Estimates  # preference accuracy of the reply length alone
    constant: Estimates  # calibration of the share of accepted turns, whatever the turn
    minus_base: dict[str, Difference]  # model minus base, paired, for the measures `TESTED`
    counts: Mapping[str, float | None]  # conversations and queries, lengths, and the figures of the samples
    test_split: str  # SHA-256 of the walks that bits per byte, improvement and calibration rest on
    objective: str
    markers: str  # where they stand: `after` their turns, `before` them, or `none`
    left_out: Mapping[str, str]

    def metrics(self) -> dict[str, float | None]:
        """Flat, under the same names for every model; None where no case says anything.

        NAME, NAME.low, NAME.high, NAME.cases and NAME.conversations for the model; the first three also
        with `base.`, `length.` or `constant.` before them; with `minus_base.`, and then NAME.p too, which
        is not corrected for several tests.
        """
        flat: dict[str, float | None] = dict(self.counts)
        for prefix, found in (
            ("", self.model),
            ("base.", self.base),
            ("length.", self.length),
            ("constant.", self.constant),
            ("minus_base.", self.minus_base),
        ):
            for name, estimate in found.items():
                figures = asdict(estimate)
                flat[prefix + name] = figures.pop("value")
                flat |= {
                    f"{prefix}{name}.{key}": figure
                    for key, figure in figures.items()
                    if not prefix or key in ("low", "high", "p")
                }
        return flat

    def learned_something(self) -> bool:
        """Whether held-out perplexity is finite and below the base model's; not so where nothing was held out."""
        ours, base = self.model["perplexity"].value, self.base["perplexity"].value
        return ours is not None and base is not None and math.isfinite(ours) and ours < base

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """What `evaluate` wrote into `folder`."""
        kept: dict[str, Any] = json.loads((folder / "evaluation.json").read_bytes())
        for name in ("model", "base", "length", "constant"):
            kept[name] = {measure: Estimate(**figures) for measure, figures in kept[name].items()}
        kept["minus_base"] = {measure: Difference(**figures) for measure, figures in kept["minus_base"].items()}
        return cls(**kept)


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
    provenance: Mapping[str, str] | None = None,
    remembered: Path | None = None,
) -> Evaluation:
    """Evaluate the Hugging Face folder `model` against `base` on the test split of `dataset`.

    `dataset`, `utterances` and `ranked` are the folders that those stages wrote, `speakers` is the
    dataset's setting; `out` is an empty folder and receives `evaluation.json`, `metrics.json`,
    `cases.parquet`, `samples.parquet`, `report.html` and the plots. What the model learned from, and so how
    its texts are laid out and which measures mean nothing, stands in its `training.json`. `progress` is
    called with what is being done, how much of it is done, and how much there is. `provenance` says in the
    report where model and data come from, as names and values. `remembered` is a folder in which the base
    model's answers are kept for the next evaluation that asks it the same.
    """
    settings = settings or EvaluationSettings()
    learned = Learned.read(model)
    if learned.longest_piece is not None:
        settings = replace(settings, max_context_tokens=min(settings.max_context_tokens, learned.longest_piece))
    scorer = Scorer.load(model, settings)
    format = next(name for name, markers in FORMATS.items() if markers == scorer.tokenizer.markers)
    cases = read_cases(dataset, utterances, ranked, format, speakers, settings, out / "spill", markers=learned.markers)
    marked = learned.markers != "none"
    scores = scorer.score(cases.queries, cases.ask_text, progress, "model", cases.told, marked)
    base_scorer = cache(lambda: Scorer.load(base, settings))
    samples: list[Sample] = []
    if settings.samples and "samples" not in learned.left_out:
        samples = sample(scorer, cases, settings, "model") + sample(base_scorer(), cases, settings, "base model")
    samples = [one for one in samples if f"samples.{one.verdict}" not in learned.left_out]

    def ask_base() -> Scores:
        return base_scorer().score(cases.queries, cases.ask_text, progress, "base model", cases.told, marked)

    asked = (code_version(__name__), folder_digest(base), settings.max_context_tokens, cases.queries, cases.told)
    base_scores = recalled(remembered, (*asked, marked, cases.ask_text.tobytes()), ask_base)
    fits = scores.fits & base_scores.fits
    cut = scores.cut | base_scores.cut
    # A turn that the context had no room for steers nothing, and rejected replies that crowd out what else was said
    # are not all that differs.
    sees_turn = (scores.turns > 0) & (base_scores.turns > 0)
    sets = (
        answered(cases.pairs, fits),
        answered(cases.steerings, fits & sees_turn),
        answered(cases.turns, fits),
        answered(cases.improvements, fits & ~cut),
    )
    turns = sets[2]
    scored = {"model": scores, "base": base_scores}
    series = {who: learned.meaningful(measures.all_measures(sets, each)) for who, each in scored.items()}
    series["length"] = learned.meaningful(
        measures.preference_accuracy(sets[0], sets[0].better_bytes, sets[0].worse_bytes)
    )
    series["constant"] = learned.meaningful([measures.constant_brier_score(turns)])
    curves = {
        who: learned.meaningful(measures.reliability(turns, measures.p_accepted(each.log_odds[turns.turn])))
        for who, each in scored.items()
    }
    counts = {
        "conversations.test": cases.test_conversations,
        "conversations.evaluated": len(cases.conversations),
        "context_tokens": scorer.context_tokens,
        "queries": len(cases.queries),
        "queries.left_out": int((~fits).sum()),
        "queries.cut": int(cut[fits].sum()),
        "bytes.accepted": mean(turns.bytes[turns.accepted]),
        "bytes.rejected": mean(turns.bytes[~turns.accepted]),
    }
    for name, every, kept in (
        ("steering", cases.steerings, sets[1]),
        ("in_context_improvement", cases.improvements, sets[3]),
    ):
        if name not in learned.left_out:
            counts[f"{name}.left_out"] = len(every.case) - len(kept.case)
    evaluation = Evaluation(
        **estimates(series, curves, settings),
        minus_base={
            ours.name: measures.difference(ours, theirs, settings.draws, settings.draw_seed)
            for ours, theirs in zip(series["model"], series["base"], strict=True)
            if ours.name in TESTED
        },
        counts=counts | sample_figures(samples),
        test_split=file_digest(dataset / split_file("test")),
        objective=learned.objective,
        markers=learned.markers,
        left_out=learned.left_out,
    )
    (out / "evaluation.json").write_text(json.dumps(asdict(evaluation), indent=1, allow_nan=False) + "\n")
    (out / "metrics.json").write_text(json.dumps(evaluation.metrics(), indent=1, allow_nan=False) + "\n")
    write_cases(out / "cases.parquet", cases, series["model"], series["base"], series["length"])
    write_samples(out / "samples.parquet", samples)
    plots = draw(out, {"base model": evaluation.base, "model": evaluation.model, "length alone": evaluation.length})
    page = evaluation_page(evaluation, samples, plots, provenance or {})
    (out / "report.html").write_text(page, encoding="utf-8")
    return evaluation


def recalled(folder: Path | None, asked: object, ask: Callable[[], Scores]) -> Scores:
    """The answers to what is `asked`, from `folder` if they are there, else from `ask` and kept there."""
    if folder is None:
        return ask()
    path = folder / f"{hashlib.sha256(repr(asked).encode()).hexdigest()}.npz"
    if path.exists():
        with np.load(path) as kept:
            return Scores(**kept)
    scores = ask()
    folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.stem}-{os.getpid()}.partial.npz")
    np.savez(aside, **{each.name: getattr(scores, each.name) for each in fields(scores)})
    aside.rename(path)
    return scores


def mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def estimates(
    series: Mapping[str, Sequence[Measured]], curves: Mapping[str, Sequence[Measured]], settings: EvaluationSettings
) -> dict[str, Estimates]:
    """Estimates by series and measure; the series of one measure, which share its cases, on the same resamples."""
    found: dict[str, Estimates] = {who: {} for who in series}
    for name in dict.fromkeys(each.name for measured in series.values() for each in measured):
        same = {who: each for who, measured in series.items() for each in measured if each.name == name}
        together = measures.estimates(list(same.values()), settings.draws, settings.draw_seed)
        for who, estimate in zip(same, together, strict=True):
            found[who][name] = estimate
    for who, measured in curves.items():
        for each in measured:
            (found[who][each.name],) = measures.estimates([each], settings.draws, settings.draw_seed)
    return found


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
