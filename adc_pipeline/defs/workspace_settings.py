"""Settings of the resource `workspace`, which every asset uses."""

from dataclasses import dataclass

from adc_pipeline.core.engine import MEMORY_LIMIT
from adc_pipeline.core.settings import Settings, setting


@dataclass(frozen=True)
class WorkspaceSettings(Settings):
    """Settings of the resource `workspace`."""

    threads: int = setting(0, "Threads of DuckDB; 0 uses every core.", minimum=0, maximum=1024)
    memory_limit: str = setting(MEMORY_LIMIT, "Memory DuckDB may use before it spills to disk.")
    wait_seconds: float = setting(
        86_400.0,
        "How long to wait for another run that makes the same asset in the same ADC_HOME before this run is refused.",
        minimum=0,
    )
    volume_change: float = setting(
        0.5,
        "Share by which a count may fall or grow against the last version before the check `volume` warns.",
        minimum=0,
    )
