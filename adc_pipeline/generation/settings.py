"""Settings of generation: how tokens are drawn."""

from dataclasses import dataclass
from typing import Any

from adc_pipeline.core.settings import LARGEST_SEED, Settings, setting

# Below this temperature, float32 probabilities of all tokens but the likeliest are 0.
COLDEST = 1e-6


@dataclass(frozen=True)
class Sampling(Settings):
    """How tokens are drawn."""

    temperature: float = setting(0.8, "Sampling temperature; 0 takes the likeliest token.", minimum=0, maximum=1_000)
    top_p: float = setting(
        0.95, "Draw from the likeliest tokens whose probabilities add up to this share.", more_than=0, maximum=1
    )
    max_new_tokens: int = setting(200, "Longest reply in tokens, at most half of the model's context.", minimum=1)
    seed: int | None = setting(None, "Seed of a reply; without one, replies differ.", minimum=0, maximum=LARGEST_SEED)

    def options(self) -> dict[str, Any]:
        """Return the options of transformers' GenerationConfig."""
        if self.temperature < COLDEST:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": self.top_p}
