"""What one evaluation compares, and the files that it reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adc_pipeline.walks.rendering import Speakers


@dataclass(frozen=True)
class EvaluationJob:
    """What is evaluated: a model, its base model, and the dataset whose test split asks the questions.

    `model` and `base` are Hugging Face folders; `dataset`, `utterances` and `ranked` are the folders of those stages.
    `speakers` and `mentions` are the dataset's settings. `provenance` names, in the report, where model and data come
    from.
    `score_cache` is a folder that keeps the base model's scores for the next evaluation that asks it the same.
    `shortcomings` are sentences on what the dataset cannot teach, for the report. `judge` is the folder of the judge of
    replies; without one, policy improvement is not measured. `exclude_repeated_roots` excludes the test conversations
    whose root also occurs in the training split. `reward_cache` is a folder that keeps a reward model's scores, and an
    instruct model's replies, for the evaluations of other models, which are asked the same.
    """

    model: Path
    base: Path
    dataset: Path
    utterances: Path
    ranked: Path
    speakers: Speakers = "names"
    mentions: Speakers = "names"
    provenance: Mapping[str, str] = field(default_factory=dict)
    score_cache: Path | None = None
    shortcomings: tuple[str, ...] = ()
    judge: Path | None = None
    exclude_repeated_roots: bool = True
    reward_cache: Path | None = None
