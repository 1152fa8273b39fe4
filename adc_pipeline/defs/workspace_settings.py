"""Settings of the resources `workspace` and `shards`, which every asset uses."""

import re
from dataclasses import dataclass

from adc_pipeline.core.engine import MEMORY_LIMIT
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.placement import Executor
from adc_pipeline.core.settings import Settings, as_shown, setting

# DuckDB takes 0 and sizes below what one statement needs, and fails later; it takes a negative size for no limit.
LEAST_MEMORY, MOST_MEMORY = 100 * 1000**2, 1000**5
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(i?)B?|%)", re.ASCII | re.IGNORECASE)


def is_memory_limit(text: str) -> bool:
    """Return whether a text is a size from 100 MB to 1,000 TB, or a percentage of the machine's memory."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        return False
    number, prefix, binary = float(found[1]), found[2], found[3]
    if prefix is None:
        return 1 <= number <= 100
    size = number * (1024 if binary else 1000) ** (" KMGT".index(prefix.upper()))
    return LEAST_MEMORY <= size <= MOST_MEMORY


@dataclass(frozen=True)
class ShardSettings(Settings):
    """Settings of the resource `shards`."""

    executor: Executor = setting(
        "local",
        "Where the shards of a corpus are processed: on this machine, one after the other, or as tasks of the Ray"
        " cluster at RAY_ADDRESS, all of whose nodes have ADC_HOME under the same path. The result is the same.",
    )


@dataclass(frozen=True)
class WorkspaceSettings(Settings):
    """Settings of the resource `workspace`."""

    threads: int = setting(0, "Threads of DuckDB; 0 uses every core.", minimum=0, maximum=1024)
    memory_limit: str = setting(MEMORY_LIMIT, "Memory DuckDB may use before it spills to disk, such as 4GB.")
    wait_seconds: float = setting(
        86_400.0,
        "How long to wait for another run that makes the same asset in the same ADC_HOME before this run is refused.",
        minimum=0,
        maximum=1_000_000_000,
    )
    volume_change: float = setting(
        0.5,
        "Share by which a count may fall or grow against the last version before the check `volume` warns.",
        minimum=0,
        maximum=1_000_000,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_memory_limit(self.memory_limit):
            raise PipelineError(
                f"`memory_limit` is {as_shown(self.memory_limit)}; use a size of at least 100MB, such as 4GB or 500MiB,"
                " or a share of the machine's memory, such as 50%."
            )
