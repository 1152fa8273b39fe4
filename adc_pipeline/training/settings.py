"""Settings of the base model and of a fine-tune, and the job that combines them with folders.

Plain frozen dataclasses serve Dagster's run configuration (each field has its description), the JSON file that the
training process reads, and a notebook. Values that cannot work are refused when an object is made, before any model is
loaded.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import LARGEST_SEED, Settings, setting

Objective = Literal[
    "mle",
    "accepted-only",
    "filtering",
    "conditional",
    "unlikelihood",
    "rwr",
    "awr",
    "a-lol",
    "hindsight",
    "quantiles",
    "dpo",
    "kto",
]
# Objectives that compare completions with what the base model thinks of them.
PREFERENCES = ("dpo", "kto")
# Objectives that write what they know of a turn before it.
MARKERS_FIRST = ("conditional", "hindsight", "quantiles")


# A new model of more parameters would fill most machines' memory before its first step.
MOST_PARAMETERS = 2e9


@dataclass(frozen=True)
class BaseModelSettings(Settings):
    """The model that every fine-tune starts from, whatever its dataset."""

    name: str = setting(
        "small", "`small` for a new small Llama, the name of a Hugging Face Hub model, or a local folder."
    )
    revision: str | None = setting(None, "Branch, tag or commit of a Hub model; recorded as a commit.")
    precision: Literal["kept", "float32"] = setting(
        "kept",
        "Type of the weights on disk, of the base model and of the models that are fine-tuned from it: kept is that of"
        " the named checkpoint, float32 takes twice the room of bfloat16. The training itself has float32 weights.",
    )
    layers: int = setting(2, "Number of transformer blocks of `small`.", minimum=1, maximum=1_000)
    width: int = setting(
        128, "Size of the hidden states of `small`, a multiple of 2 x `heads`.", minimum=1, maximum=65_536
    )
    heads: int = setting(4, "Number of attention heads of `small`.", minimum=1, maximum=1_024)
    vocabulary: int = setting(
        2048,
        "Maximum number of tokens in the tokenizer of `small`: 256 bytes, the end of text, markers, and merges.",
        minimum=260,
        maximum=1_000_000,
    )
    context: int = setting(2048, "Longest sequence of `small`, in tokens.", minimum=16, maximum=1_048_576)
    seed: int = setting(0, "Seed for the initial weights of `small`.", minimum=0, maximum=LARGEST_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "small" and self.width % (2 * self.heads):
            raise PipelineError(
                f"`width` {self.width} of the base model is not a multiple of 2 x `heads` ({self.heads}), which"
                " rotary positions need; change one of the two."
            )
        parameters = 12 * self.layers * self.width**2 + 2 * self.vocabulary * self.width
        if self.name == "small" and parameters > MOST_PARAMETERS:
            raise PipelineError(
                f"`layers` {self.layers}, `width` {self.width} and `vocabulary` {self.vocabulary} give the base model"
                f" about {parameters:.1g} parameters, and `small` is for at most {MOST_PARAMETERS:.0g}; lower them, or"
                " `name` a model of that size."
            )


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """Settings of a fine-tune. A step is one update of the weights."""

    objective: Objective = setting(
        "mle",
        "What the model learns from a walk: mle (every token), accepted-only, filtering, conditional (markers before"
        " their turns; preference accuracy, calibration and steering do not apply), unlikelihood, rwr, awr, a-lol (awr"
        " of better turns alone), hindsight (conditional in words, accepted turns learned), quantiles (conditional by"
        " rank), dpo or kto (preference optimization; the base model is the reference).",
    )
    alpha: float = setting(1.0, "Weight of the tokens of rejected turns with `unlikelihood`.", minimum=0, maximum=1_000)
    beta: float = setting(
        1.0,
        "Temperature of `rwr` and `awr`; the smaller, the more a high score counts.",
        more_than=0,
        maximum=1_000_000,
    )
    max_weight: float = setting(
        20.0, "Largest weight of a token with `rwr`, `awr` and `a-lol`.", more_than=0, maximum=1_000_000
    )
    preference_beta: float = setting(
        0.1, "Strength of the pull towards the base model with `dpo` and `kto`.", more_than=0, maximum=1_000
    )
    dropped_markers: float = setting(
        0.1, "Share of the turns without a marker with `conditional` and `quantiles`.", minimum=0, maximum=1
    )
    levels: int = setting(5, "Number of levels of `quantiles`, by rank among the siblings.", minimum=2, maximum=16)
    markers: Literal["kept", "stripped", "neutral"] = setting(
        "kept",
        "Ablation: stripped replaces every verdict marker by a line break, neutral by one marker for both verdicts.",
    )
    verdicts: Literal["true", "shuffled"] = setting(
        "true", "Control: shuffled permutes the verdicts of the turns of a walk."
    )
    sequence_length: int = setting(
        512, "Longest piece of a walk, in tokens; longer walks are cut.", minimum=16, maximum=1_048_576
    )
    tokens_per_step: int = setting(1024, "Tokens of a step, over all processes.", minimum=16, maximum=1_000_000_000)
    tokens_per_forward: int = setting(
        8192,
        "Maximum tokens in one forward pass on a device; determines its memory.",
        minimum=16,
        maximum=1_000_000_000,
    )
    epochs: float = setting(2.0, "Passes over the training split.", more_than=0, maximum=1_000_000)
    max_steps: int | None = setting(None, "Number of steps, instead of `epochs`.", minimum=1, maximum=1_000_000_000)
    learning_rate: float = setting(
        4e-3, "Peak learning rate; 1e-5 to 1e-4 for a pretrained model.", more_than=0, maximum=10
    )
    warmup: float = setting(0.05, "Share of the steps in which the learning rate rises.", minimum=0, maximum=1)
    weight_decay: float = setting(
        0.01, "Weight decay of the matrices; norms and biases are not decayed.", minimum=0, maximum=10
    )
    max_grad_norm: float = setting(
        1.0, "Gradient norm above which gradients are scaled down to it.", more_than=0, maximum=1_000_000_000
    )
    max_loss_jump: float = setting(
        10.0,
        "Stop when the loss exceeds its running median by this factor; 0 never stops.",
        minimum=0,
        maximum=1_000_000_000,
    )
    lora_rank: int = setting(
        0,
        "Rank of the LoRA adapters that are trained instead of all weights; 0 trains all weights.",
        minimum=0,
        maximum=65_536,
    )
    lora_alpha: float = setting(
        16.0, "LoRA scaling: adapters are multiplied by lora_alpha / lora_rank.", more_than=0, maximum=1_000_000
    )
    lora_dropout: float = setting(0.0, "Dropout before the adapters.", minimum=0, less_than=1)
    gradient_checkpointing: bool = setting(
        False, "Recompute activations in the backward pass: much less memory, a third more time."
    )
    compile: bool = setting(False, "Compile the model's blocks with torch.compile: starts later, runs faster.")
    seed: int = setting(0, "Seed for data order, dropout and dropped markers.", minimum=0, maximum=LARGEST_SEED)
    accelerate_config: str = setting("", "Configuration file of Accelerate, for several devices; empty for one device.")
    checkpoint_every: int = setting(250, "Steps between checkpoints; 0 for none.", minimum=0)
    keep_checkpoints: int = setting(2, "Number of checkpoints to keep.", minimum=1)
    log_every: int = setting(50, "Steps between log lines and metrics.", minimum=1)
    validate_every: int = setting(500, "Steps between validation losses; 0 validates at the end only.", minimum=0)
    validation_tokens: int = setting(
        16384, "Tokens of the validation split to validate on.", minimum=1, maximum=1_000_000_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective in (*MARKERS_FIRST, *PREFERENCES) and self.markers != "kept":
            raise PipelineError(
                f"`objective` {self.objective} has markers of its own, which `markers` {self.markers} would remove;"
                " change one of the two."
            )
        if self.objective in ("quantiles", *PREFERENCES) and self.verdicts != "true":
            raise PipelineError(
                f"`objective` {self.objective} learns from ranks or pairs, which `verdicts` {self.verdicts} does not"
                " change; change one of the two."
            )
        if self.tokens_per_step < self.sequence_length:
            raise PipelineError(
                f"`tokens_per_step` {self.tokens_per_step} is less than one row (`sequence_length`"
                f" {self.sequence_length}); raise `tokens_per_step` or lower `sequence_length`."
            )


# Parameters x tokens of one forward pass up to which a second core of a CPU gains little.
ONE_CORE = 1e9


def uses_one_core(settings: TrainingSettings, parameters: float) -> bool:
    """Return whether a training on a CPU uses one core only.

    It depends neither on the machine nor on what else runs, since the last digits of sums depend on the number of
    threads. Several processes share the cores by themselves.
    """
    tokens = min(settings.tokens_per_step, settings.tokens_per_forward)
    return not settings.accelerate_config and parameters * tokens <= ONE_CORE


@dataclass(frozen=True)
class TrainingJob:
    """A fine-tune: settings and folders, the input of `python -m adc_pipeline.training JOB.json`.

    `dataset` and `base_model` are read, `output` is the model folder that is written, and `work` keeps checkpoints,
    tokens and `metrics.jsonl` between a run and its rerun. Several machines have to share the storage of `work`.
    """

    settings: TrainingSettings
    dataset: Path
    base_model: Path
    output: Path
    work: Path

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "TrainingJob":
        try:
            values = json.loads(text)
            places = {name: Path(values.pop(name)) for name in ("dataset", "base_model", "output", "work")}
            return cls(settings=TrainingSettings(**values.pop("settings")), **places, **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PipelineError(
                f"The training job is not what TrainingJob.to_json writes ({error}); write it with that."
            ) from error
