"""Where a process of the pipeline runs: on this machine, or on the Ray cluster, with what it asks for there."""

from dataclasses import dataclass
from typing import Literal

from adc_pipeline.core.settings import Settings, setting

# On this machine, or as tasks of a Ray cluster (`core.shards`, `core.cluster.tasks`, `core.cluster.process`).
Executor = Literal["local", "ray"]


@dataclass(frozen=True)
class Placement(Settings):
    """Settings of the resource `training`."""

    executor: Executor = setting(
        "local",
        "Where trainings run, and the cells of a study: on this machine, or on the Ray cluster at RAY_ADDRESS, all of"
        " whose nodes have ADC_HOME under the same path.",
    )
    cpus: int = setting(1, "CPUs that a training, or a cell, asks of the cluster.", minimum=1, maximum=4096)
    gpus: int = setting(0, "GPUs that it asks of the cluster; without, it sees none there.", minimum=0, maximum=1024)

    @property
    def on_cluster(self) -> bool:
        return self.executor == "ray"
