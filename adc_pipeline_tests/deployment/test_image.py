"""The image: locked packages, entry scripts, and the run launcher's health check. 10 s."""

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster import DagsterInstance, DagsterRun
from dagster._core.launcher import WorkerStatus
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import instance_for_test
from packaging.requirements import Requirement

from adc_pipeline.defs.launcher import WatchfulRunLauncher
from adc_pipeline_tests.constraints import constraints
from deploy.proof import compose

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def locked(name: str) -> dict[str, str]:
    """Return the version of every package in a lock file."""
    pins = re.findall(r"^([\w.-]+)==(\S+)", (DEPLOY / name).read_text(), re.MULTILINE)
    return {package.lower().replace("_", "-"): version for package, version in pins}


def test_the_locks_contain_the_projects_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(line) for line in (*project["dependencies"], *project["optional-dependencies"]["deploy"])]
    pins = locked("requirements.lock")
    for build in ("torch-cpu.lock", "torch-cuda.lock"):
        everything = pins | locked(build)
        for requirement in asked:
            assert requirement.specifier.contains(everything[requirement.name]), requirement


def test_both_torch_builds_have_one_version_and_share_the_other_packages() -> None:
    cpu, cuda, rest = locked("torch-cpu.lock"), locked("torch-cuda.lock"), locked("requirements.lock")
    assert cpu["torch"] == f"{cuda['torch']}+cpu"
    assert "torch" not in rest
    assert {name: cuda[name] for name in cuda if name in rest} == {name: rest[name] for name in cuda if name in rest}


@pytest.mark.parametrize("name", ["requirements.lock", "torch-cpu.lock", "torch-cuda.lock"])
def test_the_image_has_the_versions_that_the_tests_run_with(name: str) -> None:
    pins = constraints()
    tested = {package: version.split("+")[0] for package, version in locked(name).items() if package in pins}
    assert tested == {package: pins[package] for package in tested}


@pytest.mark.parametrize("name", ["requirements.lock", "torch-cuda.lock"])
def test_every_locked_package_has_its_hashes(name: str) -> None:
    text = (DEPLOY / name).read_text()
    for block in re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


def test_the_image_runs_as_an_unprivileged_user_and_copies_only_the_build_context() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER adc"]
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1] if word[:2] != "--"]
    assert copied
    for source in copied:
        assert source.split("/")[0] in let_in, source
        assert list(ROOT.glob(source.replace("${TORCH}", "*"))), source


def entry(*command: str, **environment: str) -> str:
    """Run a command by the image's entry script and return its output."""
    path = f"{environment.pop('PATH_FIRST', '')}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(DEPLOY / "entry.sh"), *command],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_password_is_read_from_its_file_into_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("it's a $ecret")
    assert entry("sh", "-c", 'printf %s "$PGPASSWORD"', POSTGRES_PASSWORD_FILE=str(secret)) == "it's a $ecret"
    assert entry("sh", "-c", 'printf %s "${PGPASSWORD-none}"') == "none"


def test_empty_variables_are_unset_and_others_kept(tmp_path: Path) -> None:
    spec = compose.read([ROOT / "docker-compose.yml"], {})["services"]
    empty = {
        key
        for service in spec.values()
        if "build" in service
        for key, value in service["environment"].items()
        if not value
    }
    assert "MLFLOW_S3_ENDPOINT_URL" in empty
    for name in empty:
        show = ["sh", "-c", f'printf %s "${{{name}-unset}}"']
        assert entry(*show, **{name: ""}) == "unset"
        assert entry(*show, **{name: "https://s3.example.org"}) == "https://s3.example.org"


def test_the_owner_of_a_database_migrates_it_before_it_starts(tmp_path: Path) -> None:
    for name in ("dagster", "dagster-daemon", "dagster-webserver", "mlflow"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    spec = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    def started(service: str) -> list[str]:
        out = entry(*spec[service]["command"], PATH_FIRST=str(tmp_path), **spec[service]["environment"])
        return [" ".join(line.split()[:3]) for line in out.splitlines()]

    assert started("daemon") == ["dagster instance migrate", "dagster-daemon run --workspace"]
    assert started("mlflow") == ["mlflow db upgrade", "mlflow server --host=0.0.0.0"]
    assert started("webserver") == ["dagster-webserver --host 0.0.0.0"]


def test_a_trailing_slash_is_removed_from_the_allowed_origin(tmp_path: Path) -> None:
    program = tmp_path / "mlflow"
    program.write_text('#!/bin/sh\necho "$MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"\n')
    program.chmod(0o755)
    given = {"MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://mlflow.example.org/", "MLFLOW_BACKEND_STORE_URI": "x"}
    shown = entry("mlflow", "server", PATH_FIRST=str(tmp_path), **given)
    assert set(shown.split()) == {"https://mlflow.example.org"}


@dg.job
def nothing() -> None:
    """A job for the server below to load."""


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a code location's gRPC server; yield it with its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["api", "grpc", "--host", "127.0.0.1", "--port", str(port), "--python-file", __file__]
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", *command, "--attribute", "nothing"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield process, port
    finally:
        process.kill()
        process.wait()


def started_run(instance: DagsterInstance, port: int) -> DagsterRun:
    info = f'{{"host": "127.0.0.1", "port": {port}}}'
    run = DagsterRun(job_name="nothing", status=dg.DagsterRunStatus.STARTED, tags={GRPC_INFO_TAG: info})
    return instance.add_run(run)


@pytest.mark.slow
def test_a_run_unknown_to_its_server_has_ended_and_a_silent_server_is_asked_again(
    server: tuple[subprocess.Popen[bytes], int],
) -> None:
    process, port = server
    launcher = {"module": WatchfulRunLauncher.__module__, "class": WatchfulRunLauncher.__name__}
    monitoring = {"enabled": True}
    with instance_for_test(overrides={"run_launcher": launcher, "run_monitoring": monitoring}) as instance:
        watched = instance.run_launcher
        assert isinstance(watched, WatchfulRunLauncher)
        assert watched.supports_check_run_worker_health
        run = started_run(instance, port)
        # As after a restart of the container: the server responds, but has no such process.
        assert watched.check_run_worker_health(run).status == WorkerStatus.NOT_FOUND
        # A run of `docker compose exec code dagster job execute` belongs to no server, and may be alive.
        command = instance.add_run(DagsterRun(job_name="nothing", status=dg.DagsterRunStatus.STARTED))
        assert watched.check_run_worker_health(command).status == WorkerStatus.RUNNING
        process.kill()
        process.wait()
        assert watched.check_run_worker_health(run).status == WorkerStatus.RUNNING


def test_the_deployment_has_the_same_limits_as_a_developers_machine() -> None:
    laptop, deployment = (yaml.safe_load((at / "dagster.yaml").read_text()) for at in (ROOT, DEPLOY))
    for section in ("concurrency", "freshness"):
        assert deployment[section] == laptop[section]


@pytest.mark.slow
def test_dagster_accepts_the_deployments_settings() -> None:
    settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    # Everything except PostgreSQL, which is not available here.
    assert settings.pop("storage")["postgres"]["postgres_url"].startswith("postgresql+psycopg2://")
    settings["compute_logs"]["config"]["base_dir"] = settings["local_artifact_storage"]["config"]["base_dir"] = "/tmp"
    with instance_for_test(overrides=settings) as instance:
        assert isinstance(instance.run_launcher, WatchfulRunLauncher)
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config is not None
        assert limits.pool_config.default_pool_limit == 1
