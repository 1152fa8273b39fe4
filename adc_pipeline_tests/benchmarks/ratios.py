"""Check in CI that nothing has become slower: ratios within one run against those that are recorded.

    python -m adc_pipeline_tests.benchmarks.ratios           # ends with status 1 if something is slower
    python -m adc_pipeline_tests.benchmarks.ratios --write   # record the ratios of this commit

Each ratio divides the CPU seconds (user and system, child processes included) of something of ours by those of a
reference that does comparable work with the same libraries, measured in turns, so that neither the speed of the machine
nor other work on it matters much; the median of the rounds counts. A ratio that exceeds the recorded one by more than
15 % fails, if it does so in three measurements. One takes one and a half to two minutes on 2 idle cores.

- `stages`: utterances, ranked replies and all walks, against reading the fields that they need from the same JSON;
- `job`: the job `datasets` on a small corpus, as a process, against importing what it has to import;
- `nothing new`: the same with everything up to date;
- `training`: the training loop, against forward pass, backward pass and update over the same batches.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from adc_pipeline_tests.benchmarks.data import child, table
from adc_pipeline_tests.benchmarks.job import ADC, timed
from adc_pipeline_tests.benchmarks.reddit_shape import write_corpus

RECORDED = Path(__file__).with_suffix(".json")
# By how much a ratio may exceed the recorded one.
LOSS = 0.15
ATTEMPTS = 3
STAGES, SMALL = 150_000, 5_000
# Steps of a training, and its tokens a step: with few, one thread computes, as in the trainings of small models.
STEPS, TOKENS = 40, 1024
IMPORTS = (sys.executable, "-c", "import dagster, duckdb, mlflow, pyarrow.parquet, matplotlib.figure")


def of_stages(folder: Path) -> Callable[[], float]:
    corpus = folder / "corpus"
    corpus.mkdir()
    write_corpus(corpus, STAGES)
    machine = ("--threads=1", "--memory=1GB", "--shards=1")

    def ratio() -> float:
        _, floor = child("--run=floor", f"--corpus={corpus}", *machine)
        with tempfile.TemporaryDirectory(dir=folder) as out:
            _, stages = child("--run=stages", f"--corpus={corpus}", f"--out={out}", *machine)
        return float(sum(each["cpu"] for each in stages) / sum(each["cpu"] for each in floor))

    return ratio


def of_job(folder: Path, new: bool) -> Callable[[], float]:
    """Measure the job `datasets` in an empty ADC_HOME if `new`, else in one where all is up to date."""
    corpus, home = folder / "small", folder / f"home-{new}"
    if not corpus.exists():
        corpus.mkdir()
        write_corpus(corpus, SMALL)
    if not new:
        timed((*ADC, "datasets"), home, str(corpus))

    def ratio() -> float:
        if new:
            shutil.rmtree(home, ignore_errors=True)
        imports = timed(IMPORTS, home, str(corpus)).cpu
        return timed((*ADC, "datasets"), home, str(corpus)).cpu / imports

    return ratio


def of_training(folder: Path) -> Callable[[], float]:
    import torch

    from adc_pipeline_tests.benchmarks.training import Bench, parser

    sizes = [f"--steps={STEPS}", f"--tokens-per-step={TOKENS}", f"--tokens-per-forward={TOKENS}", "--walks=600"]
    torch.set_num_threads(1)
    bench = Bench(folder / "training", parser().parse_args(sizes))
    bench.tokenization()
    return lambda: bench.bare_loop() / bench.loop()


# By name, the rounds that are measured, and what measures one.
MEASURES: dict[str, tuple[int, Callable[[Path], Callable[[], float]]]] = {
    "stages": (3, of_stages),
    "job": (3, lambda folder: of_job(folder, new=True)),
    "nothing new": (3, lambda folder: of_job(folder, new=False)),
    "training": (3, of_training),
}


def measured(rounds: int, ratio: Callable[[], float]) -> float:
    return statistics.median(ratio() for _ in range(rounds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="record the ratios that are found")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    given = parser.parse_args()
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.only:
            rounds, start = MEASURES[name]
            ratio = start(Path(temporary))
            found[name] = measured(rounds, ratio)
            for _ in range(ATTEMPTS - 1):
                if not given.write and is_slower(found[name], recorded.get(name)):
                    found[name] = min(found[name], measured(rounds, ratio))
    slower = [name for name in found if is_slower(found[name], recorded.get(name))]
    if given.write:
        recorded |= {name: round(ratio, 3) for name, ratio in found.items()}
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
    rows = [[name, f"{found[name]:.2f}", f"{recorded.get(name, found[name]):.2f}"] for name in found]
    print(table(["CPU seconds, relative to the reference", "now", "recorded"], rows))
    if slower:
        print(f"Slower by more than {LOSS:.0%}: {', '.join(slower)}. If that is worth its price, record it by --write.")
    return 1 if slower and not given.write else 0


def is_slower(ratio: float, before: float | None) -> bool:
    """Return whether a ratio exceeds the recorded one by more than `LOSS`; not where none is recorded."""
    return before is not None and ratio > before * (1 + LOSS)


if __name__ == "__main__":
    sys.exit(main())
