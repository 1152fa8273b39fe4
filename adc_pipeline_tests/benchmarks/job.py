"""Benchmark of whole jobs, as people start them, beside what one would otherwise write.

    python -m adc_pipeline_tests.benchmarks.job --corpus PATH --runs 5

Times whole processes, start-up included: the procedure of the published generator over `convokit.Corpus` (the
reference), the run that makes both published walk datasets from the raw corpus, and the job `datasets`, with ADC_HOME
empty, with its databases there, and with nothing new. The commands take turns, so that a slow minute of the machine is
shared by all; the table gives the median of each, and the ratio to the reference of the same benchmark. `--whole` times
the main job on the sample, once, and `--json FILE` writes all figures. `--record FILE` appends the medians of this
commit to a CSV file, such as docs/measurements/speed.csv, which a page of the documentation shows.

Without `--corpus` a corpus in the shape of Reddit is generated (`--utterances`). The corpus is read once before the
first run, so that no figure includes a cold disk.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from adc_pipeline_tests.benchmarks.data import about_this_machine, read_once, table
from adc_pipeline_tests.benchmarks.reddit_shape import write_corpus

MODULE = "adc_pipeline_tests.benchmarks.job"
ADC = (sys.executable, "-m", "adc_pipeline", "run")
TRAINED = ("_model", "_evaluation", "comparison")


@dataclass(frozen=True)
class Run:
    """Wall and CPU seconds of a process and its children, and the peak memory in bytes of the largest of them."""

    seconds: float
    cpu: float
    peak: int
    output: str = field(repr=False, default="")


@dataclass(frozen=True)
class Command:
    """A command to time; `prepare` returns the ADC_HOME that it runs in."""

    label: str
    arguments: tuple[str, ...]
    prepare: Callable[[], Path]


def timed(arguments: tuple[str, ...], home: Path, corpus: str) -> Run:
    """Run a command with this ADC_HOME and corpus; end with its output if it fails."""
    environment = os.environ | {"ADC_HOME": str(home), "ADC_CORPUS": corpus}
    # An installed package is not compiled again by each process.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile("w+") as output:
        began = perf_counter()
        process = subprocess.Popen(arguments, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with status {process.returncode}:\n{printed}")
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, printed)


def make_published_walks(corpus: Path, out: Path) -> None:
    """Write both datasets as the published generator does: a walk at a time over a corpus that ConvoKit loaded."""
    import convokit
    import datasets

    from adc_pipeline_tests.oracle import published_walk

    loaded = convokit.Corpus(filename=str(corpus))
    for kind in ("top-2", "random-walk"):
        walks = [published_walk(conversation, kind, 0) for conversation in loaded.iter_conversations()]
        datasets.Dataset.from_dict({"text": [walk for walk in walks if walk]}).to_parquet(out / f"{kind}.parquet")


class Homes:
    """Folders for ADC_HOME: an empty one for each run, one whose databases exist, and one where all is up to date."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def empty(self) -> Path:
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        return home

    def migrated(self) -> Path:
        """Return an ADC_HOME in which only another, tiny corpus was made.

        It is kept as a copy that goes back to the place where it was made, since a moved ADC_HOME is refused.
        """
        kept, home = self.folder / "migrated", self.empty()
        if not kept.exists():
            tiny = self.folder / "tiny"
            tiny.mkdir()
            write_corpus(tiny, 300)
            timed((*ADC, "datasets"), home, str(tiny))
            home.rename(kept)
        shutil.copytree(kept, home, symlinks=True)
        return home

    def made(self, corpus: Path) -> Callable[[], Path]:
        def prepare() -> Path:
            home = self.folder / f"made-{corpus.name}"
            if not home.exists():
                timed((*ADC, "datasets"), home, str(corpus))
            return home

        return prepare


def commands(corpus: Path, small: Path, folder: Path) -> list[tuple[Path, Command]]:
    homes = Homes(folder)
    published = (*ADC, "top_2", "random_walk")
    datasets = (*ADC, "datasets")
    reference = (sys.executable, "-m", MODULE, "--reference", str(corpus))
    return [
        (corpus, Command("published procedure on ConvoKit", reference, homes.empty)),
        (corpus, Command("both published walks, databases there", published, homes.migrated)),
        (corpus, Command("both published walks, ADC_HOME empty", published, homes.empty)),
        (corpus, Command("job `datasets`, databases there", datasets, homes.migrated)),
        (corpus, Command("job `datasets`, nothing new", datasets, homes.made(corpus))),
        (small, Command("job `datasets`, small corpus", datasets, homes.migrated)),
        (small, Command("job `datasets`, small corpus, nothing new", datasets, homes.made(small))),
    ]


def measure(listed: list[tuple[Path, Command]], runs: int) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {command.label: [] for _, command in listed}
    for number in range(runs):
        for corpus, command in listed:
            print(f"run {number + 1} of {runs}: {command.label}", file=sys.stderr, flush=True)
            found[command.label].append(timed(command.arguments, command.prepare(), str(corpus)))
    return found


def summary(found: dict[str, list[Run]]) -> str:
    """Return the table; the first command is the reference."""
    medians = {label: statistics.median(run.seconds for run in runs) for label, runs in found.items()}
    reference = next(iter(medians.values()))
    rows = []
    for label, runs in found.items():
        seconds = sorted(run.seconds for run in runs)
        rows.append(
            [
                label,
                f"{seconds[0]:.1f}",
                f"{medians[label]:.1f}",
                f"{seconds[-1]:.1f}",
                f"{statistics.median(run.cpu for run in runs):.1f}",
                f"{max(run.peak for run in runs) / 2**30:.1f}",
                f"{reference / medians[label]:.2f}",
            ]
        )
    head = ["command", "least s", "median s", "most s", "CPU s", "peak GiB", "times as fast as the reference"]
    return table(head, rows)


def record(file: Path, found: dict[str, list[Run]]) -> None:
    """Append a row for this commit: median seconds, and how many times as fast as the reference, by command."""
    medians = [statistics.median(run.seconds for run in runs) for runs in found.values()]
    described = subprocess.run(["git", "describe", "--always", "--dirty"], check=True, capture_output=True, text=True)
    cells = [f"{each:.1f} s, {medians[0] / each:.2f}" for each in medians]
    new = not file.exists()
    with file.open("a", newline="") as commits:
        writer = csv.writer(commits, lineterminator="\n")
        if new:
            writer.writerow(["date", "commit", *found])
        writer.writerow([datetime.now(UTC).strftime("%Y-%m-%d"), described.stdout.strip(), *cells])


def whole_job(folder: Path) -> Run:
    """Time the main job on the sample in an empty ADC_HOME, and print what training and evaluation take of it."""
    run = timed((*ADC, "adc"), folder / "whole", "sample")
    steps = [line.split() for line in run.output.splitlines() if line.endswith(" s  made")]
    learned = sum(float(seconds) for name, seconds, *_ in steps if name.endswith(TRAINED))
    print(f"Main job on the sample: {run.seconds:.0f} s, of which training and evaluation {learned:.0f} s.\n")
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a corpus in ConvoKit's format")
    parser.add_argument("--utterances", type=int, default=600_000, help="size of the generated corpus")
    parser.add_argument("--small", type=int, default=13_720, help="size of the small generated corpus")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="time the main job on the sample too")
    parser.add_argument("--json", type=Path, help="file that all figures are written to")
    parser.add_argument("--record", type=Path, help="CSV file that a row for this commit is appended to")
    parser.add_argument("--folder", type=Path, help="working folder, on a disk with room for the datasets")
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary)
        if given.reference:
            return make_published_walks(given.reference, folder)
        small = folder / "small"
        corpus = given.corpus or folder / "corpus"
        for path, size in ((small, given.small), (corpus, given.utterances)):
            if not path.exists():
                path.mkdir()
                write_corpus(path, size)
            read_once(path)
        print(about_this_machine(os.cpu_count() or 1) + "\n", flush=True)
        found = measure(commands(corpus, small, folder), given.runs)
        print(summary(found))
        if given.record:
            record(given.record, found)
        if given.whole:
            found["main job on the sample"] = [whole_job(folder)]
    if given.json:
        figures = {label: [asdict(run) | {"output": ""} for run in runs] for label, runs in found.items()}
        given.json.write_text(json.dumps(figures, indent=1))
    return None


if __name__ == "__main__":
    main()
