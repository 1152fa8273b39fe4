"""Drill: one flipped bit in every file of the artefact store. `python -m adc_pipeline_tests.drills.bit_flips HOME`.

Works on a copy of the store in the ADC_HOME that is named. In each file of each current artefact, one at a time, a
random bit is flipped: with the file's time kept, `lineage --check` must name the file; with another time, the next use
of the artefact must notice it, if the manifest lists the file. Costs a reading of the artefact for each of its files.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import altered_files, damage
from adc_pipeline.core.store.manifests import Artefact


@contextmanager
def flipped(path: Path, rng: random.Random, *, keep_time: bool) -> Iterator[None]:
    """Flip a bit of a file, with or without its time, for the block."""
    before, stat = path.read_bytes(), path.stat()
    content = bytearray(before)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + (0 if keep_time else 1)))
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flip_every_file(made: Artefact, rng: random.Random) -> Counter[str]:
    """Flip a bit in each file of an artefact; return how many were noticed by kind of file, `missed` among them."""
    assert altered_files(made.path) == []
    counts: Counter[str] = Counter()
    for path in [path for path in sorted(made.path.rglob("*")) if path.is_file() and path.stat().st_size]:
        file = str(path.relative_to(made.path))
        # A linked corpus is recorded elsewhere.
        if file.startswith("corpus/") and file not in made.files:
            continue
        with flipped(path, rng, keep_time=True):
            noticed = file in altered_files(made.path)
        if file in made.files:
            with flipped(path, rng, keep_time=False):
                noticed = noticed and damage(made) == [file]
        counts[path.name if noticed else f"missed: {path}"] += 1
    assert damage(made) == []
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.bit_flips", description=__doc__)
    parser.add_argument("home", type=Path, help="an ADC_HOME in which the job `adc` has run")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, missed = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory(prefix="adc-flips-") as folder:
        shutil.copytree(given.home / "store", Path(folder) / "store", symlinks=True)
        store = Store(Path(folder))
        for made in store.versions():
            if store.is_current(made):
                counts = flip_every_file(made, rng)
                lost = [name for name in counts if name.startswith("missed")]
                missed += len(lost)
                print(f"{made.name}: {counts.total()} files, {', '.join(lost) or 'all noticed'}", flush=True)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
