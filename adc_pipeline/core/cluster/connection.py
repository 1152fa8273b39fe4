"""Connect to the Ray cluster at RAY_ADDRESS, and ask whether a node of it has what a task wants."""

import logging
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from adc_pipeline.core.errors import PipelineError, first_line

ADDRESS = "RAY_ADDRESS"
ATTEMPTS = 3
# Losses of one task, by nodes that end or processes that the system kills, before it counts as failed.
MOST_LOSSES = 10
# Trainings may begin in several threads.
CONNECTING = threading.Lock()


def connected(resource: str = "shards") -> Any:
    """Return the module `ray`, connected to the cluster at RAY_ADDRESS; raise PipelineError if none can be reached.

    `resource` is the one whose setting asks for the cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise PipelineError(
            f"The setting executor of the resource {resource} is ray, and Ray is not installed: install it by"
            " `pip install 'adc-pipeline[ray]'`, or set executor to local."
        ) from error
    address = os.environ.get(ADDRESS, "")
    if not address:
        raise PipelineError(
            f"The setting executor of the resource {resource} is ray, and RAY_ADDRESS is not set: set it to the"
            " cluster's address, such as 10.0.0.1:6379, or set executor to local."
        )
    with CONNECTING:
        if not ray.is_initialized():
            connect(ray, address, resource)
    return ray


def connect(ray: Any, address: str, resource: str) -> None:
    # Ray would end the process at SIGTERM, and Dagster has a handler of its own.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, logging_level=logging.WARNING, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise PipelineError(
            f"No Ray cluster answers at RAY_ADDRESS = {address} ({first_line(error)}): start it, correct the address,"
            f" or set executor of the resource {resource} to local."
        ) from error
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)


def check_room(ray: Any, wanted: Mapping[str, float], has: str, settings: str) -> None:
    """Raise PipelineError if no node has what `settings` ask for, which the sentence calls `has`."""
    if not any(all(node.get(name, 0) >= number for name, number in wanted.items()) for node in nodes(ray)):
        raise PipelineError(
            f"No node of the Ray cluster has {has}, which {settings} ask for: lower them, or add larger nodes."
        )


def nodes(ray: Any) -> list[dict[str, float]]:
    """Return what each node that is alive has, such as CPU and memory."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
