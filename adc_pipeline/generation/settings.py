"""Settings of generation: how tokens are drawn."""

from dataclasses import dataclass
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting

# Below this temperature, float32 probabilities of all tokens but the likeliest are 0.
COLDEST = 1e-6


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = setting(0.8, "Sampling temperature; 0 takes the likeliest token.")
    top_p: float = setting(0.95, "Draw from the likeliest tokens whose probabilities add up to this share.")
    max_new_tokens: int = setting(200, "Longest reply in tokens, at most half of the model's context.")
    seed: int | None = setting(None, "Seed of a reply; without one, replies differ.")

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise PipelineError(f"`temperature` is {self.temperature}; use 0 or more.")
        if not 0 < self.top_p <= 1:
            raise PipelineError(f"`top_p` is {self.top_p}; use more than 0 and at most 1.")
        if self.max_new_tokens < 1:
            raise PipelineError(f"`max_new_tokens` is {self.max_new_tokens}; use 1 or more.")

    def options(self) -> dict[str, Any]:
        """Return the options of transformers' GenerationConfig."""
        if self.temperature < COLDEST:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": self.top_p}
