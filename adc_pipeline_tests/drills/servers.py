"""The servers of a deployment as plain processes on 127.0.0.1: PostgreSQL, and MLflow's tracking server.

Started without containers, with the options of docker-compose.yml, so that a drill can kill and start them again in
a second. PostgreSQL needs Debian's package `postgresql`, and `pip install 'adc-pipeline[deploy]'` for its drivers.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adc_pipeline_tests.drills.jobs import below, free_port, kill, wait_for


def postgres_programs() -> Path | None:
    """The folder of `initdb`, `postgres` and `psql`; None where they, or their drivers, are not installed."""
    if not all(importlib.util.find_spec(package) for package in ("dagster_postgres", "psycopg2")):
        return None
    # Debian keeps them out of the way of several versions.
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.get_exec_path())]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@dataclass
class Postgres:
    """A cluster with two databases, `dagster` and `mlflow`, in a folder."""

    folder: Path
    programs: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, folder: Path, programs: Path) -> "Postgres":
        """Make the cluster, start it, and make the databases."""
        cluster = cls(folder, programs, free_port())
        folder.mkdir()
        if cluster.user:
            shutil.chown(folder, cluster.user)
        cluster._call("initdb", "-D", str(folder / "data"), "-U", "adc", "--auth=trust", "-E", "UTF8", "--no-locale")
        cluster.start()
        for name in ("dagster", "mlflow"):
            cluster._psql(f"CREATE DATABASE {name}")
        return cluster

    @property
    def user(self) -> str | None:
        """PostgreSQL refuses to run as root."""
        return "nobody" if os.geteuid() == 0 else None

    def address(self, database: str) -> str:
        return f"postgresql+psycopg2://adc@127.0.0.1:{self.port}/{database}"

    def storage(self) -> dict[str, Any]:
        """As `storage` of a dagster.yaml."""
        return {"postgres": {"postgres_url": self.address("dagster")}}

    def start(self) -> float:
        """Start the server; the seconds until it answers."""
        options = ["-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", *options], stdout=log, stderr=log, user=self.user, cwd=self.folder
            )
        return wait_for("PostgreSQL", self._answers)

    def kill(self) -> int:
        """SIGKILL to the server and each process of it; how many there were."""
        assert self.process is not None
        processes = below(self.process.pid)
        kill(processes)
        self.process.wait()
        return len(processes)

    def _answers(self) -> bool:
        ready = ["-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run([self.programs / "pg_isready", *ready]).returncode == 0

    def _psql(self, statement: str) -> None:
        self._call("psql", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "adc", "-c", statement, "postgres")

    def _call(self, program: str, *options: str) -> None:
        done = subprocess.run(
            [self.programs / program, *options], capture_output=True, text=True, user=self.user, cwd=self.folder
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")


@dataclass
class MlflowServer:
    """`mlflow server` with its artifacts proxied, as in the deployment."""

    folder: Path
    store: str
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Start the server; the seconds until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={self.port}", "--workers=1"]
        command += [f"--backend-store-uri={self.store}", f"--artifacts-destination={self.folder / 'artifacts'}"]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **quiet}, cwd=self.folder
            )
        return wait_for("The MLflow server", self.answers)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL to the server and its workers."""
        assert self.process is not None
        kill(below(self.process.pid))
        self.process.wait()


@contextmanager
def postgres(folder: Path, programs: Path) -> Iterator[Postgres]:
    """A cluster that runs until the block ends."""
    cluster = Postgres.make(folder, programs)
    try:
        yield cluster
    finally:
        cluster.kill()


@contextmanager
def mlflow_server(folder: Path, store: str = "") -> Iterator[MlflowServer]:
    """A tracking server that runs until the block ends; its store is a sqlite file in `folder` if none is named."""
    folder.mkdir(parents=True, exist_ok=True)
    server = MlflowServer(folder, store or f"sqlite:///{folder / 'mlflow.db'}", free_port())
    server.start()
    try:
        yield server
    finally:
        server.kill()
