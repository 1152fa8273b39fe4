"""Dagster's page behind the guard: `python -m adc_pipeline.cli.webserver HOST PORT WORKSPACE`, started by `adc dev`.

It serves Dagster's own web application. Dagster 1.13 exports neither the application's context nor its workspace, so
this file imports both from `dagster._core`; `dagster_webserver` uses them the same way.
"""

import sys

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context

from adc_pipeline.cli.guard import Guard


def main(host: str, port: str, workspace: str) -> None:
    """Serve until a signal comes; `workspace` is a workspace.yaml."""
    with dg.DagsterInstance.get() as instance:
        # The values that `dagster-webserver` takes by default; SQLite has no use for them.
        instance.optimize_for_webserver(statement_timeout=15_000, pool_recycle=3_600, max_overflow=20)
        target = WorkspaceFileTarget([workspace])
        with WorkspaceProcessContext(instance, version=dg.__version__, workspace_load_target=target) as context:
            app = create_app_from_workspace_process_context(context, live_data_poll_rate=2_000)
            # An open page keeps its websocket, which must not keep the server.
            config = uvicorn.Config(Guard(app, host), host, int(port), log_level="warning", timeout_graceful_shutdown=2)
            uvicorn.Server(config).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
