"""The steps of the proof: what is done to a deployment, and what must hold afterwards."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from deploy.proof.engines import Engine
from deploy.proof.pages import LAUNCH, RUN, Pages, http_status

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


class Proof:
    """The steps in their order, and what the first run left, which every later step must leave as it is."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.pages, self.services = engine, Pages(engine.spec), list(engine.spec["services"])
        self.first = ""
        self.tracked: list[dict[str, Any]] = []
        self.files: dict[str, int] = {}
        self.known: dict[str, str] = {}

    def run(self) -> None:
        """Take all steps; RuntimeError where something does not hold."""
        self.start()
        self.check_containers()
        self.ask_as_foreign_pages()
        self.look_for_ways_out()
        self.launch()
        self.find_in_mlflow()
        self.search_behind_a_proxy()
        self.kill_during_a_run()
        self.known = self.pages.runs()
        for service in self.services:
            self.kill(service)
        self.start_again()
        self.restore_a_backup()
        self.back_up_on_schedule()
        self.launch_two_at_once()

    def expect_unchanged(self) -> None:
        expect(self.pages.runs() == self.known, "Dagster's history is unchanged")
        files = self.pages.files(self.pages.tracked(self.first))
        expect(files == self.files, "MLflow's runs and artifacts are unchanged")

    def start(self) -> None:
        with step("Start all services, each after its dependencies are healthy") as saw:
            self.engine.up()
            saw(f"healthy: {', '.join(self.services)}")

    def check_containers(self) -> None:
        inspect, execute = self.engine.inspect, self.engine.execute
        with step("Check users, ports, the file system and memory limits") as saw:
            for service in self.services:
                if service not in ("postgres", "pages"):
                    user = execute(service, "id", "-u").strip()
                    expect(user == "10001", f"{service} runs as user 10001 (it runs as {user})")
            status = execute("postgres", "sh", "-c", "grep -h '^Uid' /proc/$(head -1 $PGDATA/postmaster.pid)/status")
            expect(status.split()[1] != "0", "PostgreSQL's server does not run as root")
            saw("no server runs as root")
            wrote = execute("code", "sh", "-c", "touch /opt/adc/x 2>&1 || true")
            expect("Read-only" in wrote, f"the image is read-only (writing printed {wrote!r})")
            saw("the image is read-only")
            published = {
                binding["HostIp"]
                for service in self.services
                for bindings in (inspect(service)["NetworkSettings"]["Ports"] or {}).values()
                for binding in bindings or []
            }
            expect(published == {"127.0.0.1"}, f"every port is published on 127.0.0.1 only (found {published})")
            saw("every port is published on 127.0.0.1 only")
            for service in self.services:
                expect(inspect(service)["HostConfig"]["Memory"] > 0, f"{service} has a memory limit")
            saw("every service has a memory limit")

    def ask_as_foreign_pages(self) -> None:
        pages = self.pages
        with step("Ask both pages as foreign web pages do") as saw:
            started = pages.runs()
            values = {"query": LAUNCH, "variables": json.dumps({"job": "datasets"})}
            for page in (pages.dagster, pages.mlflow):
                expect(http_status(page) == 200, f"{page} answers")
                for headers in ({"Host": "pages.example"}, {"Origin": "http://pages.example"}, IMAGE):
                    expect(http_status(page, None, **headers) == 403, f"{page} refuses {headers}")
            by_get = http_status(f"{pages.dagster}/graphql?{urlencode(values)}")
            expect(by_get == 403, "a mutation by GET is refused")
            expect(pages.runs() == started, "no run was started")
            saw("foreign hosts, origins and images, and mutations by GET are refused")

    def look_for_ways_out(self) -> None:
        with step("Look for ways to the internet and into the other's database") as saw:
            for service in ("postgres", "mlflow", "daemon", "webserver"):
                route = self.engine.execute(service, "cat", "/proc/net/route")
                defaults = [line for line in route.splitlines()[1:] if line.split()[1] == "00000000"]
                expect(not defaults, f"{service} has no route outside ({defaults})")
            saw("postgres, mlflow, daemon and webserver have no route outside")
            roles = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolsuper"
            supers = self.engine.execute("postgres", "psql", "-At", "-U", "postgres", "-c", roles).split()
            expect(supers == ["postgres"], f"no service's role is a superuser ({supers})")
            saw("no service's role is a superuser")

    def launch(self) -> None:
        with step("Launch the job `datasets` through the webserver") as saw:
            self.first = self.pages.launch("datasets")
            self.pages.wait(self.first, {"SUCCESS"})
            found = self.pages.graphql(RUN, id=self.first)["runOrError"]["eventConnection"]["events"]
            events = [event["__typename"] for event in found]
            # The webserver enqueues a run, and only the daemon dequeues and starts it.
            wanted = ["RunEnqueuedEvent", "RunStartingEvent", "RunSuccessEvent"]
            expect(
                [event for event in events if event in wanted] == wanted, f"the run went through the queue ({events})"
            )
            saw(f"run {self.first} went through the queue and succeeded")
            saw(f"{events.count('MaterializationEvent')} assets")

    def find_in_mlflow(self) -> None:
        with step("Find the run in MLflow") as saw:
            self.tracked = self.pages.tracked(self.first)
            expect(len(self.tracked) > 0, f"MLflow has runs with the tag dagster.run_id = {self.first}")
            proxied = all(run["info"]["artifact_uri"].startswith("mlflow-artifacts:") for run in self.tracked)
            expect(proxied, "the server proxies artifacts")
            self.files = self.pages.files(self.tracked)
            expect(sum(self.files.values()) > 0, "their artifacts can be fetched through the server")
            names = sorted(run["info"]["run_name"] for run in self.tracked)
            saw(f"{len(names)} runs: {', '.join(names)}")
            saw(f"{len(self.files)} files of {sum(self.files.values())} bytes fetched")

    def search_behind_a_proxy(self) -> None:
        with step("Search MLflow's runs as its pages do behind a proxy") as saw:
            for host, origin, expected in [
                (PUBLISHED, f"https://{PUBLISHED}", 200),
                (PUBLISHED, "https://elsewhere.example.org", 403),
                ("elsewhere.example.org", f"https://{PUBLISHED}", 403),
            ]:
                got = self.pages.searched(host, origin)
                expect(got == expected, f"MLflow returns {expected} for origin {origin} and host {host} (got {got})")
            saw(f"{PUBLISHED} is accepted, other hosts and origins are refused")

    def kill_during_a_run(self) -> None:
        with step("Kill the code location during a run") as saw:
            lost = self.pages.launch("datasets")
            self.pages.wait(lost, {"STARTED"})
            self.engine.crash("code")
            self.pages.wait(lost, {"FAILURE"})
            saw(f"run {lost} was detected as dead and marked as failed")
            while (again := self.pages.retry_of(lost)) is None:
                time.sleep(1)
            self.pages.wait(again, {"SUCCESS"})
            saw(f"the daemon retried it as {again}, which succeeded")
            saw(f"the container was restarted {self.engine.restarts('code')} time(s)")

    def kill(self, service: str) -> None:
        with step(f"Kill {service}") as saw:
            before = self.engine.restarts(service)
            self.engine.crash(service)
            while self.engine.restarts(service) == before:
                time.sleep(0.5)
            self.engine.wait_healthy(service)
            saw("the engine restarted it, and it is healthy")
            self.expect_unchanged()
            saw("history, runs and artifacts are unchanged")

    def start_again(self) -> None:
        with step("Remove all containers and start again, with database migrations and the same volumes") as saw:
            hostname = ("python", "-c", "import socket; print(socket.gethostname())")
            name = self.engine.execute("code", *hostname)
            self.engine.down()
            self.engine.up()
            again = self.engine.execute("code", *hostname)
            expect(again == name, "a new container of the code location has the same host name")
            self.expect_unchanged()
            datasets = self.engine.execute("code", "sh", "-c", "ls /state/datasets").split()
            expect(set(datasets) >= {"top-2", "random-walk", "ascending"}, f"the datasets survived (found {datasets})")
            saw(f"{len(self.known)} Dagster runs, {len(self.tracked)} MLflow runs of the first, the datasets")

    def restore_a_backup(self) -> None:
        with step("Back up the databases, delete their volume, and restore them") as saw:
            backup = self.engine.execute("postgres", "sh", "-c", BACKUP)
            self.engine.down()
            self.engine.remove_volume("postgres")
            self.engine.up("postgres")
            self.engine.execute("postgres", *RESTORE.split(), input=backup)
            self.engine.up()
            self.expect_unchanged()
            runs = f"{len(self.known)} Dagster runs and {len(self.tracked)} MLflow runs of the first"
            saw(f"{runs}, from {len(backup)} bytes")

    def back_up_on_schedule(self) -> None:
        with step("Back up once as the service `backup` does on its schedule") as saw:
            self.engine.run_once("backup", "once")
            saw("the databases and the files")

    def launch_two_at_once(self) -> None:
        with step("Launch two runs at once that write the same assets") as saw:
            last = [self.pages.launch("datasets") for _ in range(2)]
            for run in last:
                self.pages.wait(run, {"SUCCESS"})
            one, other = sorted(self.pages.span(run) for run in last)
            expect(one[1] <= other[0], f"the second run starts after the end of the first ({one}, {other})")
            saw(f"runs {' and '.join(last)} succeeded, one after the other")
