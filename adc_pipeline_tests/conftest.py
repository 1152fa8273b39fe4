"""What holds for all tests."""

import os

# As for the pipeline itself (`training/__main__.py`); read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
