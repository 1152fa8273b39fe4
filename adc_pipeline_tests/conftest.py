"""What holds for all tests: their share of the cores, the order in which they run, and what they start from."""

import os
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings

# As for the pipeline itself (`training/__main__.py`); read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# Several processes of tests share the cores: without this each of them, and what it starts, would take all.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

# How long an example takes says more about the machine than about the code. In CI the examples are always the same.
settings.register_profile("adc", settings.get_profile("ci" if "CI" in os.environ else "default"), deadline=None)
settings.load_profile("adc")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run fast tests first: files without slow tests, then those with some, then those with nothing else.

    Before that, the marker `fast_first` becomes `slow` for all parameters of a test but the first; pytest selects by
    markers (`-m "not slow"`) afterwards.
    """
    seen = set()
    for item in items:
        if item.get_closest_marker("fast_first"):
            test = item.nodeid.split("[")[0]
            if test in seen:
                item.add_marker(pytest.mark.slow)
            seen.add(test)
    slow = {item: item.get_closest_marker("slow") is not None for item in items}
    kinds = defaultdict(set)
    for item in items:
        kinds[item.path].add(slow[item])
    items.sort(key=lambda item: (True in kinds[item.path], False not in kinds[item.path], slow[item]))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an MLflow database without runs. Making the tables takes 1.3 s of a core, so tests copy this one."""
    from adc_pipeline.tracking.runs import Tracking

    path: Path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracking(f"sqlite:///{path}").client().search_experiments()
    return path
