"""Test the deployment end to end: check everything that docs/how-to/deploy.md states, with the real compose file.

    python -m deploy.proof                        with Docker
    python -m deploy.proof --engine podman        with podman, as root

Needs only PyYAML of the project's dependencies. The compose project is `adc-proof`, so that the volumes of a deployment
on the same machine are safe; the ports must be free, or set by DAGSTER_PORT and MLFLOW_PORT. Everything except the
images is removed at the end, also after a failure. Each step prints its findings and its duration.
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
from urllib.parse import urlencode

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
# The public name of MLflow in docs/how-to/deploy.md, and the settings for it there.
PUBLISHED = "mlflow.example.org"
SETTINGS = {
    "ADC_HOSTS": f"dagster.example.org {PUBLISHED}",
    "MLFLOW_ALLOWED_HOSTS": f",{PUBLISHED}",
    "ADC_MLFLOW_PAGES": f"https://{PUBLISHED}",
}
# The commands in docs/how-to/deploy.md that back up and restore both databases.
BACKUP = "for name in dagster mlflow; do pg_dump -U postgres --create --clean --if-exists $name || exit 1; done"
RESTORE = "psql -q -U postgres -d postgres -v ON_ERROR_STOP=1 -o /dev/null"
# What a browser sends for an image of a foreign page.
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}


class Pages:
    """Clients of Dagster's and MLflow's servers, through the published ports."""

    def __init__(self, project: dict[str, Any]) -> None:
        self.dagster, self.mlflow = addresses(project)

    def graphql(self, query: str, **variables: str) -> dict[str, Any]:
        answer = request(f"{self.dagster}/graphql", {"query": query, "variables": variables})
        if "errors" in answer:
            raise RuntimeError(f"GraphQL: {answer['errors']}")
        data: dict[str, Any] = answer["data"]
        return data

    def launch(self, job: str) -> str:
        """Launch a run of `job` and return its id."""
        launched = self.graphql(LAUNCH, job=job)["launchRun"]
        if launched["__typename"] != "LaunchRunSuccess":
            raise RuntimeError(f"The run was not launched: {launched}")
        return str(launched["run"]["runId"])

    def wait(self, run: str, wanted: set[str], timeout: float = 600) -> str:
        """Return a run's status once it is one of `wanted`.

        Raise RuntimeError if the run ends with another status, or after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            status = str(self.graphql(RUN, id=run)["runOrError"]["status"])
            if status in wanted:
                return status
            if status in ENDED or time.monotonic() > deadline:
                raise RuntimeError(f"Run {run} is {status}, not {' or '.join(sorted(wanted))}")
            time.sleep(0.5)

    def span(self, run: str) -> tuple[float, float]:
        """Return the start and end of an ended run, in seconds since 1970."""
        found = self.graphql(RUN, id=run)["runOrError"]
        return float(found["startTime"]), float(found["endTime"])

    def runs(self) -> dict[str, str]:
        """Return the status of every run in Dagster's history, by id."""
        return {run["runId"]: run["status"] for run in self.graphql(RUNS)["runsOrError"]["results"]}

    def retry_of(self, run: str) -> str | None:
        """Return the run that retries a run that died, or None."""
        for other in self.graphql(RUNS)["runsOrError"]["results"]:
            if {"key": "dagster/parent_run_id", "value": run} in other["tags"]:
                return str(other["runId"])
        return None

    def tracked(self, run: str) -> list[dict[str, Any]]:
        """Return the MLflow runs of a Dagster run."""
        api = f"{self.mlflow}/api/2.0/mlflow"
        experiment = request(f"{api}/experiments/get-by-name?experiment_name=adc")["experiment"]["experiment_id"]
        found = request(
            f"{api}/runs/search", {"experiment_ids": [experiment], "filter": f"tags.`dagster.run_id` = '{run}'"}
        )
        return list(found.get("runs", []))

    def searched(self, host: str, origin: str) -> int:
        """Return the HTTP status of a search of MLflow's runs with the headers Origin and Host, as behind a proxy."""
        headers = {"Content-Type": "application/json", "Host": host, "Origin": origin}
        url = f"{self.mlflow}/ajax-api/2.0/mlflow/runs/search"
        return http_status(url, json.dumps({"experiment_ids": ["0"], "max_results": 1}).encode(), **headers)

    def files(self, tracked: list[dict[str, Any]]) -> dict[str, int]:
        """Fetch every top-level artifact file of these runs through the server and return the sizes in bytes."""
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


def addresses(project: dict[str, Any]) -> list[str]:
    """Return the URLs of Dagster's and MLflow's pages; raise ValueError unless they are on the loopback interface."""
    found = []
    for host, port, _ in (published.split(":") for published in project["services"]["pages"]["ports"]):
        if host != "127.0.0.1":
            raise ValueError(f"The pages are published on {host}: unset ADC_BIND for this test.")
        found.append(f"http://{host}:{port}")
    return found


def http_status(url: str, body: bytes | None = None, **headers: str) -> int:
    """Return the HTTP status of a response."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def request(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON of a server's response; retry for a minute while the server or its database restarts."""
    data = None if body is None else json.dumps(body).encode()
    for attempt in range(60):
        try:
            headers = {"Content-Type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
                answered: dict[str, Any] = json.loads(answer.read())
                return answered
        except urllib.error.HTTPError as error:
            # The first request after a restart of PostgreSQL may use a connection that no longer exists.
            if error.code < 500 or attempt == 59:
                raise RuntimeError(f"{url} returned {error.code}: {error.read()[:500]!r}") from error
        except OSError:
            if attempt == 59:
                raise
        time.sleep(1)
    raise AssertionError


@contextmanager
def step(what: str) -> Iterator[Callable[[str], None]]:
    """Print a step's description, then its findings, which the block passes to the yielded function, and duration."""
    findings: list[str] = []
    print(f"{what} ...", flush=True)
    started = time.monotonic()
    yield findings.append
    print(f"  {time.monotonic() - started:.1f} s; {'; '.join(findings) or 'done'}", flush=True)


def expect(condition: bool, what: str) -> None:
    """Raise RuntimeError unless a condition holds; `what` states it."""
    if not condition:
        raise RuntimeError(f"Expected: {what}")


def prove(engine: Engine, *, build: bool) -> None:
    pages = Pages(engine.spec)
    services = list(engine.spec["services"])

    if build:
        with step("Build the images"):
            engine.build()

    with step("Start all services, each after its dependencies are healthy") as saw:
        engine.up()
        saw(f"healthy: {', '.join(services)}")

    with step("Check users, ports, the file system and memory limits") as saw:
        for service in services:
            if service not in ("postgres", "pages"):
                user = engine.execute(service, "id", "-u").strip()
                expect(user == "10001", f"{service} runs as user 10001 (it runs as {user})")
        status = engine.execute("postgres", "sh", "-c", "grep -h '^Uid' /proc/$(head -1 $PGDATA/postmaster.pid)/status")
        expect(status.split()[1] != "0", "PostgreSQL's server does not run as root")
        saw("no server runs as root")
        wrote = engine.execute("code", "sh", "-c", "touch /opt/adc/x 2>&1 || true")
        expect("Read-only" in wrote, f"the image is read-only (writing printed {wrote!r})")
        saw("the image is read-only")
        published = {
            binding["HostIp"]
            for service in services
            for bindings in (engine.inspect(service)["NetworkSettings"]["Ports"] or {}).values()
            for binding in bindings or []
        }
        expect(published == {"127.0.0.1"}, f"every port is published on 127.0.0.1 only (found {published})")
        saw("every port is published on 127.0.0.1 only")
        for service in services:
            memory = engine.inspect(service)["HostConfig"]["Memory"]
            expect(memory > 0, f"{service} has a memory limit")
        saw("every service has a memory limit")

    with step("Ask both pages as foreign web pages do") as saw:
        started = pages.runs()
        variables = {"job": "datasets"}
        by_get = f"{pages.dagster}/graphql?{urlencode({'query': LAUNCH, 'variables': json.dumps(variables)})}"
        for page in (pages.dagster, pages.mlflow):
            expect(http_status(page) == 200, f"{page} answers")
            for headers in ({"Host": "pages.example"}, {"Origin": "http://pages.example"}, IMAGE):
                expect(http_status(page, None, **headers) == 403, f"{page} refuses {headers}")
        expect(http_status(by_get) == 403, "a mutation by GET is refused")
        expect(pages.runs() == started, "no run was started")
        saw("foreign hosts, origins and images, and mutations by GET are refused")

    with step("Look for ways to the internet and into the other's database") as saw:
        for service in ("postgres", "mlflow", "daemon", "webserver"):
            route = engine.execute(service, "cat", "/proc/net/route")
            defaults = [line for line in route.splitlines()[1:] if line.split()[1] == "00000000"]
            expect(not defaults, f"{service} has no route outside ({defaults})")
        saw("postgres, mlflow, daemon and webserver have no route outside")
        roles = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolsuper"
        supers = engine.execute("postgres", "psql", "-At", "-U", "postgres", "-c", roles).split()
        expect(supers == ["postgres"], f"no service's role is a superuser ({supers})")
        saw("no service's role is a superuser")

    with step("Launch the job `datasets` through the webserver") as saw:
        first = pages.launch("datasets")
        pages.wait(first, {"SUCCESS"})
        events = [
            event["__typename"] for event in pages.graphql(RUN, id=first)["runOrError"]["eventConnection"]["events"]
        ]
        # The webserver enqueues a run, and only the daemon dequeues and starts it.
        wanted = ["RunEnqueuedEvent", "RunStartingEvent", "RunSuccessEvent"]
        expect([event for event in events if event in wanted] == wanted, f"the run went through the queue ({events})")
        saw(f"run {first} went through the queue and succeeded")
        saw(f"{events.count('MaterializationEvent')} assets")

    with step("Find the run in MLflow") as saw:
        tracked = pages.tracked(first)
        expect(len(tracked) > 0, f"MLflow has runs with the tag dagster.run_id = {first}")
        proxied = all(run["info"]["artifact_uri"].startswith("mlflow-artifacts:") for run in tracked)
        expect(proxied, "the server proxies artifacts")
        files = pages.files(tracked)
        expect(sum(files.values()) > 0, "their artifacts can be fetched through the server")
        saw(f"{len(tracked)} runs: {', '.join(sorted(run['info']['run_name'] for run in tracked))}")
        saw(f"{len(files)} files of {sum(files.values())} bytes fetched")

    with step("Search MLflow's runs as its pages do behind a proxy") as saw:
        for host, origin, expected in [
            (PUBLISHED, f"https://{PUBLISHED}", 200),
            (PUBLISHED, "https://elsewhere.example.org", 403),
            ("elsewhere.example.org", f"https://{PUBLISHED}", 403),
        ]:
            got = pages.searched(host, origin)
            expect(got == expected, f"MLflow returns {expected} for origin {origin} and host {host} (got {got})")
        saw(f"{PUBLISHED} is accepted, other hosts and origins are refused")

    with step("Kill the code location during a run") as saw:
        lost = pages.launch("datasets")
        pages.wait(lost, {"STARTED"})
        engine.crash("code")
        pages.wait(lost, {"FAILURE"})
        saw(f"run {lost} was detected as dead and marked as failed")
        while (again := pages.retry_of(lost)) is None:
            time.sleep(1)
        pages.wait(again, {"SUCCESS"})
        saw(f"the daemon retried it as {again}, which succeeded")
        saw(f"the container was restarted {engine.restarts('code')} time(s)")

    known = pages.runs()
    for service in services:
        with step(f"Kill {service}") as saw:
            before = engine.restarts(service)
            engine.crash(service)
            while engine.restarts(service) == before:
                time.sleep(0.5)
            engine.wait_healthy(service)
            saw("the engine restarted it, and it is healthy")
            expect(pages.runs() == known, "Dagster's history is unchanged")
            expect(pages.files(pages.tracked(first)) == files, "MLflow's runs and artifacts are unchanged")
            saw("history, runs and artifacts are unchanged")

    with step("Remove all containers and start again, with database migrations and the same volumes") as saw:
        hostname = ("python", "-c", "import socket; print(socket.gethostname())")
        name = engine.execute("code", *hostname)
        engine.down()
        engine.up()
        expect(engine.execute("code", *hostname) == name, "a new container of the code location has the same host name")
        expect(pages.runs() == known, "Dagster's history survived")
        expect(pages.files(pages.tracked(first)) == files, "MLflow's runs and artifacts survived")
        datasets = engine.execute("code", "sh", "-c", "ls /state/datasets").split()
        expect(set(datasets) >= {"top-2", "random-walk", "ascending"}, f"the datasets survived (found {datasets})")
        saw(f"{len(known)} Dagster runs, {len(tracked)} MLflow runs of the first, the datasets")

    with step("Back up the databases, delete their volume, and restore them") as saw:
        backup = engine.execute("postgres", "sh", "-c", BACKUP)
        engine.down()
        engine.remove_volume("postgres")
        engine.up("postgres")
        engine.execute("postgres", *RESTORE.split(), input=backup)
        engine.up()
        expect(pages.runs() == known, "Dagster's history was restored")
        expect(pages.files(pages.tracked(first)) == files, "MLflow's runs were restored")
        saw(f"{len(known)} Dagster runs and {len(tracked)} MLflow runs of the first, from {len(backup)} bytes")

    with step("Back up once as the service `backup` does on its schedule") as saw:
        engine.run_once("backup", "once")
        saw("the databases and the files")

    with step("Launch two runs at once that write the same assets") as saw:
        last = [pages.launch("datasets") for _ in range(2)]
        for run in last:
            pages.wait(run, {"SUCCESS"})
        one, other = sorted(pages.span(run) for run in last)
        expect(one[1] <= other[0], f"the second run starts after the end of the first ({one}, {other})")
        saw(f"runs {' and '.join(last)} succeeded, one after the other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["docker", "podman"], default="docker")
    parser.add_argument("--project", default="adc-proof", help="the compose project's name (default: %(default)s)")
    parser.add_argument("--no-build", action="store_true", help="use existing images")
    parser.add_argument(
        "--build-option", action="append", default=[], metavar="OPTION", help="option of the build; may be repeated"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    arguments = parser.parse_args()

    os.chdir(ROOT)
    os.environ.update(SETTINGS)
    kind = {"docker": Docker, "podman": Podman}[arguments.engine]
    engine = kind(arguments.engine, arguments.project, [Path("docker-compose.yml")], arguments.build_option)
    started = time.monotonic()
    try:
        # Remove what an earlier, killed test left.
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
    print(f"All steps passed in {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
