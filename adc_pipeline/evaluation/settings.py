"""Settings of the evaluation and comparison assets.

Limits keep a large corpus affordable. Where one applies, a fixed order by hash chooses, so that two models, and the
base model, are asked about the same cases; the report counts what was excluded. The seed is named `draw_seed` because
`seed`, among a run's parameters, is the training's.
"""

from dataclasses import dataclass

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting

DRAWS = "Bootstrap resamples, and sign flips of the significance tests."


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of the evaluation assets."""

    max_conversations: int = setting(500, "Maximum number of test conversations; a fixed choice by hash.")
    max_groups: int = setting(20, "Maximum number of sibling groups of a conversation for preference accuracy.")
    max_siblings: int = setting(5, "Siblings of a group, best-ranked first, that are compared in pairs.")
    max_steering: int = setting(4, "Maximum number of turns of a conversation for steering.")
    max_context_tokens: int = setting(
        1024,
        "Maximum context length in tokens. The model's own limit and the `sequence_length` of its training apply too.",
    )
    row_tokens: int = setting(
        2048, "Tokens scored in one forward pass, or more for a longer context. Affects only speed and memory."
    )
    draws: int = setting(10_000, DRAWS)
    samples: int = setting(16, "Number of contexts for which continuations are sampled.")
    max_new_tokens: int = setting(64, "Maximum length of a sampled continuation in tokens.")
    temperature: float = setting(0.8, "Sampling temperature; 0 selects the most likely token.")
    draw_seed: int = setting(0, "Seed for the bootstrap, the significance tests and the samples.")

    def __post_init__(self) -> None:
        check_draws(self.draws)


@dataclass(frozen=True)
class ComparisonSettings:
    """Settings of the asset `comparison`."""

    draws: int = setting(10_000, DRAWS)
    draw_seed: int = setting(0, "Seed for the bootstrap and the significance tests.")

    def __post_init__(self) -> None:
        check_draws(self.draws)


def check_draws(draws: int) -> None:
    """Raise PipelineError unless there is at least one draw."""
    if draws < 1:
        raise PipelineError(f"The setting `draws` is {draws}; use 1 or more, or 10000 for a result to publish.")
