"""Benchmark of the data path, from JSON lines to the walk datasets, with a lower bound and the oracle for comparison.

    python -m adc_pipeline_tests.benchmarks.data --utterances 10000000

Writes a corpus shaped like Reddit (`reddit_shape`), and in separate processes

1. lets DuckDB count the lines, and read the fields that the pipeline needs: the lower bound;
2. runs the stages `utterances`, `ranked_replies` and every kind of walks;
3. runs the tests' oracle, plain Python over `convokit.Corpus`, which is what one would otherwise write, and the stages
   again, both on a corpus of `--sample` utterances.

The results are printed as Markdown. `--shapes` measures the hard shapes instead, `--zst` a dump compressed by
zstandard, and `--pieces` the stages on so many compressed dumps, of which one at a time is on the disk uncompressed: a
hundred million utterances are 20 pieces, 4 GB, and the stages take 27 GB more. The corpus is read once before anything
is timed, so that no result includes a cold disk.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from adc_pipeline.corpus.opening.recorded_files import UTTERANCES as UTTERANCES_FILE
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline_tests.benchmarks.reddit_shape import Shape, write_corpus

FIELDS = ("id", "conversation_id", "reply_to", "speaker", "text", "timestamp", "score", "stickied", "source")


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_memory() -> int:
    """Return this process' peak memory in bytes; getrusage would also count its parent's memory at the fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def measured(what: str, **more: Any) -> Iterator[dict[str, Any]]:
    """Print the block's time and memory as a line of JSON, with what the block adds to the yielded dictionary."""
    wall, cpu = perf_counter(), cpu_seconds()
    yield more
    seconds, used = perf_counter() - wall, cpu_seconds() - cpu
    print(json.dumps({"what": what, "seconds": seconds, "cpu": used, "peak": peak_memory(), **more}), flush=True)


def run_floor(corpus: Path, threads: int, memory: str) -> None:
    import duckdb

    from adc_pipeline.corpus.readers import convokit
    from adc_pipeline.corpus.readers.values import create_macros

    (rows,) = convokit.rows(corpus, duckdb.connect(), corpus / "scratch")
    with duckdb.connect() as connection:
        connection.execute("SET threads = $1", [threads])
        connection.execute("SET memory_limit = $1", [memory])
        create_macros(connection)
        lines = str(corpus / UTTERANCES_FILE)
        with measured("count the lines"):
            count = "SELECT count(*) FROM read_json($lines, format = 'newline_delimited', columns = {id: 'VARCHAR'})"
            connection.execute(count, {"lines": lines}).fetchall()
        with measured("read the fields"):
            greatest = ", ".join(f"max({name})" for name in FIELDS)
            connection.execute(f"SELECT {greatest} FROM ({rows.sql})", rows.parameters).fetchall()  # noqa: S608


def run_stages(corpus: Path, out: Path, threads: int, memory: str, shards: int) -> None:
    from adc_pipeline.core.engine import Engine
    from adc_pipeline.corpus.settings import UtteranceSettings
    from adc_pipeline.corpus.utterances import write_utterances
    from adc_pipeline.ranking.ranked_replies import write_ranked_replies
    from adc_pipeline.walks.datasets import write_walks

    engine = Engine(threads, memory, lambda report: print(report, file=sys.stderr))
    with measured("utterances") as more:
        more |= write_utterances(corpus, out / "utterances", UtteranceSettings(shards=shards), engine)
    with measured("ranked_replies") as more:
        more |= write_ranked_replies(out / "utterances", out / "ranked", engine=engine)
    for kind in KINDS:
        with measured(kind) as more:
            more |= write_walks(kind, out / "utterances", out / "ranked", out / kind, engine=engine)


def run_oracle(corpus: Path) -> None:
    from adc_pipeline.ranking.settings import RankingSettings
    from adc_pipeline.walks.settings import WalkSettings
    from adc_pipeline_tests import oracle

    with measured("oracle") as more:
        utterances = oracle.load(corpus)
        ranking = oracle.rank(utterances, RankingSettings())
        more["walks"] = sum(len(oracle.walks(kind, ranking, WalkSettings())) for kind in KINDS)


def child(*arguments: str) -> tuple[float, list[dict[str, Any]]]:
    """Run this module in a new process; return its seconds, start-up included, and its measurements."""
    began = perf_counter()
    command = [sys.executable, "-m", "adc_pipeline_tests.benchmarks.data", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return perf_counter() - began, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def read_once(corpus: Path) -> None:
    for path in corpus.iterdir():
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


class Bench:
    """Benchmarks with one setting of threads, memory and shards, in one folder."""

    def __init__(self, folder: Path, threads: int, memory: str, shards: int) -> None:
        self.folder, self.cores = folder, threads
        self.machine = [f"--threads={threads}", f"--memory={memory}", f"--shards={shards}"]

    def corpus(self, utterances: int, shape: Shape = "reddit") -> Path:
        corpus = self.folder / f"{shape}-{utterances}"
        if not (corpus / "index.json").exists():
            corpus.mkdir(parents=True, exist_ok=True)
            print(f"Writing {utterances:,} utterances", file=sys.stderr)
            write_corpus(corpus, utterances, shape)
        read_once(corpus)
        return corpus

    def stages(self, corpus: Path) -> tuple[float, list[dict[str, Any]]]:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        seconds, stages = child("--run=stages", f"--corpus={corpus}", f"--out={out}", *self.machine)
        shutil.rmtree(out)
        return seconds, stages

    def speed(self, utterances: int) -> float:
        """Print the table of all steps; return seconds per utterance."""
        corpus = self.corpus(utterances)
        size = (corpus / UTTERANCES_FILE).stat().st_size
        _, floor = child("--run=floor", f"--corpus={corpus}", *self.machine)
        _, stages = self.stages(corpus)
        read = self.print_stages([*floor, *stages], stages, size)
        seconds = sum(stage["seconds"] for stage in stages)
        counting, reading = (seconds / step["seconds"] for step in floor)
        print(f"All stages take {counting:.1f} times as long as counting the lines, {reading:.1f} times as long as")
        print("reading their fields.\n")
        return seconds / read

    def print_stages(self, steps: list[dict[str, Any]], stages: list[dict[str, Any]], size: int) -> int:
        """Print the table of some steps on `size` bytes and the sum of the stages; return the number of utterances."""
        read: int = stages[0]["read"]
        seconds, cpu = (sum(stage[what] for stage in stages) for what in ("seconds", "cpu"))
        peak = max(stage["peak"] for stage in stages)
        rows = [
            [
                stage["what"],
                f"{stage['seconds']:.1f}",
                f"{stage['cpu']:.1f}",
                f"{read / stage['seconds'] / self.cores:,.0f}",
                f"{size / stage['seconds'] / 1e6:,.0f}",
                f"{stage['peak'] / 2**30:.1f}",
            ]
            for stage in [*steps, {"what": "**all stages**", "seconds": seconds, "cpu": cpu, "peak": peak}]
        ]
        head = ["step", "seconds", "CPU seconds", "utterances/s per core", "MB of JSON/s", "peak memory, GiB"]
        print(f"{read:,} utterances, {size / 1e9:.2f} GB of JSON lines, {stages[0]['roots']:,} conversations\n")
        print(table(head, rows))
        return read

    def beside_the_oracle(self, utterances: int) -> None:
        corpus = self.corpus(utterances)
        ours, stages = self.stages(corpus)
        theirs, _ = child("--run=oracle", f"--corpus={corpus}", *self.machine)
        read = stages[0]["read"]
        rows = [[what, f"{s:.1f}", f"{read / s:,.0f}"] for what, s in (("pipeline", ours), ("oracle", theirs))]
        print(f"{read:,} utterances, start-up included\n")
        print(table(["", "seconds", "utterances/s"], rows))
        print(f"The pipeline is {theirs / ours:.0f} times as fast as the oracle.\n")

    def shapes(self, utterances: int) -> None:
        sizes: dict[Shape, int] = {
            "reddit": utterances,
            "chain": utterances,
            "wide": utterances,
            "pairs": 2 * utterances,
        }
        rows, usual = [], 0.0
        for shape, size in sizes.items():
            _, stages = self.stages(self.corpus(size, shape))
            each = sum(stage["seconds"] for stage in stages) / stages[0]["read"]
            usual = usual or each
            parts = [f"{stage['seconds']:.1f}" for stage in stages]
            rows.append([shape, f"{stages[0]['read']:,}", *parts, f"{each * 1e6:.1f}", f"{each / usual:.2f}"])
        head = [
            "shape",
            "utterances",
            "utterances s",
            "ranked s",
            *(f"{kind} s" for kind in KINDS),
            "µs per utterance",
            "ratio",
        ]
        print(table(head, rows))

    def growth(self, sizes: list[int]) -> None:
        first = 0.0
        for size in sizes:
            each = self.speed(size)
            first = first or each
            print(f"{each * 1e6:.2f} µs per utterance, {each / first - 1:+.0%} against {sizes[0]:,} utterances.\n")

    def packed(self, utterances: int) -> None:
        """Compare a dump compressed with zstandard's longest window with the same dump uncompressed."""
        plain = self.folder / "dump" / f"dump-{utterances}.jsonl"
        if not plain.exists():
            plain.parent.mkdir(exist_ok=True)
            write_dump(self.corpus(utterances), plain)
        packed = plain.with_suffix(".zst")
        if not packed.exists():
            pack(plain, packed)
        rows = []
        for dump in (plain, packed):
            _, stages = self.stages(dump)
            taken = stages[0]
            rows.append(
                [
                    dump.suffix,
                    f"{dump.stat().st_size / 1e9:.2f}",
                    f"{taken['seconds']:.1f}",
                    f"{taken['peak'] / 2**30:.1f}",
                ]
            )
        print(table(["dump", "GB", "seconds of utterances", "peak memory, GiB"], rows))

    def pieces(self, utterances: int, pieces: int) -> None:
        """Print the table of the stages on dumps that are generated and compressed one after the other."""
        dumps = self.folder / f"dumps-{utterances}-{pieces}"
        dumps.mkdir(parents=True, exist_ok=True)
        sizes = self.folder / f"{dumps.name}.sizes"
        for piece in range(pieces):
            packed = dumps / f"dump-{piece:03}.zst"
            if not packed.exists():
                print(f"Writing piece {piece + 1} of {pieces}", file=sys.stderr)
                with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
                    write_corpus(Path(temporary), utterances // pieces, piece=piece)
                    write_dump(Path(temporary), plain := Path(temporary) / "dump")
                    (Path(temporary) / UTTERANCES_FILE).unlink()
                    pack(plain, partial := Path(temporary) / packed.name)
                    with sizes.open("a") as file:
                        file.write(f"{plain.stat().st_size}\n")
                    partial.rename(packed)
        read_once(dumps)
        _, stages = self.stages(dumps)
        self.print_stages(stages, stages, sum(map(int, sizes.read_text().split())))


def pack(plain: Path, packed: Path) -> None:
    """Compress a file by zstandard with its longest window."""
    import zstandard

    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    with plain.open("rb") as source, packed.open("wb") as target:
        zstandard.ZstdCompressor(compression_params=settings).copy_stream(source, target)


# The utterances of a ConvoKit corpus, of `$lines`, and the fields that a Reddit dump has of them but for the time.
UTTERANCES = """
read_json($lines, format = 'newline_delimited', columns = {id: 'VARCHAR', speaker: 'VARCHAR',
    meta: 'STRUCT(score BIGINT, subreddit VARCHAR, stickied BOOLEAN)', timestamp: 'BIGINT', text: 'VARCHAR',
    "reply-to": 'VARCHAR', conversation_id: 'VARCHAR'})
"""
DUMP_FIELDS = """
    id, speaker AS author, meta.score AS score, meta.subreddit AS subreddit, meta.stickied AS stickied,
    CASE WHEN "reply-to" IS NULL THEN 'A title' END AS title, CASE WHEN "reply-to" IS NULL THEN text END AS selftext,
    CASE WHEN "reply-to" IS NOT NULL THEN text END AS body,
    CASE WHEN "reply-to" IS NOT NULL THEN 't3_' || conversation_id END AS link_id,
    CASE WHEN "reply-to" = conversation_id THEN 't3_' || "reply-to" ELSE 't1_' || "reply-to" END AS parent_id
"""


def write_dump(corpus: Path, path: Path) -> None:
    """Write the utterances of a ConvoKit corpus in the format of a Reddit dump."""
    import duckdb

    duckdb.execute(
        f"COPY (SELECT {DUMP_FIELDS}, timestamp AS created_utc FROM {UTTERANCES}) TO $path (FORMAT json)",  # noqa: S608
        {"lines": str(corpus / UTTERANCES_FILE), "path": str(path)},
    )


def about_this_machine(cores: int) -> str:
    from importlib.metadata import version

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = models[0].split(":")[1].strip() if models else platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "pyarrow", "convokit", "zstandard"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cores} of {os.cpu_count()} cores of {cpu}, {memory:.0f} GiB; Python {platform.python_version()}, {packages}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, nargs="+", default=[1_000_000], help="one or more corpus sizes")
    parser.add_argument("--sample", type=int, default=300_000, help="utterances for the oracle; 0 skips it")
    parser.add_argument("--shapes", action="store_true", help="measure the hard shapes instead")
    parser.add_argument("--zst", action="store_true", help="measure a compressed dump instead")
    parser.add_argument("--pieces", type=int, help="measure the stages on so many compressed dumps instead")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory", default="3GB", help="DuckDB's memory_limit")
    parser.add_argument("--shards", type=int, default=1, help="0: by the size of the corpus")
    parser.add_argument("--folder", type=Path, help="folder that keeps the corpora for the next benchmark")
    parser.add_argument("--run", choices=["floor", "stages", "oracle"], help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run == "floor":
        return run_floor(given.corpus, given.threads, given.memory)
    if given.run == "stages":
        return run_stages(given.corpus, given.out, given.threads, given.memory, given.shards)
    if given.run == "oracle":
        return run_oracle(given.corpus)
    print(about_this_machine(given.threads) + "\n", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(given.folder or Path(temporary), given.threads, given.memory, given.shards)
        if given.shapes:
            bench.shapes(given.utterances[0])
        elif given.zst:
            bench.packed(given.utterances[0])
        elif given.pieces:
            bench.pieces(given.utterances[0], given.pieces)
        else:
            bench.growth(given.utterances)
            if given.sample:
                bench.beside_the_oracle(given.sample)
    return None


if __name__ == "__main__":
    main()
