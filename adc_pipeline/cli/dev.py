"""`adc dev`: Dagster's and MLflow's pages side by side, ended together.

Starts what `dagster dev` and `mlflow ui` start, each as a process: the code server, Dagster's daemon (schedules,
sensors, the queue), Dagster's page behind a guard (`guard.py`), and MLflow's server. When one of them ends, or a signal
comes, all are ended. What they print goes to ADC_HOME/logs/dev.log.
"""

import json
import os
import signal
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import quote

from adc_pipeline.cli.browser import open_pages
from adc_pipeline.cli.home import dagster_instance
from adc_pipeline.cli.servers import WITHOUT_PROXY, Servers, answers, listens
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.signals import SIGNALS, handled
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.home import check_home
from adc_pipeline.core.store.links import locked
from adc_pipeline.defs.origin import LOCATION
from adc_pipeline.tracking.database import ARTIFACTS, DATABASE
from adc_pipeline.tracking.runs import VIEW, Tracking

# Dagster's tag that says which code server has launched a run.
SERVER = ".dagster/grpc_info"
PORTS_TRIED = 100
# The folder of ADC_HOME for what servers print.
LOGS = "logs"
# The names of this machine in a Host header, as MLflow takes them: with a port they are patterns.
LOOPBACK = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[[]::1]:*")
ANY_ADDRESS = ("0.0.0.0", "::")
# A training saves a checkpoint first.
SECONDS_TO_CANCEL = 60.0


class Stopped(Exception):
    """A signal asks the command to end."""


def serve(host: str, port: int | None, mlflow_port: int | None, opens: bool | None) -> int:
    """Serve both pages until a signal comes; PipelineError where a server does not start or ends by itself."""
    store = Store.from_environment()
    check_home(store.home)
    tracking = Tracking.from_environment(store.home)
    port = free_port(host, port, 3000, "--port")
    pages = {"Dagster": address(host, port)}
    if tracking.uri.startswith("http"):
        mlflow_port = None
        pages["MLflow"] = tracking.pages or tracking.shown
    else:
        mlflow_port = free_port(host, mlflow_port, 5000, "--mlflow-port")
        pages["MLflow"] = address(host, mlflow_port)
    os.environ["ADC_HOME"] = str(store.home)
    # Where the runs that are started in Dagster's page say that MLflow's page is.
    os.environ.setdefault("ADC_MLFLOW_PAGES", pages["MLflow"])
    try:
        with stopped_by_signals(), alone(store.home / LOGS), Servers(store.home / LOGS / "dev.log") as servers:
            prepare_databases(store, tracking)
            if mlflow_port:
                start_mlflow(servers, host, mlflow_port, store, tracking)
            with tempfile.TemporaryDirectory(prefix="adc-") as folder:
                start_dagster(servers, host, port, Path(folder))
                servers.run_until(lambda: answers(pages["Dagster"]) and (not mlflow_port or answers(pages["MLflow"])))
                opener = WITHOUT_PROXY if mlflow_port else urllib.request.build_opener()
                pages["MLflow"] = runs_page(pages["MLflow"], tracking.names.experiment, opener)
                print(
                    "".join(f"{name + ':':9} {page}\n" for name, page in pages.items()) + "Ctrl+C ends both.",
                    flush=True,
                )
                open_pages(list(pages.values()), opens)
                try:
                    servers.run_until(lambda: False, seconds=float("inf"))
                finally:
                    cancel_runs(store, Path(folder))
    except Stopped:
        pass
    return 0


@contextmanager
def alone(logs: Path) -> Iterator[None]:
    """Raise PipelineError if another `adc dev` serves this ADC_HOME, whose folder of logs is given.

    Two daemons, which Dagster does not support on one history, would start what a schedule asks for twice.
    """
    logs.mkdir(exist_ok=True)
    with locked(logs) as free:
        if not free:
            raise PipelineError(
                f"Another `adc dev` serves ADC_HOME = {logs.parent}: open its pages, which it has printed, or end it"
                " first."
            )
        yield


def runs_page(page: str, experiment: str, opener: urllib.request.OpenerDirector = WITHOUT_PROXY) -> str:
    """Return the page of an experiment's runs, since MLflow's first page leads to an empty one about GenAI.

    MLflow's first page itself if that experiment is not found there.
    """
    asked = f"{page}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment)}"
    try:
        with opener.open(asked, timeout=5) as answer:
            number = json.load(answer)["experiment"]["experiment_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return page
    return f"{page}/#/experiments/{number}/runs?{VIEW}"


def prepare_databases(store: Store, tracking: Tracking) -> None:
    """Make Dagster's and MLflow's databases where they are missing, before several processes open them at once."""
    with dagster_instance(store):
        pass
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (store.home / DATABASE).exists():
        tracking.check()


def start_mlflow(servers: Servers, host: str, port: int, store: Store, tracking: Tracking) -> None:
    """Start MLflow's server on the database that the pipeline writes to."""
    artifacts = f"--artifacts-destination={(store.home / ARTIFACTS).as_uri()}"
    servers.start(
        "MLflow",
        ["-m", "mlflow", "server", f"--host={host}", f"--port={port}", "--workers=1", artifacts],
        # Not an option, which every user of the machine could read: a database's address may hold its password.
        MLFLOW_BACKEND_STORE_URI=tracking.uri,
        MLFLOW_DISABLE_TELEMETRY="true",
        # Eight processes for jobs (judges, prompt optimisation) that this project does not use.
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        **mlflow_names(host, port),
    )


def mlflow_names(host: str, port: int) -> dict[str, str]:
    """Return the variables by which MLflow's page answers as localhost and at `host`, and to its own pages there.

    MLflow itself accepts every name that begins with 10. or 192.168., which a foreign one may, and refuses its own page
    the search for runs at any address but localhost's. Variables of the environment win; which addresses 0.0.0.0
    stands for is not known here.
    """
    if host in ANY_ADDRESS:
        return {}
    name = in_address(host).lower()
    variables = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join((*LOOPBACK, name, f"{name}:{port}")),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{name}:{port}",
    }
    return {variable: value for variable, value in variables.items() if variable not in os.environ}


def start_dagster(servers: Servers, host: str, port: int, folder: Path) -> None:
    """Start the code server, and the daemon and the page that use it; `folder` is for its socket."""
    import yaml

    code, workspace = folder / "code.sock", folder / "workspace.yaml"
    location = {"grpc_server": {"socket": str(code), "location_name": LOCATION}}
    workspace.write_text(yaml.safe_dump({"load_from": [location]}))
    options = ["--module-name", LOCATION, "--socket", str(code), "--use-python-environment-entry-point"]
    servers.start("Dagster's code server", ["-m", "dagster", "code-server", "start", *options])
    servers.run_until(lambda: listens(code))
    servers.start("Dagster's daemon", ["-m", "dagster._daemon", "run", "--workspace", str(workspace)])
    servers.start("Dagster's page", ["-m", "adc_pipeline.cli.webserver", host, str(port), str(workspace)])


def cancel_runs(store: Store, folder: Path) -> None:
    """Terminate the runs that this code server has launched, as Dagster's page does, and wait for their end.

    The server would otherwise leave them running, with nobody to watch them. Runs in the queue stay there.
    """
    import dagster as dg

    going = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    with dagster_instance(store) as instance:

        def ours() -> list[dg.DagsterRun]:
            runs = instance.get_runs(dg.RunsFilter(statuses=going))
            return [run for run in runs if str(folder) in run.tags.get(SERVER, "")]

        for run in ours():
            print(f"Cancelling the run {run.run_id} of {run.job_name} ...", flush=True)
            instance.run_coordinator.cancel_run(run.run_id)
        end = time.monotonic() + SECONDS_TO_CANCEL
        while ours() and time.monotonic() < end:
            time.sleep(0.5)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise Stopped at the first SIGINT, SIGTERM or SIGHUP, and ignore further ones while the servers end."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped

    with handled(stop):
        yield


def address(host: str, port: int) -> str:
    """Return where a browser on this machine finds what is served at `host`."""
    return f"http://{'127.0.0.1' if host in ANY_ADDRESS else in_address(host)}:{port}"


def in_address(host: str) -> str:
    """Return a host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def free_port(host: str, wanted: int | None, default: int, option: str) -> int:
    """Return the port that was asked for, or the first free one from `default` on; PipelineError if none is free."""
    why = None
    for port in [wanted] if wanted else range(default, default + PORTS_TRIED):
        try:
            with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                return port
        except OSError as error:
            why = str(error.strerror).partition(" (")[0]
    asked = f"The port {wanted}" if wanted else f"No port from {default} to {default + PORTS_TRIED - 1}"
    verb = "cannot" if wanted else "can"
    raise PipelineError(f"{asked} {verb} be used at {host} ({why}): give another by {option}, or another --host.")
