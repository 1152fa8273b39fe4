"""Make the datasets on a real Ray cluster of three nodes on this machine, and compare them with those made without it.

    sudo python -m deploy.cluster                               1 million utterances
    sudo python -m deploy.cluster --utterances 10000000         as many as you have time for
    sudo python -m deploy.cluster --corpus FOLDER               a corpus of your own

Each node is a network namespace with a scratch folder of its own; one folder is shared. All servers listen inside these
namespaces only. Four runs of the job `datasets`, each in an ADC_HOME of its own: without the cluster; on the cluster;
on the cluster after its head was restarted; and on the cluster while a node is killed in the middle of a stage. The
digests of all datasets must be equal, the killed node must have lost a task that was made again, and no worker may take
more memory than its task asks for. Needs root, `ip` of iproute2 and the extra `ray`. Everything is removed at the
end, also after a failure.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from adc_pipeline.core.cluster.tasks import memory_of

ROOT = Path(__file__).parents[1]
BRIDGE, SUBNET, PORT = "adc-br", "10.213.77", 6379
DATASETS = ("utterances", "ranked_replies", "top_2", "random_walk", "ascending", "preferences")
SECONDS = 3600
# The names of the runs, which are those of their folders too.
LOCAL, RESTARTED, LOST = "local", "ray, head restarted", "ray, a node killed"


def run(*command: str, quiet: bool = False) -> None:
    subprocess.run(command, check=not quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if quiet else None)


@dataclass(frozen=True)
class Node:
    """A network namespace with an address on the bridge and a scratch folder."""

    number: int
    name: str
    address: str
    scratch: Path

    def create(self) -> None:
        outside, inside = f"adc-v{self.number}", f"adc-w{self.number}"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
        run("ip", "link", "set", outside, "master", BRIDGE, "up")
        run("ip", "link", "set", inside, "netns", self.name)
        run(*self.inside("ip", "addr", "add", f"{self.address}/24", "dev", inside))
        run(*self.inside("ip", "link", "set", inside, "up"))
        run(*self.inside("ip", "link", "set", "lo", "up"))
        self.scratch.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        self.kill()
        run("ip", "netns", "del", self.name, quiet=True)
        run("ip", "link", "del", f"adc-v{self.number}", quiet=True)

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def start(self, variables: Mapping[str, str], cpus: int, memory: int) -> None:
        """Start Ray; the first node is the head."""
        of_role = (
            ["--head", f"--port={PORT}", "--include-dashboard=false"]
            if self.number == 0
            else [f"--address={SUBNET}.1:{PORT}"]
        )
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *of_role, f"--node-ip-address={self.address}"]
        sizes = [f"--num-cpus={cpus}", f"--memory={memory}", "--object-store-memory=80000000"]
        temporary = [f"--temp-dir={self.scratch}"]
        environment = os.environ | variables | {"TMPDIR": str(self.scratch)}
        with (self.scratch / "start.log").open("a") as log:
            done = subprocess.run(
                self.inside(*command, *sizes, *temporary),
                env=environment, stdout=log, stderr=log, cwd=ROOT, timeout=120,
            )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"Ray did not start on {self.name}:\n{(self.scratch / 'start.log').read_text()[-2000:]}")

    def pids(self) -> list[int]:
        found = subprocess.run(("ip", "netns", "pids", self.name), capture_output=True, text=True)
        return list(map(int, found.stdout.split()))

    def kill(self) -> None:
        """Kill every process of the node at once, as when its power fails."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def makes_a_shard(self) -> bool:
        """Return whether a task runs on the node, by its folder (`core.cluster.tasks.make_shard`)."""
        return any(self.scratch.glob("adc-shard-*"))


@contextmanager
def network(folder: Path, nodes: int) -> Iterator[list[Node]]:
    """Yield nodes whose namespaces are joined by a bridge; remove them at the end."""
    made = [Node(n, f"adc-node{n}", f"{SUBNET}.{n + 1}", folder / f"n{n}") for n in range(nodes)]
    with ExitStack() as stack:
        stack.callback(run, "ip", "link", "del", BRIDGE, quiet=True)
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")
        for node in made:
            stack.callback(node.remove)
            node.create()
        yield made


class Memory(threading.Thread):
    """Watches the largest memory that a worker of Ray has had, in bytes."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__(daemon=True)
        self.nodes, self.peak, self.ended = nodes, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(1):
            for pid in [pid for node in self.nodes for pid in node.pids()]:
                with suppress(OSError):
                    if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
                        status = Path(f"/proc/{pid}/status").read_text()
                        self.peak = max(self.peak, int(status.partition("VmHWM:")[2].split()[0]) << 10)


class Proof:
    """Runs of the job `datasets` over one corpus, in homes below one shared folder, and how long each took."""

    def __init__(self, shared: Path, corpus: Path, shards: int, memory_limit: str) -> None:
        self.shared, self.corpus, self.shards, self.memory_limit = shared, corpus, shards, memory_limit
        self.seconds: dict[str, float] = {}

    def start(
        self, name: str, executor: str, node: Node | None, variables: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        home = self.shared / name
        home.mkdir()
        config = {
            "resources": {
                "shards": {"config": {"executor": executor}},
                # Without the cluster, all cores are used by threads; on it, by tasks of one thread.
                "workspace": {"config": {"threads": int(executor == "ray"), "memory_limit": self.memory_limit}},
            },
            "ops": {
                "raw_corpus": {"config": {"corpus": str(self.corpus)}},
                "utterances": {"config": {"shards": self.shards}},
            },
        }
        (home / "run.yaml").write_text(json.dumps(config))
        command = [sys.executable, "-m", "adc_pipeline", "run", "datasets", "-c", str(home / "run.yaml")]
        own = {"ADC_HOME": str(home / "adc"), "PYTHONPATH": str(ROOT)}
        unset = ("MLFLOW_TRACKING_URI", "DAGSTER_HOME", "RAY_ADDRESS")
        environment = {**{key: value for key, value in os.environ.items() if key not in unset}, **own, **variables}
        if node:
            command = node.inside(*command)
        return subprocess.Popen(
            command, env=environment, cwd=home, stdout=(home / "log").open("wb"), stderr=subprocess.STDOUT
        )

    @contextmanager
    def run(
        self, name: str, executor: str, node: Node | None, variables: Mapping[str, str]
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Start a run, and wait for its end after the block; SystemExit with its output where it fails."""
        began = time.monotonic()
        process = self.start(name, executor, node, variables)
        yield process
        if process.wait(SECONDS):
            raise SystemExit(f"The run {name} failed:\n{self.log(name)[-4000:]}")
        self.seconds[name] = time.monotonic() - began
        print(f"{name}: {self.seconds[name]:.1f} s", flush=True)

    def log(self, name: str) -> str:
        return (self.shared / name / "log").read_text(errors="replace")

    def steps_log(self, name: str) -> str:
        """Return all lines of the steps, of which the terminal has the last ones."""
        return (self.shared / name / "adc" / "logs" / "datasets.log").read_text(errors="replace")

    def digests(self, name: str) -> dict[str, str]:
        store = self.shared / name / "adc" / "store"
        return {asset: (store / asset / "current").resolve().name for asset in DATASETS}

    def stage_seconds(self, name: str) -> float:
        """Return the time from the start of the first stage that runs on the cluster to the end of the last."""
        store = self.shared / name / "adc" / "store"
        times = [(store / asset / "current").resolve().stat().st_mtime for asset in ("raw_corpus", *DATASETS)]
        return max(times) - min(times)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=1_000_000, help="size of the generated corpus")
    parser.add_argument("--corpus", type=Path, help="read this corpus instead of a generated one")
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--nodes", type=int, default=3, choices=range(2, 10))
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of a node")
    parser.add_argument("--memory-limit", default="1GB", help="DuckDB's memory limit of a task")
    parser.add_argument("--folder", type=Path, default=None, help="where to put scratch and shared folders")
    given = parser.parse_args(arguments)
    if os.geteuid() or not shutil.which("ip"):
        print("This makes network namespaces: run it as root, with `ip` of iproute2 installed.", file=sys.stderr)
        return 2
    # So that nodes and folders are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    # Paths of Ray's sockets have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="adc-", dir=given.folder) as temporary:
        return prove(Path(temporary), given)


def prove(folder: Path, given: argparse.Namespace) -> int:
    """Make the four runs, print the table, and return the exit status."""
    shared = folder / "shared"
    shared.mkdir()
    corpus = given.corpus.resolve() if given.corpus else shared / "corpus"
    if not given.corpus:
        from adc_pipeline_tests.benchmarks.reddit_shape import write_corpus

        corpus.mkdir()
        write_corpus(corpus, given.utterances)
    proof = Proof(shared, corpus, given.shards, given.memory_limit)
    with proof.run(LOCAL, "local", None, {}):
        pass
    with network(folder, given.nodes) as nodes:
        peak, lost = runs_on(nodes, proof, given.cpus)
    notes = {RESTARTED: "all nodes joined a new head", LOST: f"{lost} tasks of the node made again on others"}
    print(f"\n{given.nodes} nodes of {given.cpus} CPU, {given.shards} shards, {os.cpu_count()} cores in all\n")
    equal = print_table(proof, notes)
    limit = memory_of(given.memory_limit)
    print(f"\nLargest memory of a worker: {peak / 2**30:.2f} GiB, of {limit / 2**30:.2f} GiB that a task asks for.")
    checks = {"the digests differ": equal, "no task was lost": lost > 0, "too much memory": peak <= limit}
    failed = [what for what, holds in checks.items() if not holds]
    for what in failed:
        print(f"FAILED: {what}")
    print("\n" + "\n".join(f"{asset}: {digest}" for asset, digest in proof.digests(LOCAL).items()))
    return int(bool(failed))


def runs_on(nodes: Sequence[Node], proof: Proof, cpus: int) -> tuple[int, int]:
    """Make the runs on the cluster; return the largest memory of a worker in bytes, and how many tasks were lost."""
    head = nodes[0]
    ray = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "PYTHONPATH": str(ROOT),
    }
    there = ray | {"RAY_ADDRESS": f"{head.address}:{PORT}"}

    def start_all() -> None:
        for node in nodes:
            node.start(ray, cpus, 4 * 2**30)

    start_all()
    memory = Memory(nodes)
    memory.start()
    with proof.run("ray", "ray", head, there):
        pass
    for node in nodes:
        node.kill()
    start_all()
    with proof.run(RESTARTED, "ray", head, there):
        pass
    with proof.run(LOST, "ray", head, there) as process:
        # In the middle of a task, after the first one.
        for wanted in (True, False, True):
            while process.poll() is None and nodes[-1].makes_a_shard() != wanted:
                time.sleep(0.005)
        nodes[-1].kill()
    memory.ended.set()
    return memory.peak, proof.steps_log(LOST).count("was lost with its node")


def print_table(proof: Proof, notes: Mapping[str, str]) -> bool:
    """Print a row for each run; return whether all have the digests of the local one."""
    digests, local = proof.digests(LOCAL), proof.stage_seconds(LOCAL)
    equal = True
    print("| run | seconds | of the stages | against local | digests | |\n| --- | ---: | ---: | ---: | --- | --- |")
    for name, taken in proof.seconds.items():
        made, stages = proof.digests(name), proof.stage_seconds(name)
        others = [asset for asset, digest in digests.items() if made[asset] != digest]
        equal &= not others
        same = f"DIFFER: {', '.join(others)}" if others else "equal"
        cells = [name, f"{taken:.1f}", f"{stages:.1f}", f"{stages / local - 1:+.0%}", same]
        print(f"| {' | '.join(cells)} | {notes.get(name, '')} |")
    return equal


if __name__ == "__main__":
    sys.exit(main())
