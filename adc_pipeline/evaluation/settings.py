"""How a model is evaluated: caps that keep a large corpus affordable, and what is drawn at random.

The caps choose by a fixed hash order, so that two models, and the base model, are asked about the same
cases; what they left out is counted in the report. The seed is not called `seed`, which among a run's
parameters is the training's.
"""

from dataclasses import dataclass, field

from adc_pipeline.core.errors import PipelineError


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of the evaluation assets."""

    max_conversations: int = field(
        default=500,
        metadata={"description": "Test conversations that are evaluated; of more, a fixed choice by hash."},
    )
    max_groups: int = field(
        default=20,
        metadata={"description": "Sibling groups of a conversation that preference accuracy looks at."},
    )
    max_siblings: int = field(
        default=5, metadata={"description": "Best-ranked siblings of a group that are compared in pairs."}
    )
    max_steering: int = field(
        default=4, metadata={"description": "Turns of a conversation that steering is tested on."}
    )
    max_context_tokens: int = field(
        default=1024,
        metadata={
            "description": "Longest text that is asked about, in tokens; never more than the model can read, nor than"
            " the `sequence_length` of its training."
        },
    )
    row_tokens: int = field(
        default=2048,
        metadata={
            "description": "Tokens scored in one forward pass (more where contexts are long); only speed and memory"
            " depend on it."
        },
    )
    draws: int = field(
        default=10_000, metadata={"description": "Resamples of the conversations, and sign flips of the tests."}
    )
    samples: int = field(default=16, metadata={"description": "Contexts for which continuations are sampled."})
    max_new_tokens: int = field(default=64, metadata={"description": "Longest sampled continuation in tokens."})
    temperature: float = field(
        default=0.8, metadata={"description": "Sampling temperature; 0 takes the likeliest token."}
    )
    draw_seed: int = field(default=0, metadata={"description": "Seed of the bootstrap, the tests and the samples."})

    def __post_init__(self) -> None:
        check_draws(self.draws)


@dataclass(frozen=True)
class ComparisonSettings:
    """Settings of the asset `comparison`."""

    draws: int = field(
        default=10_000, metadata={"description": "Resamples of the conversations, and sign flips of the tests."}
    )
    draw_seed: int = field(default=0, metadata={"description": "Seed of the bootstrap and of the tests."})

    def __post_init__(self) -> None:
        check_draws(self.draws)


def check_draws(draws: int) -> None:
    if draws < 1:
        raise PipelineError(f"`draws` of the evaluation is {draws}; use 1 or more, 10000 for a result to be shown.")
