"""Run PostgreSQL and MLflow's tracking server as plain processes on 127.0.0.1.

They have the options of docker-compose.yml, but no containers, so that a drill can kill and restart them in a second.
PostgreSQL needs Debian's package `postgresql`, and `pip install 'adc-pipeline[deploy]'` for its drivers.
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

from adc_pipeline_tests.drills.jobs import free_port, kill, process_tree, wait_for


def postgres_programs() -> Path | None:
    """Return the folder of `initdb`, `postgres` and `psql`, or None if they or their drivers are not installed."""
    if not all(importlib.util.find_spec(package) for package in ("dagster_postgres", "psycopg2")):
        return None
    # Debian installs each version's programs in a folder outside the PATH.
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
        """Create the cluster, start it, and create the databases."""
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
        """The user to run PostgreSQL as, which refuses to run as root; None for the current user."""
        return "nobody" if os.geteuid() == 0 else None

    def address(self, database: str) -> str:
        return f"postgresql+psycopg2://adc@127.0.0.1:{self.port}/{database}"

    def storage(self) -> dict[str, Any]:
        """Return the section `storage` of a dagster.yaml."""
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
        """Kill the server and all its processes; return their number."""
        assert self.process is not None
        processes = process_tree(self.process.pid)
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
        """Kill the server and its workers."""
        assert self.process is not None
        kill(process_tree(self.process.pid))
        self.process.wait()


@contextmanager
def postgres(folder: Path, programs: Path) -> Iterator[Postgres]:
    """Run a cluster during the block."""
    cluster = Postgres.make(folder, programs)
    try:
        yield cluster
    finally:
        cluster.kill()


@contextmanager
def mlflow_server(folder: Path, store: str = "") -> Iterator[MlflowServer]:
    """Run a tracking server during the block, by default with a SQLite store in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    server = MlflowServer(folder, store or f"sqlite:///{folder / 'mlflow.db'}", free_port())
    server.start()
    try:
        yield server
    finally:
        server.kill()
