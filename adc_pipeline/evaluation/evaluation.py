"""The result of an evaluation: estimates of a model and of its baselines, as stored in `evaluation.json`."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from adc_pipeline.core.records import read_record, unfit_record
from adc_pipeline.evaluation.intervals.estimate import Difference, Estimate

Estimates = dict[str, Estimate]

# The folder, in that of an evaluation, of the figures of the validation split, on which promotion decides.
VALIDATION = "validation"


@dataclass(frozen=True)
class Evaluation:
    """Estimates by measure, of a model and of what it is compared with."""

    model: Estimates
    base: Estimates
    length: Estimates  # preference accuracy of the reply length alone, and steering of a shift per byte
    constant: Estimates  # calibration of the share of accepted turns, whatever the turn
    minus_base: dict[str, Difference]  # model minus base, paired, for the measures `TESTED`
    counts: Mapping[str, float | None]  # conversations and queries, lengths, and the figures of the samples
    test_split: str  # SHA-256 of the walks that bits per byte, improvement and calibration rest on
    objective: str
    markers: str  # where they stand: `after` their turns, `before` them, or `none`
    left_out: Mapping[str, str]  # measures and samples that do not apply to the model, with the reason
    shortcomings: tuple[str, ...] = ()  # sentences on what the dataset cannot teach
    grammar: Estimates = field(default_factory=dict)  # calibration of the verdict before a turn alone
    baselines: Mapping[str, Estimates] = field(default_factory=dict)  # of preference accuracy, besides length
    minus_baselines: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)  # model minus each, paired
    judge: Estimates = field(default_factory=dict)  # preference accuracy of the judge of policy improvement
    judge_name: str = ""
    judge_digest: str = ""

    def metrics(self) -> dict[str, float | None]:
        """Return all figures by flat names, the same for every model; None where there is no case.

        The model has NAME, NAME.low, NAME.high, NAME.cases and NAME.conversations. Baselines have the first three, with
        the prefix `base.`, `length.`, `constant.`, `grammar.`, `judge.` or that of a baseline in `baselines.py`.
        Differences have the prefix `minus_base.` or `minus_BASELINE.`, and NAME.p, which is not corrected for several
        tests.
        """
        flat: dict[str, float | None] = dict(self.counts)
        groups: list[tuple[str, Mapping[str, Estimate]]] = [
            ("", self.model),
            ("base.", self.base),
            ("length.", self.length),
            ("constant.", self.constant),
            ("grammar.", self.grammar),
            ("judge.", self.judge),
            ("minus_base.", self.minus_base),
            *((f"{name}.", found) for name, found in self.baselines.items()),
            *((f"minus_{name}.", found) for name, found in self.minus_baselines.items()),
        ]
        for prefix, found in groups:
            for name, estimate in found.items():
                figures = estimate.figures()
                flat[prefix + name] = figures.pop("value")
                flat |= {
                    f"{prefix}{name}.{key}": figure
                    for key, figure in figures.items()
                    if not prefix or key in ("low", "high", "p")
                }
        return flat

    def learned_something(self) -> bool:
        """Return whether held-out perplexity is finite and below the base model's; False without held-out text."""
        ours, base = self.model["perplexity"].value, self.base["perplexity"].value
        return ours is not None and base is not None and math.isfinite(ours) and ours < base

    def write(self, folder: Path) -> None:
        """Write `evaluation.json`, for `read`, and the flat `metrics.json`."""
        (folder / "evaluation.json").write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")
        (folder / "metrics.json").write_text(json.dumps(self.metrics(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """Read `evaluation.json` from a folder; raise DamagedError if it is not what `write` wrote."""
        path = folder / "evaluation.json"
        # Older versions wrote none of them.
        record = {"grammar": {}, "judge": {}, "baselines": {}, "minus_baselines": {}} | read_record(path)
        try:
            for name in ("model", "base", "length", "constant", "grammar", "judge"):
                record[name] = {measure: Estimate(**figures) for measure, figures in record[name].items()}
            record["baselines"] = {
                name: {measure: Estimate(**figures) for measure, figures in found.items()}
                for name, found in record["baselines"].items()
            }
            record["minus_base"], *others = (
                {measure: Difference(**figures) for measure, figures in found.items()}
                for found in (record["minus_base"], *record["minus_baselines"].values())
            )
            record["minus_baselines"] = dict(zip(record["minus_baselines"], others, strict=True))
            return cls(**record | {"shortcomings": tuple(record.get("shortcomings", ()))})
        except (KeyError, TypeError, AttributeError) as error:
            raise unfit_record(path, error) from error
