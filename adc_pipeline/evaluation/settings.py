"""How a model is evaluated: caps that keep a large corpus affordable, and what is drawn at random.

The caps choose by a fixed hash order, so that two models, and the base model, are asked about the same
cases; what they left out is counted in the report. The seed is not called `seed`, which among a run's
parameters is the training's.
"""

from dataclasses import dataclass

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of the evaluation assets."""

    max_conversations: int = setting(500, "Test conversations that are evaluated; of more, a fixed choice by hash.")
    max_groups: int = setting(20, "Sibling groups of a conversation that preference accuracy looks at.")
    max_siblings: int = setting(5, "Best-ranked siblings of a group that are compared in pairs.")
    max_steering: int = setting(4, "Turns of a conversation that steering is tested on.")
    max_context_tokens: int = setting(
        1024,
        "Longest text that is asked about, in tokens; never more than the model can read, nor than"
        " the `sequence_length` of its training.",
    )
    row_tokens: int = setting(
        2048, "Tokens scored in one forward pass (more where contexts are long); only speed and memory depend on it."
    )
    draws: int = setting(10_000, "Resamples of the conversations, and sign flips of the tests.")
    samples: int = setting(16, "Contexts for which continuations are sampled.")
    max_new_tokens: int = setting(64, "Longest sampled continuation in tokens.")
    temperature: float = setting(0.8, "Sampling temperature; 0 takes the likeliest token.")
    draw_seed: int = setting(0, "Seed of the bootstrap, the tests and the samples.")

    def __post_init__(self) -> None:
        check_draws(self.draws)


@dataclass(frozen=True)
class ComparisonSettings:
    """Settings of the asset `comparison`."""

    draws: int = setting(10_000, "Resamples of the conversations, and sign flips of the tests.")
    draw_seed: int = setting(0, "Seed of the bootstrap and of the tests.")

    def __post_init__(self) -> None:
        check_draws(self.draws)


def check_draws(draws: int) -> None:
    if draws < 1:
        raise PipelineError(f"`draws` of the evaluation is {draws}; use 1 or more, 10000 for a result to be shown.")
