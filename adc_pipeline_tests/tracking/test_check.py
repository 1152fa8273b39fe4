"""The check of MLflow fails within seconds, also if the server responds but its database does not."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.tracking.failures import beside_proxy
from adc_pipeline.tracking.restoration import restored_run
from adc_pipeline.tracking.runs import Tracking


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def address(asked: list[str]) -> Iterator[str]:
    """Run a server whose health check passes and which fails every other request."""

    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_a_server_without_its_database_is_refused_at_once(address: str, asked: list[str]) -> None:
    with pytest.raises(PipelineError, match=f"MLflow does not answer at MLFLOW_TRACKING_URI = {address} "):
        Tracking(address).check()
    assert len(asked) == 1


def test_nothing_is_brought_back_without_a_response(address: str, tmp_path: Path) -> None:
    made = Artefact("top_2", tmp_path, "0" * 32)
    with pytest.raises(PipelineError, match="MLflow does not answer"):
        restored_run(Tracking(address), made, {}, {}, print)


@pytest.mark.parametrize(
    ("address", "no_proxy", "hint"),
    [
        ("http://10.0.0.7:5000", "", ", add 10.0.0.7 to NO_PROXY if the proxy in HTTP_PROXY does not know it"),
        ("http://10.0.0.7:5000", "10.0.0.7", ""),
        ("https://mlflow.example.org", "", ""),
        ("sqlite:////srv/mlflow.db", "", ""),
    ],
)
def test_an_address_that_a_proxy_was_asked_for_is_told_so(
    address: str, no_proxy: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert beside_proxy(address) == hint
