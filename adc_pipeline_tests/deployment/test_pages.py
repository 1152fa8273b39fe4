"""Caddy in front of both pages refuses what the guard of `adc dev` refuses. Needs Debian's package `caddy`. 2 s."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.types import Message, Receive, Scope, Send

from adc_pipeline.cli.guard import Guard

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "caddy"
LAUNCH = "mutation($e: ExecutionParams!) {launchRun(executionParams: $e) {__typename}}"
NAME = "pages.example.org"
pytestmark = pytest.mark.skipif(not shutil.which("caddy"), reason="there is no caddy")


class Page(BaseHTTPRequestHandler):
    """What stands behind Caddy: says which requests have arrived, and accepts websockets."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade") == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of both pages behind Caddy, with the deployment's configuration at free ports."""
    ports = {}
    for name in ("3000", "5000", "3001"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports[name] = free.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("caddy")
    text = (CONFIGURATION / "Caddyfile").read_text()
    for name, port in ports.items():
        text = text.replace(f":{name} {{", f":{port} {{")
    (folder / "Caddyfile").write_text(text)
    shutil.copy(CONFIGURATION / "guard.caddy", folder)
    behind = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    behind.daemon_threads = True
    threading.Thread(target=behind.serve_forever, args=(0.01,), daemon=True).start()
    address = f"127.0.0.1:{behind.server_port}"
    variables = {
        "ADC_DAGSTER": address,
        "ADC_MLFLOW": address,
        "ADC_HOSTS": f"other.example.org {NAME}",
        "HOME": str(folder),
    }
    caddy = subprocess.Popen(
        ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("w"),
    )
    try:
        deadline = time.monotonic() + 60
        while any(not answers(port) for port in ports.values()):
            assert caddy.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield {"dagster": ports["3000"], "mlflow": ports["5000"], "health": ports["3001"]}
    finally:
        caddy.kill()
        caddy.wait()
        behind.shutdown()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def status(port: int, path: str = "/", method: str = "GET", host: str = "", **headers: str) -> int:
    """Return the HTTP status of a request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True)
        given = {"Host": host.replace("PORT", str(port)) or f"127.0.0.1:{port}"}
        given |= {name.replace("_", "-"): value.replace("PORT", str(port)) for name, value in headers.items()}
        # A value with a line break stands for a header that is there twice.
        for name, values in given.items():
            for value in values.split("\n"):
                connection.putheader(name, value)
        if method == "POST":
            connection.putheader("Content-Length", "0")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def guarded(path: str = "/", method: str = "GET", host: str = "", **headers: str) -> bool:
    """Return whether the guard of `adc dev` lets the same request pass."""
    reached, port = [], "3000"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)

    async def send(message: Message) -> None:
        pass

    async def receive() -> Message:
        return {"type": "http.request"}

    path, _, query = path.partition("?")
    raw = {"Host": host or "127.0.0.1:PORT", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope: Scope = {"type": "websocket" if "Upgrade" in raw else "http", "method": method, "path": path}
    scope["query_string"] = query.encode()
    scope["headers"] = [
        (name.lower().encode(), value.replace("PORT", port).encode())
        for name, values in raw.items()
        for value in values.split("\n")
    ]
    asyncio.run(Guard(app, NAME)(scope, receive, send))
    return bool(reached)


IMAGE = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
LINK = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
SOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Key": "eA==", "Sec_WebSocket_Version": "13"}
BY_GET = f"/graphql?query={quote(LAUNCH)}&variables={quote(json.dumps({}))}"
OURS = {"Origin": "http://127.0.0.1:PORT", "Sec_Fetch_Site": "same-origin"}
REQUESTS = [
    ("/", {}),
    ("/runs/1?tab=logs", LINK),
    ("/graphql", {"method": "POST", **OURS}),
    ("/graphql", {"method": "POST"}),
    ("/graphql", {**SOCKET, **OURS}),
    ("/", {"host": "localhost:PORT"}),
    ("/", {"host": "LocalHost"}),
    ("/", {"host": "192.168.0.7:PORT"}),
    ("/", {"host": "[::1]:PORT"}),
    ("/graphql", {"method": "POST", "host": NAME, "Origin": f"https://{NAME}", "Sec_Fetch_Site": "same-origin"}),
    ("/", {**LINK, "Sec_Fetch_Site": "none"}),
    ("/", {**LINK, "Sec_Fetch_Site": "Cross-Site"}),
    ("/graphql", {"method": "POST", "Origin": "HTTP://127.0.0.1:PORT", "Sec_Fetch_Site": "Same-Origin"}),
    ("/graphql", {"method": "POST", "host": "LocalHost:PORT", "Origin": "http://localhost:PORT"}),
    ("/graphql", {"method": "POST", "Referer": "http://127.0.0.1:PORT/runs/1?x=//y"}),
    ("/graphql", {"method": "POST", "Referer": "http://127.0.0.1:PORT"}),
    ("/graphql", {"method": "POST", "Referer": "http://127.0.0.1:PORT/runs?x=a,b"}),
    ("/graphql", {"method": "POST", "Content_Type": "application/json", "X_Forwarded_Host": "pages.example"}),
    ("/runs/1", {"Referer": "http://pages.example/x"}),
    ("/runs/1", {"method": "HEAD", "Referer": "http://pages.example/x"}),
    # Refused.
    (BY_GET, {}),
    (BY_GET, IMAGE),
    (BY_GET, LINK),
    (BY_GET, {"method": "HEAD"}),
    (BY_GET, {"method": "PUT"}),
    (BY_GET.replace("mutation", "m%75tation"), {}),
    # Go drops what holds a semicolon, Python does not.
    (f"/graphql?query={quote(LAUNCH + ' # ')};", {}),
    ("/", {"host": "pages.example"}),
    ("/", {"host": "127.0.0.1.pages.example:PORT"}),
    ("/", {"host": f"{NAME}.example"}),
    ("/", {"host": NAME.replace(".", "x", 1)}),
    ("/graphql", {"method": "POST", "Origin": "http://pages.example"}),
    ("/graphql", {"method": "POST", "Origin": "null"}),
    ("/graphql", {"method": "POST", "Origin": "http://127.0.0.1"}),
    ("/graphql", {**SOCKET, "Origin": "http://pages.example"}),
    ("/graphql", {**SOCKET, "host": "pages.example"}),
    ("/runs/1", {"method": "POST", **LINK}),
    ("/", IMAGE),
    ("/", {**IMAGE, "Sec_Fetch_Site": "same-site"}),
    ("/", {**LINK, "Sec_Fetch_Dest": "iframe"}),
    ("/graphql", {"method": "POST", "Sec_Fetch_Site": "Cross-Site"}),
    ("/graphql", {"method": "POST", "Sec_Fetch_Site": "elsewhere"}),
    ("/graphql", {"method": "POST", "Sec_Fetch_Site": ""}),
    ("/graphql", {"method": "POST", "Sec_Fetch_Site": "same-origin\ncross-site"}),
    ("/graphql", {"method": "POST", "Origin": ""}),
    ("/graphql", {"method": "POST", "Origin": "http://127.0.0.1:PORT\nhttp://pages.example"}),
    ("/graphql", {"method": "POST", "Origin": "http://127.0.0.1:PORT/"}),
    ("/graphql", {"method": "POST", "Referer": "http://pages.example/x"}),
    ("/graphql", {"method": "POST", "Referer": "http://127.0.0.1:PORT.pages.example/"}),
    ("/graphql", {"method": "POST", "Referer": "http://x@127.0.0.1:PORT/"}),
    ("/graphql", {"method": "POST", "Referer": "about:blank"}),
    ("/graphql", {"method": "POST", "Content_Type": "text/plain", "Origin": "http://pages.example"}),
    (BY_GET, {"method": "DELETE", "Referer": "http://pages.example/x"}),
    ("/", {"host": "127.1"}),
    ("/", {"host": "127.0.0.1."}),
    ("/", {"host": "999.0.0.1"}),
    ("/", {"host": "1.2.3.4.5"}),
    ("/", {"host": "0x7f.1"}),
    ("/", {"host": "localhost."}),
    ("/", {"host": f"{NAME}.:PORT"}),
    ("/graphql", {"method": "POST", "Referer": "http://127.0.0.1:PORT/x\nhttp://pages.example/x"}),
    ("/graphql", {"method": "POST", "Referer": "http://pages.example/x\nhttp://127.0.0.1:PORT/x"}),
    ("/graphql", {"method": "POST", "Referer": ""}),
    ("/", {"host": "127.0.0.1:0"}),
    ("/", {"host": "127.0.0.1:65536"}),
    ("/", {"host": "localhost:0"}),
    ("/", {"host": "localhost:99999"}),
    ("/", {"host": f"{NAME}:65536"}),
    ("/", {"host": "127.0.0.1:"}),
    ("/", {"host": "localhost:"}),
    ("/", {"host": "127.0.0.1:+80"}),
    ("/", {"host": "127.0.0.1:x"}),
    ("/", {"host": "user@localhost"}),
    ("/", {"host": "localhost:80@pages.example"}),
    ("/", {"host": "[fe80::1%25eth0]:PORT"}),
    ("/", {"host": "[::1"}),
    ("/", {"host": "[127.0.0.1]"}),
    ("/", {"host": "::1"}),
    ("/", {"host": "[::ffff:127.0.0.1]:PORT"}),
    ("/", {"host": "2130706433"}),
    ("/", {"host": "0177.0.0.1"}),
    ("/", {"host": "127.0.0.1,pages.example"}),
    ("/", {"host": "pages.example", "X_Forwarded_Host": "localhost"}),
    ("/graphql", {"method": "OPTIONS", "Origin": "http://pages.example"}),
    ("/graphql", {"method": "PATCH", "Origin": "http://pages.example"}),
    ("/graphql", {**SOCKET, "Origin": "null"}),
    ("/graphql", {**SOCKET, "Origin": "http://127.0.0.1:PORT", "Sec_Fetch_Site": "cross-site"}),
    ("/graphql", {**SOCKET, "Origin": "ws://127.0.0.1:PORT"}),
    (BY_GET, {"method": "OPTIONS"}),
    (f"/graphql?query={quote('{version}')}&query={quote(LAUNCH)}", {}),
    (f"/graphql?query={quote(LAUNCH)}&query={quote('{version}')}", {}),
    (f"/graphql?query={quote('subscription {x}')}", {}),
]


@pytest.mark.parametrize(("path", "options"), REQUESTS)
@pytest.mark.parametrize("page", ["dagster", "mlflow"])
def test_caddy_refuses_what_the_guard_refuses(
    pages: dict[str, int], page: str, path: str, options: dict[str, str]
) -> None:
    found = status(pages[page], path, **options)
    # Go itself refuses a Host that is none.
    assert found in (101, 200, 400, 403)
    assert (found < 400) == guarded(path, **options)


@pytest.mark.parametrize("path", ["//graphql", "/graphql/", "/%67raphql", "/GraphQL"])
def test_other_spellings_of_the_address_are_refused_too(pages: dict[str, int], path: str) -> None:
    assert status(pages["dagster"], f"{path}?query={quote(LAUNCH)}") == 403


def test_the_health_check_is_answered(pages: dict[str, int]) -> None:
    assert status(pages["health"]) == 200
