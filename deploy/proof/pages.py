"""Clients of Dagster's and MLflow's servers, through the ports that the deployment publishes."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

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
