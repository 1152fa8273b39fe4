"""What holds for all tests: their share of the cores, the order in which they run, and what they start from."""

import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings

from adc_pipeline.core.threads import wait_briefly

# As for the pipeline itself.
wait_briefly()
# Several processes of tests share the cores: each of them, with all that it starts, has cores of its own. Models as
# small as those of the tests gain nothing from a second core, and lose much where it is busy, since threads wait for
# one another: of two trainings at once, each takes 3.3 times the processor time with two threads.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
if WORKERS > 1 and hasattr(os, "sched_setaffinity"):
    CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, CORES[WORKER::WORKERS] or {CORES[WORKER % len(CORES)]})

# The processes that tests start compile the package once and not each for itself, which takes 0.3 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Tests write thousands of small files and databases, each of which waits for the disk: a third of the time of some. In
# memory they do not wait, and no test can see what outlives a power cut. Without that much memory they use the disk.
MEMORY, ROOM = "/dev/shm", 4 << 30
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ["TMPDIR"] = tempfile.tempdir = MEMORY

# How long an example takes says more about the machine than about the code. In CI the examples are always the same.
settings.register_profile("adc", settings.get_profile("ci" if "CI" in os.environ else "default"), deadline=None)
settings.load_profile("adc")


# Of the files with nothing but slow tests those that take longest, in this order: what is short runs last, so that the
# processes of tests end together. `--durations 0` gives the figures.
LONGEST = (
    "pipeline/test_jobs.py",
    "pipeline/test_skipping.py",
    "pipeline/test_every_setting.py",
    "training/test_launch.py",
    "evaluation/test_known_answers.py",
    "promotion/test_champion.py",
    "study/test_study_job.py",
    "docs/test_site.py",
    "tracking/test_models.py",
    "pipeline/test_adding_a_dataset.py",
)
TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run fast tests first: files without slow tests, then those with some, then those with nothing else, long first.

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
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}

    def order(item: pytest.Item) -> tuple[bool, bool, int, bool]:
        only_slow = False not in kinds[item.path]
        place = places.get(item.path, len(places)) if only_slow else 0
        return True in kinds[item.path], only_slow, place, slow[item]

    items.sort(key=order)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an MLflow database without runs. Making the tables takes 1.3 s of a core, so tests copy this one."""
    from adc_pipeline.tracking.runs import Tracking

    path: Path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracking(f"sqlite:///{path}").client().search_experiments()
    return path
