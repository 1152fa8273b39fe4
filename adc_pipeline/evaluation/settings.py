"""Settings of the evaluation and comparison assets.

Limits keep a large corpus affordable. Where one applies, a fixed order by hash chooses, so that two models, and the
base model, are asked about the same cases; the report counts what was excluded. The seed is named `draw_seed` because
`seed`, among a run's parameters, is the training's.
"""

from dataclasses import dataclass
from typing import Any, Literal

from adc_pipeline.core.settings import LARGEST_SEED, Settings, setting
from adc_pipeline.walks.kinds import KINDS

# Whether higher is better (1) or lower is better (-1), for each metric in which every model is tested against its base.
# Bits per byte of rejected turns are excluded, since some objectives are meant to raise them.
DIRECTIONS = {
    "preference_accuracy": 1,
    "preference_accuracy.within_hour": 1,
    "preference_accuracy.later_doubled": 1,
    "steering": 1,
    "in_context_improvement": -1,
    "verdict_calibration.brier": -1,
    "bits_per_byte.accepted": -1,
}
# What the datasets teach.
TAUGHT = ", ".join(f"{kind.promoted_by} for {kind.name}" for kind in KINDS.values())


def draws_setting() -> Any:
    """Return the field of the setting `draws`."""
    return setting(
        10_000, "Bootstrap resamples, and sign flips of the significance tests.", minimum=1, maximum=1_000_000
    )


def seed_setting(description: str) -> Any:
    """Return the field of the setting `draw_seed`."""
    return setting(0, description, minimum=0, maximum=LARGEST_SEED)


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """Settings of the evaluation assets."""

    max_conversations: int = setting(500, "Maximum number of test conversations; a fixed choice by hash.", minimum=1)
    max_groups: int = setting(
        20, "Maximum number of sibling groups of a conversation for preference accuracy.", minimum=1
    )
    max_siblings: int = setting(5, "Siblings of a group, best-ranked first, that are compared in pairs.", minimum=2)
    max_steering: int = setting(4, "Maximum number of turns of a conversation for steering.", minimum=1)
    max_contrasts: int = setting(
        200,
        "Maximum number of sibling groups for the rejection contrast; one of each conversation before a second one.",
        minimum=0,
    )
    max_context_tokens: int = setting(
        1024,
        "Maximum context length in tokens. The model's own limit and the `sequence_length` of its training apply too.",
        minimum=16,
        maximum=1_048_576,
    )
    row_tokens: int = setting(
        2048,
        "Tokens scored in one forward pass, or more for a longer context. Affects only speed and memory.",
        minimum=1,
        maximum=1_000_000_000,
    )
    validation_metric: str = setting(
        "",
        "Metric that is also measured on the validation split, where promotion decides; change it together with the"
        f" champion's `metric`. Empty: what the dataset teaches, {TAUGHT}; in a study, none.",
        choices=("", *DIRECTIONS),
    )
    validation_conversations: int = setting(
        200, "Maximum number of conversations of the validation split; a fixed choice by hash.", minimum=1
    )
    leakage: Literal["equal", "near"] = setting(
        "near",
        "Which test conversations are excluded: those whose root is equal to one of the training split, or also those"
        " that are nearly like one there, root or whole conversation (near). The generated sample, which repeats its"
        " roots, excludes none.",
    )
    draws: int = draws_setting()
    samples: int = setting(16, "Number of contexts for which continuations are sampled.", minimum=0, maximum=1_000_000)
    max_new_tokens: int = setting(
        64, "Maximum length of a sampled continuation in tokens.", minimum=1, maximum=1_048_576
    )
    temperature: float = setting(
        0.8, "Sampling temperature; 0 selects the most likely token.", minimum=0, maximum=1_000
    )
    contexts: int = setting(
        125, "Number of test conversations in which policy improvement is measured; 0 measures none.", minimum=0
    )
    rejections: int = setting(
        4,
        "How often the model's own reply is rejected before its last one, for policy improvement.",
        minimum=1,
        maximum=100,
    )
    reply_tokens: int = setting(
        64, "Maximum length in tokens of a reply for policy improvement.", minimum=1, maximum=1_048_576
    )
    draw_seed: int = seed_setting("Seed for the bootstrap, the significance tests and the samples.")


@dataclass(frozen=True)
class JudgeSettings(Settings):
    """Settings of the asset `judge`."""

    max_pairs: int = setting(
        100_000, "Maximum number of sibling pairs of the training split; a fixed choice by hash.", minimum=1
    )
    max_held_out_pairs: int = setting(
        20_000,
        "The same for the validation split, and for the test split; a reward model scores 1,000 of each.",
        minimum=1,
    )
    reward_model: str = setting(
        "",
        "Folder or Hub name of a sequence-classification model, which judges replies in place of the bag of words, and"
        " is a baseline of preference accuracy. Empty: none.",
    )
    reward_revision: str | None = setting(None, "Branch, tag or commit of a reward model on the Hub.")
    reward_template: str = setting(
        "",
        "What the reward model reads, with {post}, {reply} and {eos}. Empty: {post}{eos}{reply}, or SteamSHP's question"
        " for a text-to-text model.",
        lines=True,
    )
    instruct_model: str = setting(
        "",
        "Folder or Hub name of a model that follows instructions. It writes replies too, and is told in words which"
        " were rejected: a control of policy improvement without training. Empty: none.",
    )
    instruct_revision: str | None = setting(None, "Branch, tag or commit of an instruct model on the Hub.")
    draws: int = draws_setting()
    draw_seed: int = seed_setting("Seed for the bootstrap.")


@dataclass(frozen=True)
class ComparisonSettings(Settings):
    """Settings of the asset `comparison`."""

    draws: int = draws_setting()
    draw_seed: int = seed_setting("Seed for the bootstrap and the significance tests.")
