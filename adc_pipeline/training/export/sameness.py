"""Check that what is written is what was trained: both give a text the same losses.

Adapters are merged into weights, shards are gathered, and tensors are renamed, tied and converted when they are saved.
Each of these has gone wrong for some architecture without an error. Two checks find that, whatever the cause:

- before the first step, adapters with random values against the same adapters merged, on the CPU, so that a training is
  not made in vain: it takes the time of reading the base model, and about five passes of a short text;
- at the export, the model on its devices against the written folder, read again, on a piece of the last step.

For 135 million parameters they take 12 and 3 s of processor time. Reading the weights is the least of it (0.1 s), since
files are mapped into memory.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.architectures.adapters import add_adapters, merged
from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.architectures.probes import SHORT_TEXT, evaluating, logits, random_texts, without_gradient
from adc_pipeline.training.objectives.losses import CrossEntropy
from adc_pipeline.training.rows.batches import Batch

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from adc_pipeline.training.settings import TrainingJob

# The largest difference that counts as none: as a share of what random adapters change, and in nats a token.
OF_ADAPTERS, EXACT, IN_HALF_PRECISION = 0.01, 0.01, 0.1
# Standard deviation of the random values of adapters.
RANDOM = 0.05


class ReadText(NamedTuple):
    """A text, int64 (tokens,), and the losses of all its tokens but the first, float32 (tokens - 1,)."""

    ids: torch.Tensor
    losses: torch.Tensor


def first_text(batch: Batch, losses: torch.Tensor) -> ReadText:
    """Return the first piece of a batch; `losses`, (rows, row), are those of a forward pass over the whole batch."""
    ids = torch.as_tensor(batch.input_ids)[0].cpu()
    if batch.position_ids is not None:
        begins = (torch.as_tensor(batch.position_ids)[0].cpu() == 0).nonzero()[:, 0]
        ids = ids[: int(begins[1])] if len(begins) > 1 else ids
    return ReadText(ids, losses[0, : len(ids) - 1].float().cpu())


def losses_of(model: "PreTrainedModel", ids: torch.Tensor) -> torch.Tensor:
    """Return the losses of a text in a forward pass of its own, float32 (tokens - 1,)."""
    ids = ids.to(model.device)
    with evaluating(model):
        found: torch.Tensor = CrossEntropy.apply(logits(model, ids)[:-1].float(), ids[1:])
    return found.cpu()


def check_adapters(job: "TrainingJob", marker_ids: list[int]) -> None:
    """Raise PipelineError if adapters on the base model give other losses than once they are merged into it."""
    base = load_model(job.base_model)
    (text,) = random_texts(base, [SHORT_TEXT])
    text = torch.cat([text, torch.tensor(marker_ids), text.flip(0)])
    alone = losses_of(base, text)
    add_adapters(base, job.settings, marker_ids)
    # Jamba reads a layer's weight past its adapter, which is not trained then, and stays without effect.
    passed_by = without_gradient(base)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if parameter.requires_grad and name not in passed_by:
                parameter.add_(RANDOM * torch.randn(parameter.shape, generator=draw))
    adapted = losses_of(base, text)
    plain = merged(load_model(job.base_model), job.settings, marker_ids, base.state_dict())
    difference = (losses_of(plain, text) - adapted).abs().max()
    if not bool(difference <= OF_ADAPTERS * (adapted - alone).abs().max()):
        raise PipelineError(
            f"`lora_rank` {job.settings.lora_rank} does not work with the base model, a {type(plain).__name__}: once"
            f" adapters are merged into its weights, losses differ by {difference:.2g} nats a token; set it to 0 to"
            " train all weights."
        )


def check_written(folder: "Path", trained: ReadText, half: bool) -> None:
    """Raise PipelineError if the model in a folder gives a text other losses than the trained one did.

    `half` tells whether either of them computes or is stored in half precision.
    """
    written = losses_of(load_model(folder), trained.ids)
    difference = float((written - trained.losses).abs().mean()) if len(written) else 0.0
    if not difference <= (IN_HALF_PRECISION if half else EXACT) * max(1.0, float(trained.losses.abs().mean())):
        raise PipelineError(
            f"The model that was to be written gives other losses than the trained one ({difference:.2g} nats a token"
            " on one text), so it was not written, and the checkpoints are kept; set `lora_rank` to 0 and `compile` to"
            " false, update transformers, or choose another base model."
        )
