"""What holds for all tests."""

import os

# As for the pipeline itself (`training/__main__.py`); read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# Several processes of tests share the cores: without this each of them, and what it starts, would take all.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
