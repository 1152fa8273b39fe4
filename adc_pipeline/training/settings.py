"""What a fine-tune is told: the base model, the training, and the job that joins them with places.

Plain frozen dataclasses, so that the same objects serve Dagster's run configuration (each
field carries its description), the JSON file that `accelerate launch` hands to the child process, and a
notebook. Values that cannot work are refused where they are made, before any model is loaded.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting

Objective = Literal["mle", "accepted-only", "filtering", "conditional", "unlikelihood", "rwr", "awr"]


@dataclass(frozen=True)
class BaseModelSettings:
    """Where the weights come from that fine-tuning starts at; the same for both datasets."""

    name: str = setting("small", "`small` builds a Llama here; otherwise a Hub name or a local folder")
    revision: str | None = setting(None, "branch, tag or commit of a Hub model; recorded as a commit")
    layers: int = setting(2, "`small` only: number of transformer blocks")
    width: int = setting(128, "`small` only: size of the hidden states, a multiple of heads")
    heads: int = setting(4, "`small` only: number of attention heads")
    vocabulary: int = setting(2048, "`small` only: most tokens in the tokenizer, markers included")
    context: int = setting(2048, "`small` only: longest sequence in tokens")
    seed: int = setting(0, "`small` only: seed of the initial weights")

    def __post_init__(self) -> None:
        if self.name != "small":
            return
        for name in ("layers", "width", "heads", "context"):
            if getattr(self, name) < 1:
                raise PipelineError(f"`{name}` of the base model is {getattr(self, name)}; use 1 or more.")
        if self.width % (2 * self.heads):
            raise PipelineError(
                f"`width` {self.width} of the base model is not a multiple of 2 x `heads` ({self.heads}), which"
                " rotary positions need; change one of the two."
            )
        if self.vocabulary < 260:
            raise PipelineError(
                f"`vocabulary` {self.vocabulary} of the base model is too small: 256 bytes, the end of text and"
                " three markers need 260 tokens."
            )


@dataclass(frozen=True)
class TrainingSettings:
    """How the weights move. A step is one update of the weights."""

    objective: Objective = setting(
        "mle",
        "what is learned of a walk: mle (all of it), accepted-only, filtering, conditional (markers"
        " before their turns: no preference accuracy, calibration or steering), unlikelihood, rwr or awr",
    )
    alpha: float = setting(1.0, "`unlikelihood` only: weight of the tokens of rejected turns")
    beta: float = setting(1.0, "`rwr` and `awr` only: the smaller, the more a high score counts")
    max_weight: float = setting(20.0, "`rwr` and `awr` only: most that a token counts")
    dropped_markers: float = setting(0.1, "`conditional` only: share of the turns that have no marker")
    markers: Literal["kept", "stripped"] = setting(
        "kept", "stripped writes a line break in place of every verdict marker: an ablation"
    )
    verdicts: Literal["true", "shuffled"] = setting(
        "true", "shuffled exchanges the verdicts of a walk's turns among them: a control"
    )
    sequence_length: int = setting(512, "longest piece of a walk, in tokens")
    tokens_per_step: int = setting(512, "tokens, over all processes, that one step learns from")
    tokens_per_forward: int = setting(8192, "most tokens in one forward pass on a device; sets its memory")
    epochs: float = setting(2.0, "passes over the training split")
    max_steps: int | None = setting(None, "number of steps, in place of `epochs`")
    learning_rate: float = setting(4e-3, "peak; 1e-5 to 1e-4 for a pretrained model")
    warmup: float = setting(0.05, "share of the steps in which the learning rate rises")
    weight_decay: float = setting(0.01, "of the matrices; norms and biases are not decayed")
    max_grad_norm: float = setting(1.0, "gradients are scaled down to this norm")
    max_loss_jump: float = setting(10.0, "a loss of so many times the running median stops the training; 0 for never")
    lora_rank: int = setting(0, "of the LoRA adapters that are trained in place of all weights; 0 trains all weights")
    lora_alpha: float = setting(16.0, "adapters count lora_alpha / lora_rank")
    lora_dropout: float = setting(0.0, "dropout in front of the adapters")
    gradient_checkpointing: bool = setting(False, "compute activations twice: much less memory, a third more time")
    compile: bool = setting(False, "compile the model's blocks (torch.compile): later start, more speed")
    seed: int = setting(0, "of the data order, of dropout and of the markers that are dropped")
    accelerate_config: str = setting("", "configuration file of accelerate, for several devices; empty takes one")
    checkpoint_every: int = setting(250, "steps between checkpoints; 0 for none")
    keep_checkpoints: int = setting(2, "checkpoints that stay on disk")
    log_every: int = setting(50, "steps between two log lines and metrics")
    validate_every: int = setting(500, "steps between validation losses; 0 for the end only")
    validation_tokens: int = setting(16384, "tokens of the validation split that are looked at")

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise PipelineError(
                f"`objective` {self.objective!r} is not known; use one of {', '.join(get_args(Objective))}."
            )
        for name, known in (("markers", ("kept", "stripped")), ("verdicts", ("true", "shuffled"))):
            if getattr(self, name) not in known:
                raise PipelineError(f"`{name}` {getattr(self, name)!r} is not known; use one of {', '.join(known)}.")
        if self.objective == "conditional" and self.markers == "stripped":
            raise PipelineError(
                "`objective` conditional learns from the markers that `markers` stripped takes away; change one of the"
                " two."
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise PipelineError(f"`{name}` of the training is {value}; use {least} or more.")
        for name in ("epochs", "learning_rate", "max_grad_norm", "beta", "max_weight", "lora_alpha"):
            if not getattr(self, name) > 0:
                raise PipelineError(f"`{name}` of the training is {getattr(self, name)}; use more than 0.")
        for name in ("dropped_markers", "lora_dropout"):
            if getattr(self, name) > 1:
                raise PipelineError(f"`{name}` of the training is {getattr(self, name)}, a share; use 0 to 1.")
        if self.tokens_per_step < self.sequence_length:
            raise PipelineError(
                f"`tokens_per_step` {self.tokens_per_step} is less than one row (`sequence_length`"
                f" {self.sequence_length}); raise the one or lower the other."
            )


_LEAST: Mapping[str, float] = {
    "alpha": 0,
    "dropped_markers": 0,
    "max_loss_jump": 0,
    "lora_rank": 0,
    "lora_dropout": 0,
    "sequence_length": 16,
    "max_steps": 1,
    "warmup": 0,
    "weight_decay": 0,
    "checkpoint_every": 0,
    "keep_checkpoints": 1,
    "log_every": 1,
    "validate_every": 0,
    "validation_tokens": 1,
}


@dataclass(frozen=True)
class TrainingJob:
    """One fine-tune, whole: what `python -m adc_pipeline.training JOB.json` is given.

    `dataset` and `base_model` are folders that are read, `output` is the model folder that is written,
    `work` keeps checkpoints, tokens and `metrics.jsonl` between a run and its rerun. With several
    machines, `work` must be on storage that all of them see.
    """

    settings: TrainingSettings
    dataset: Path
    base_model: Path
    output: Path
    work: Path

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str, indent=2)

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
