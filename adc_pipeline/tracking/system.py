"""The load of the machine beside a run's own metrics: MLflow's system metrics, every ten seconds.

CPU, memory, disk and network; with an Nvidia GPU its utilization, memory and power as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from adc_pipeline.tracking.runs import Run


@contextmanager
def system_metrics(run: Run) -> Iterator[None]:
    """Record this machine's load as metrics `system/...` of the run while the block runs.

    Where the tracking server goes away, MLflow gives the record up with a warning, and the block goes on.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run.id, tracking_uri=run.tracking_uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
