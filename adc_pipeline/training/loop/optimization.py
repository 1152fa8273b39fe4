"""The optimizer: AdamW (Loshchilov & Hutter 2019), with cosine decay after a linear warm-up.

The learning rate is a function of the step alone, so that a resumed run has no schedule to restore.
"""

import math
from typing import TYPE_CHECKING

import torch

from adc_pipeline.training.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The second beta that large language models are trained with: a spike is forgotten in 20 steps, not 1,000.
BETAS = (0.9, 0.95)


def adamw(model: "PreTrainedModel", settings: TrainingSettings) -> torch.optim.AdamW:
    """Return AdamW with one fused kernel; weight decay applies to matrices, not to norms and biases."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, betas=BETAS, fused=fused
    )


def learning_rate(settings: TrainingSettings, step: int, total: int) -> float:
    """Return the rate of step 1 ... total: it rises to its peak over the warm-up, then falls to 0 along a cosine."""
    warm = settings.warmup * total
    if step <= warm:
        return settings.learning_rate * step / warm
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm + 1)))
