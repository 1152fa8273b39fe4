"""Collect the figures of the steps between two log lines on the device, without waiting for it."""

import time
from typing import TYPE_CHECKING

import torch

from adc_pipeline.training.texts.dataset import PARTS

if TYPE_CHECKING:
    from accelerate import Accelerator


class PartLosses:
    """The mean loss of background, rejected and accepted tokens, whatever their weights."""

    def __init__(self, device: torch.device) -> None:
        # Sum and count of each part; the last row takes the places where nothing is predicted.
        self._sums = torch.zeros(len(PARTS) + 1, 2, device=device)

    def add(self, losses: torch.Tensor, parts: torch.Tensor) -> None:
        """Add float32 losses and the int64 parts (BACKGROUND, REJECTED, ACCEPTED or NOTHING) of the same places."""
        flat = losses.detach().flatten()
        self._sums.index_add_(0, parts.flatten(), torch.stack([flat, torch.ones_like(flat)], dim=1))

    def means(self, accelerator: "Accelerator", prefix: str) -> dict[str, float]:
        """Return the means over all processes as `{prefix}_background` and so on, without parts that did not occur."""
        sums = accelerator.reduce(self._sums, "sum").tolist()
        return {
            f"{prefix}_{part}": total / count for part, (total, count) in zip(PARTS, sums[:-1], strict=True) if count
        }


class Interval:
    """The steps since the last report, on this process; `losses` and `figures` bring the processes together."""

    def __init__(self, device: torch.device) -> None:
        self.parts = PartLosses(device)
        self.tokens = 0
        self._losses: list[torch.Tensor] = []  # a scalar a step
        self._gradient_norms: list[torch.Tensor] = []  # a scalar a step
        self._began = time.perf_counter()

    def add(self, loss: torch.Tensor, gradient_norm: torch.Tensor) -> None:
        """Add a step: this process's share of the loss, and the norm of the gradients."""
        self._losses.append(loss)
        self._gradient_norms.append(gradient_norm)

    def losses(self, accelerator: "Accelerator") -> list[float]:
        """Return the loss of each step over all processes; waits for the device."""
        reduced: list[float] = accelerator.reduce(torch.stack(self._losses), "sum").tolist()
        return reduced

    def gradient_norms(self) -> list[float]:
        """Return the norm of the gradients of each step, which is the same on every process; waits for the device."""
        return [float(norm) for norm in self._gradient_norms]

    def figures(self, accelerator: "Accelerator") -> dict[str, float]:
        """Return the mean loss, the last gradient norm, tokens a second and the loss of each part."""
        losses = self.losses(accelerator)
        self.seconds = time.perf_counter() - self._began
        return {
            "loss": sum(losses) / len(losses),
            "grad_norm": self.gradient_norms()[-1],
            "tokens_per_second": self.tokens / self.seconds,
            **self.parts.means(accelerator, "loss"),
        }
