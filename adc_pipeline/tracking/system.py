"""Record the machine's load with a run: MLflow's system metrics, every ten seconds.

They cover CPU, memory, disk and network, and with an Nvidia GPU its utilization, memory and power.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from adc_pipeline.tracking.run import Run


@contextmanager
def system_metrics(run: Run) -> Iterator[None]:
    """Record this machine's load as metrics `system/...` of the run while the block runs.

    If the tracking server becomes unavailable, MLflow stops recording with a warning, and the block continues.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    # It announces its start and its end, and on a machine without a GPU that there is none.
    logging.getLogger(SystemMetricsMonitor.__module__).setLevel(logging.WARNING)
    monitor = SystemMetricsMonitor(run.id, tracking_uri=run.tracking_uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
