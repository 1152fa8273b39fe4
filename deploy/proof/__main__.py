"""Proves the deployment by using it: everything that docs/how-to/deploy.md promises, on the compose file as it stands.

    python -m deploy.proof                        with Docker
    python -m deploy.proof --engine podman        with podman, as root

Needs PyYAML and nothing else of the project. It works in a compose project of its own (`adc-proof`), so that a
deployment on the same machine keeps its volumes; the ports have to be free, or set by DAGSTER_PORT and MLFLOW_PORT.
It removes what it made, also after a failure, except the images. Every step prints what was seen and its seconds.
"""

import argparse
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.proof.engines import ROOT, Docker, Engine, Podman

LAUNCH = """
mutation ($job: String!) {
  launchRun(executionParams: {selector: {
    repositoryLocationName: "adc_pipeline.definitions", repositoryName: "__repository__", jobName: $job}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
RUN = """
query ($id: ID!) {
  runOrError(runId: $id) {
    __typename ... on Run { status startTime endTime eventConnection { events { __typename } } }
  }
}"""
RUNS = "{ runsOrError { ... on Runs { results { runId status tags { key value } } } } }"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
# The name that docs/how-to/deploy.md publishes MLflow by, and what it says to set for it.
PUBLISHED = "mlflow.example.org"
SETTINGS = {"MLFLOW_ALLOWED_HOSTS": f",{PUBLISHED}", "ADC_MLFLOW_PAGES": f"https://{PUBLISHED}"}
# How docs/how-to/deploy.md says that both databases are copied and put back.
COPY = "for name in dagster mlflow; do pg_dump -U adc --create --clean --if-exists $name || exit 1; done"
LOAD = "psql -q -U adc -d postgres -v ON_ERROR_STOP=1 -o /dev/null"


class Pages:
    """Dagster's and MLflow's pages as a person's programs reach them: through the published ports."""

    def __init__(self, project: dict[str, Any]) -> None:
        self.dagster, self.mlflow = (address(project, name) for name in ("webserver", "mlflow"))

    def graphql(self, query: str, **variables: str) -> dict[str, Any]:
        answer = request(f"{self.dagster}/graphql", {"query": query, "variables": variables})
        if "errors" in answer:
            raise RuntimeError(f"GraphQL: {answer['errors']}")
        data: dict[str, Any] = answer["data"]
        return data

    def launch(self, job: str) -> str:
        """The id of a new run of `job`."""
        launched = self.graphql(LAUNCH, job=job)["launchRun"]
        if launched["__typename"] != "LaunchRunSuccess":
            raise RuntimeError(f"The run was not launched: {launched}")
        return str(launched["run"]["runId"])

    def wait(self, run: str, wanted: set[str], timeout: float = 600) -> str:
        """The run's status once it is one of `wanted`; RuntimeError for another end, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            status = str(self.graphql(RUN, id=run)["runOrError"]["status"])
            if status in wanted:
                return status
            if status in ENDED or time.monotonic() > deadline:
                raise RuntimeError(f"Run {run} is {status}, not {' or '.join(sorted(wanted))}")
            time.sleep(0.5)

    def span(self, run: str) -> tuple[float, float]:
        """When a run that has ended began and ended, in seconds."""
        found = self.graphql(RUN, id=run)["runOrError"]
        return float(found["startTime"]), float(found["endTime"])

    def runs(self) -> dict[str, str]:
        """The status of every run that Dagster knows."""
        return {run["runId"]: run["status"] for run in self.graphql(RUNS)["runsOrError"]["results"]}

    def retry_of(self, run: str) -> str | None:
        """The run that was started in place of a run that died."""
        for other in self.graphql(RUNS)["runsOrError"]["results"]:
            if {"key": "dagster/parent_run_id", "value": run} in other["tags"]:
                return str(other["runId"])
        return None

    def tracked(self, run: str) -> list[dict[str, Any]]:
        """The MLflow runs that a Dagster run made."""
        api = f"{self.mlflow}/api/2.0/mlflow"
        experiment = request(f"{api}/experiments/get-by-name?experiment_name=adc")["experiment"]["experiment_id"]
        found = request(
            f"{api}/runs/search", {"experiment_ids": [experiment], "filter": f"tags.`dagster.run_id` = '{run}'"}
        )
        return list(found.get("runs", []))

    def searched(self, host: str, origin: str) -> int:
        """How MLflow answers a search of its runs by a page of `origin` that reaches it, through a proxy, as `host`."""
        headers = {"Content-Type": "application/json", "Host": host, "Origin": origin}
        url = f"{self.mlflow}/ajax-api/2.0/mlflow/runs/search"
        body = json.dumps({"experiment_ids": ["0"], "max_results": 1}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def files(self, tracked: list[dict[str, Any]]) -> dict[str, int]:
        """The size of every file at the top of these runs' artifacts, fetched through the server."""
        sizes = {}
        for run in tracked:
            identity = run["info"]["run_id"]
            listed = request(f"{self.mlflow}/api/2.0/mlflow/artifacts/list?run_id={identity}").get("files", [])
            for file in listed:
                if not file.get("is_dir"):
                    address = f"{self.mlflow}/get-artifact?path={file['path']}&run_uuid={identity}"
                    with urllib.request.urlopen(address, timeout=30) as answer:
                        sizes[f"{run['info']['run_name']}/{file['path']}"] = len(answer.read())
        return sizes


def address(project: dict[str, Any], service: str) -> str:
    """Where a service's page is published; ValueError unless on this machine's loopback interface."""
    host, port, _ = project["services"][service]["ports"][0].split(":")
    if host != "127.0.0.1":
        raise ValueError(f"{service} is published on {host}: unset ADC_BIND for the proof")
    return f"http://{host}:{port}"


def request(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON that a server answers; waits a minute for one that, or whose database, is being started again."""
    data = None if body is None else json.dumps(body).encode()
    for attempt in range(60):
        try:
            headers = {"Content-Type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
                answered: dict[str, Any] = json.loads(answer.read())
                return answered
        except urllib.error.HTTPError as error:
            # The first question after PostgreSQL came back may meet a connection that ended with it.
            if error.code < 500 or attempt == 59:
                raise RuntimeError(f"{url} answers {error.code}: {error.read()[:500]!r}") from error
        except OSError:
            if attempt == 59:
                raise
        time.sleep(1)
    raise AssertionError


@contextmanager
def step(what: str) -> Iterator[Callable[[str], None]]:
    """Prints what a step is, what it saw, and its seconds."""
    seen: list[str] = []
    print(f"{what} ...", flush=True)
    started = time.monotonic()
    yield seen.append
    print(f"  {time.monotonic() - started:.1f} s; {'; '.join(seen) or 'done'}", flush=True)


def expect(held: bool, what: str) -> None:
    if not held:
        raise RuntimeError(f"Not so: {what}")


def prove(engine: Engine, *, build: bool) -> None:
    pages = Pages(engine.spec)
    services = list(engine.spec["services"])

    if build:
        with step("Build the images"):
            engine.build()

    with step("Start everything; each service waits until what it needs is healthy") as saw:
        engine.up()
        saw(f"healthy: {', '.join(services)}")

    with step("Look at users, ports and the file system") as saw:
        for service in services:
            if service != "postgres":
                user = engine.execute(service, "id", "-u").strip()
                expect(user == "10001", f"{service} runs as user {user}, not as 10001")
        status = engine.execute("postgres", "sh", "-c", "grep -h '^Uid' /proc/$(head -1 $PGDATA/postmaster.pid)/status")
        expect(status.split()[1] != "0", "PostgreSQL's server does not run as root")
        saw("no server runs as root")
        wrote = engine.execute("code", "sh", "-c", "touch /opt/adc/x 2>&1 || true")
        expect("Read-only" in wrote, f"the image is read-only: {wrote}")
        saw("the image is read-only")
        published = {
            binding["HostIp"]
            for service in services
            for bindings in (engine.inspect(service)["NetworkSettings"]["Ports"] or {}).values()
            for binding in bindings or []
        }
        expect(published == {"127.0.0.1"}, f"ports are published on {published}")
        saw("every port is published on 127.0.0.1 only")
        for service in services:
            memory = engine.inspect(service)["HostConfig"]["Memory"]
            expect(memory > 0, f"{service} has a limit of memory")
        saw("every service has a limit of memory")

    with step("Launch the job `datasets` through the webserver") as saw:
        first = pages.launch("datasets")
        pages.wait(first, {"SUCCESS"})
        events = [
            event["__typename"] for event in pages.graphql(RUN, id=first)["runOrError"]["eventConnection"]["events"]
        ]
        # Enqueued by the webserver; only the daemon takes a run out of the queue and starts it.
        wanted = ["RunEnqueuedEvent", "RunStartingEvent", "RunSuccessEvent"]
        expect([event for event in events if event in wanted] == wanted, f"the run went through the queue: {events}")
        saw(f"run {first} went through the queue and succeeded")
        saw(f"{events.count('MaterializationEvent')} assets")

    with step("Find it in MLflow") as saw:
        tracked = pages.tracked(first)
        expect(len(tracked) > 0, f"MLflow knows runs with the tag dagster.run_id = {first}")
        expect(all(run["info"]["artifact_uri"].startswith("mlflow-artifacts:") for run in tracked), "proxied artifacts")
        files = pages.files(tracked)
        expect(sum(files.values()) > 0, "their artifacts can be fetched through the server")
        saw(f"{len(tracked)} runs: {', '.join(sorted(run['info']['run_name'] for run in tracked))}")
        saw(f"{len(files)} files of {sum(files.values())} bytes fetched")

    with step("Search MLflow as its own pages do behind a proxy") as saw:
        for host, origin, expected in [
            (PUBLISHED, f"https://{PUBLISHED}", 200),
            (PUBLISHED, "https://elsewhere.example.org", 403),
            ("elsewhere.example.org", f"https://{PUBLISHED}", 403),
        ]:
            answered = pages.searched(host, origin)
            expect(answered == expected, f"MLflow answers {expected} to {origin} at {host}: {answered}")
        saw(f"{PUBLISHED} may, other names and pages of other addresses may not")

    with step("Kill the code location in the middle of a run") as saw:
        lost = pages.launch("datasets")
        pages.wait(lost, {"STARTED"})
        engine.crash("code")
        pages.wait(lost, {"FAILURE"})
        saw(f"run {lost} was found dead and ended as failed")
        while (again := pages.retry_of(lost)) is None:
            time.sleep(1)
        pages.wait(again, {"SUCCESS"})
        saw(f"the daemon started it again as {again}, which succeeded")
        saw(f"the container was started again {engine.restarts('code')} time(s)")

    known = pages.runs()
    for service in services:
        with step(f"Kill {service}") as saw:
            before = engine.restarts(service)
            engine.crash(service)
            while engine.restarts(service) == before:
                time.sleep(0.5)
            engine.wait_healthy(service)
            saw("the engine started it again, and it is healthy")
            expect(pages.runs() == known, "Dagster's history is as it was")
            expect(pages.files(pages.tracked(first)) == files, "MLflow's runs and artifacts are as they were")
            saw("history, runs and artifacts are as they were")

    with step("Take everything down, and start it again: tables are brought up to date, volumes are kept") as saw:
        asked = ("python", "-c", "import socket; print(socket.gethostname())")
        name = engine.execute("code", *asked)
        engine.down()
        engine.up()
        expect(engine.execute("code", *asked) == name, "a new container of the code has the name of the old one")
        expect(pages.runs() == known, "Dagster's history survived")
        expect(pages.files(pages.tracked(first)) == files, "MLflow's runs and artifacts survived")
        datasets = engine.execute("code", "sh", "-c", "ls /state/datasets").split()
        expect(set(datasets) >= {"top-2", "random-walk"}, f"the datasets survived: {datasets}")
        saw(f"{len(known)} Dagster runs, {len(tracked)} MLflow runs of the first, both datasets")

    with step("Copy the databases, lose their volume, and put them back") as saw:
        copied = engine.execute("postgres", "sh", "-c", COPY)
        engine.down()
        engine.remove_volume("postgres")
        engine.up("postgres")
        engine.execute("postgres", *LOAD.split(), input=copied)
        engine.up()
        expect(pages.runs() == known, "Dagster's history was put back")
        expect(pages.files(pages.tracked(first)) == files, "MLflow's runs were put back")
        saw(f"{len(known)} Dagster runs and {len(tracked)} MLflow runs of the first, from {len(copied)} bytes")

    with step("Launch two at once that write the same places") as saw:
        last = [pages.launch("datasets") for _ in range(2)]
        for run in last:
            pages.wait(run, {"SUCCESS"})
        one, other = sorted(pages.span(run) for run in last)
        expect(one[1] <= other[0], f"one waits in the queue until the other has ended: {one}, {other}")
        saw(f"runs {' and '.join(last)} succeeded, one after the other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["docker", "podman"], default="docker")
    parser.add_argument("--project", default="adc-proof", help="the compose project's name (default: %(default)s)")
    parser.add_argument("--no-build", action="store_true", help="use the images that are there")
    parser.add_argument(
        "--build-option", action="append", default=[], metavar="OPTION", help="for the engine's build, may be repeated"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    arguments = parser.parse_args()

    os.chdir(ROOT)
    os.environ.update(SETTINGS)
    kind = {"docker": Docker, "podman": Podman}[arguments.engine]
    engine = kind(arguments.engine, arguments.project, [Path("docker-compose.yml")], arguments.build_option)
    started = time.monotonic()
    try:
        # What an earlier proof left, if it was killed.
        engine.down(volumes=True)
        prove(engine, build=not arguments.no_build)
    except BaseException:
        for service in engine.spec["services"]:
            print(f"--- {service}\n{engine.logs(service)}", flush=True)
        raise
    finally:
        if not arguments.keep:
            with step("Remove containers, networks and volumes"):
                engine.down(volumes=True)
    print(f"Proved in {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
