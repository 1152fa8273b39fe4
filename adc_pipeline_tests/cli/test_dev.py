"""`adc dev` for real: both pages, a run of the command line started again from there, the guard, and the end. 60 s."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import yaml
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from adc_pipeline.cli.dev import address, alone, free_port, mlflow_names
from adc_pipeline.cli.home import dagster_instance
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.defs.origin import LOCATION, REPOSITORY

REEXECUTE = """mutation($run: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: ALL_STEPS}) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
LAUNCH = """mutation($repository: String!, $location: String!, $config: RunConfigData!) {
  launchRun(executionParams: {runConfigData: $config, selector: {
    repositoryName: $repository, repositoryLocationName: $location, jobName: "datasets"}}) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
LOCATED = {"repository": REPOSITORY, "location": LOCATION}
JOB = """query($repository: String!, $location: String!) {
  pipelineOrError(params: {repositoryName: $repository, repositoryLocationName: $location, pipelineName: "datasets"}) {
    ... on Pipeline {runs(limit: 10) {runId status}}}}"""


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 180.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} took longer than {seconds:.0f} s")


@dataclass(frozen=True)
class Pages:
    """A running `adc dev`."""

    process: subprocess.Popen[bytes]
    store: Store
    dagster: str
    mlflow: str

    def ask(self, query: str, variables: Mapping[str, Any], **headers: str) -> Any:
        body = json.dumps({"query": query, "variables": dict(variables)}).encode()
        headers = {"Content-Type": "application/json", **headers}
        with urllib.request.urlopen(urllib.request.Request(f"{self.dagster}/graphql", body, headers)) as answer:
            return json.loads(answer.read())["data"]

    def runs(self) -> dict[str, str]:
        """Status by run, as the page of the job `datasets` lists them."""
        data = self.ask(JOB, LOCATED)
        return {run["runId"]: run["status"] for run in data["pipelineOrError"]["runs"]}


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The pages after `dagster job execute`, in a folder without a dagster.yaml or a workspace.yaml."""
    folder = tmp_path_factory.mktemp("dev")
    (folder / "run.yaml").write_text(yaml.safe_dump({"ops": {"raw_corpus": {"config": {"sample_conversations": 40}}}}))
    home = folder / "home"
    environment = {**os.environ, "ADC_HOME": str(home)}
    for name in ("DAGSTER_HOME", "MLFLOW_TRACKING_URI", "ADC_CORPUS", "ADC_MLFLOW_PAGES"):
        environment.pop(name, None)
    ports = unused_port(), unused_port()
    adc = [sys.executable, "-m", "adc_pipeline", "dev", "--port", str(ports[0]), "--mlflow-port", str(ports[1])]
    with (folder / "dev.log").open("wb") as log:
        process = subprocess.Popen(adc, cwd=folder, env=environment, stdout=log, stderr=log)
    pages = Pages(process, Store(home), *(address("127.0.0.1", port) for port in ports))
    try:
        wait_for("adc dev", lambda: process.poll() is not None or "Ctrl+C" in (folder / "dev.log").read_text())
        printed = (folder / "dev.log").read_text()
        assert process.poll() is None, printed
        assert f"MLflow:   {pages.mlflow}/#/experiments/1/runs?workflowType=machine_learning\n" in printed
        job = [sys.executable, "-m", "dagster", "job", "execute", "-m", LOCATION, "-j", "datasets", "-c", "run.yaml"]
        environment["DAGSTER_HOME"] = str(home / "dagster")
        subprocess.run(job, cwd=folder, env=environment, check=True, capture_output=True)
        yield pages
    finally:
        started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        for each in started:
            if each.is_running():
                each.kill()


@pytest.mark.slow
def test_a_run_of_the_command_line_is_the_locations_own_and_can_be_started_again(pages: Pages) -> None:
    ((run, status),) = pages.runs().items()
    assert status == "SUCCESS"
    launched = pages.ask(REEXECUTE, {"run": run}, Origin=pages.dagster, **{"Sec-Fetch-Site": "same-origin"})
    assert launched["launchRunReexecution"]["__typename"] == "LaunchRunSuccess", launched
    again = launched["launchRunReexecution"]["run"]["runId"]
    assert (
        wait_for("the run", lambda: pages.runs()[again] in ("SUCCESS", "FAILURE") and pages.runs()[again]) == "SUCCESS"
    )


@pytest.mark.slow
def test_a_foreign_page_can_start_nothing_and_the_page_itself_has_its_websocket(pages: Pages) -> None:
    before = pages.runs()
    image = f"{pages.dagster}/graphql?query=mutation%7BlaunchRun%7B__typename%7D%7D"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(image)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        pages.ask(REEXECUTE, {"run": next(iter(before))}, Origin="http://pages.example")
    assert pages.runs() == before
    socket_address = f"{pages.dagster.replace('http', 'ws')}/graphql"
    own: dict[str, Any] = {"origin": pages.dagster, "subprotocols": ["graphql-ws"]}
    with pytest.raises(InvalidStatus, match="403"):
        connect(socket_address, **{**own, "origin": "http://pages.example"})
    with connect(socket_address, **own) as websocket:
        websocket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(websocket.recv(30)) == {"type": "connection_ack"}


@pytest.mark.slow
def test_both_pages_end_together_and_a_run_in_progress_is_cancelled(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    with urllib.request.urlopen(pages.mlflow) as answer:
        assert "MLflow" in answer.read().decode()
    for host in ("pages.example", "10.pages.example:5000", "192.168.pages.example"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(pages.mlflow, headers={"Host": host}))
    # Minutes of work for its first step.
    config = {"ops": {"raw_corpus": {"config": {"sample_conversations": 300_000}}}}
    run = pages.ask(LAUNCH, {**LOCATED, "config": config})["launchRun"]["run"]["runId"]
    wait_for("the run", lambda: pages.runs()[run] == "STARTED")
    started = psutil.Process(pages.process.pid).children(recursive=True)
    pages.process.send_signal(signal.SIGTERM)
    assert pages.process.wait(120) == 0
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    monkeypatch.setenv("DAGSTER_HOME", "")
    with dagster_instance(pages.store) as instance:
        assert instance.get_run_by_id(run).status is dg.DagsterRunStatus.CANCELED  # type: ignore[union-attr]


def test_one_command_serves_an_adc_home(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with (
        alone(logs),
        pytest.raises(PipelineError, match=f"Another `adc dev` serves ADC_HOME = {tmp_path}: "),
        alone(logs),
    ):
        pass
    with alone(logs):
        pass


def test_a_port_that_is_taken_is_refused_and_a_default_gives_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(PipelineError, match=f"The port {taken} cannot be used at 127.0.0.1 .*--port"):
            free_port("127.0.0.1", taken, 3000, "--port")
        assert free_port("127.0.0.1", None, taken, "--port") > taken


@pytest.mark.parametrize(
    ("host", "page"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("::1", "http://[::1]:1")],
)
def test_the_address_is_one_that_a_browser_can_open(host: str, page: str) -> None:
    assert address(host, 1) == page


@pytest.mark.parametrize("host", ["192.168.0.7", "Workstation", "fd00::7", "127.0.0.1", "127.0.0.2"])
def test_mlflow_answers_at_the_address_served_and_to_no_foreign_name(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.server import security_utils

    for variable in ("MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in mlflow_names(host, 5000).items():
        monkeypatch.setenv(variable, value)
    names, origins = security_utils.get_allowed_hosts_from_env(), security_utils.get_allowed_origins_from_env()
    assert names
    page = address(host.lower(), 5000)
    for name in (page.removeprefix("http://"), "localhost:5000", "127.0.0.1", "[::1]:5000"):
        assert security_utils.is_allowed_host_header(names, name), name
    for name in ("192.168.pages.example:5000", "10.pages.example", "pages.example", f"{host}.pages.example:5000"):
        assert not security_utils.is_allowed_host_header(names, name), name
    assert not security_utils.should_block_cors_request(page, "POST", origins)
    for foreign in ("http://pages.example", "null"):
        assert security_utils.should_block_cors_request(foreign, "POST", origins)
