"""What the image is made of: locked packages, the entry scripts, and the launcher that run monitoring asks. 10 s."""

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
    """The version of every package in a lock file."""
    pins = re.findall(r"^([\w.-]+)==(\S+)", (DEPLOY / name).read_text(), re.MULTILINE)
    return {package.lower().replace("_", "-"): version for package, version in pins}


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(line) for line in (*project["dependencies"], *project["optional-dependencies"]["deploy"])]
    pins = locked("requirements.lock")
    for build in ("torch-cpu.lock", "torch-cuda.lock"):
        everything = pins | locked(build)
        for requirement in asked:
            assert requirement.specifier.contains(everything[requirement.name]), requirement


def test_both_builds_of_torch_are_of_one_version_and_share_the_other_packages() -> None:
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


def test_the_image_runs_as_a_user_without_rights_and_copies_only_what_the_context_lets_in() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER adc"]
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1] if word[:2] != "--"]
    assert copied
    for source in copied:
        assert source.split("/")[0] in let_in, source
        assert list(ROOT.glob(source.replace("${TORCH}", "*"))), source


def entry(*command: str, **environment: str) -> str:
    """What a command prints that the image's entry script starts."""
    path = f"{environment.pop('PATH_FIRST', '')}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(DEPLOY / "entry.sh"), *command],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_password_comes_from_its_file_into_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("it's a $ecret")
    assert entry("sh", "-c", 'printf %s "$PGPASSWORD"', POSTGRES_PASSWORD_FILE=str(secret)) == "it's a $ecret"
    assert entry("sh", "-c", 'printf %s "${PGPASSWORD-none}"') == "none"


def test_what_nobody_set_is_not_there_and_what_is_set_stays(tmp_path: Path) -> None:
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


def test_who_owns_a_database_brings_it_up_to_date_before_it_starts(tmp_path: Path) -> None:
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


def test_an_address_with_a_slash_at_its_end_is_an_origin_without_one(tmp_path: Path) -> None:
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
    """A code location's gRPC server and its port."""
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
def test_a_run_that_its_server_does_not_know_is_gone_and_a_silent_server_is_asked_again(
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
        # As after the container was started again: the server answers, and has no such process.
        assert watched.check_run_worker_health(run).status == WorkerStatus.NOT_FOUND
        # `docker compose exec code dagster job execute`: no server's, and perhaps alive.
        command = instance.add_run(DagsterRun(job_name="nothing", status=dg.DagsterRunStatus.STARTED))
        assert watched.check_run_worker_health(command).status == WorkerStatus.RUNNING
        process.kill()
        process.wait()
        assert watched.check_run_worker_health(run).status == WorkerStatus.RUNNING


def test_the_deployment_has_the_limits_of_a_laptop() -> None:
    laptop, deployment = (yaml.safe_load((at / "dagster.yaml").read_text()) for at in (ROOT, DEPLOY))
    for section in ("concurrency", "freshness"):
        assert deployment[section] == laptop[section]


def test_the_deployments_settings_of_dagster_are_ones_it_knows() -> None:
    settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    # PostgreSQL is not here; everything else is taken as it stands.
    assert settings.pop("storage")["postgres"]["postgres_url"].startswith("postgresql+psycopg2://")
    settings["compute_logs"]["config"]["base_dir"] = settings["local_artifact_storage"]["config"]["base_dir"] = "/tmp"
    with instance_for_test(overrides=settings) as instance:
        assert isinstance(instance.run_launcher, WatchfulRunLauncher)
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config is not None
        assert limits.run_queue_config.tag_concurrency_limits == [{"key": "adc/writes", "value": "places", "limit": 1}]
        assert limits.pool_config.default_pool_limit == 1
