"""Servers end with the command that started them, however it ends."""

import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from adc_pipeline.cli.servers import answers

STARTS = """
import sys, time
from pathlib import Path
from adc_pipeline.cli.servers import Servers
with Servers(Path(sys.argv[1])) as servers:
    servers.start("a server", ["-c", "import time; print('up', flush=True); time.sleep(300)"])
    servers.run_until(lambda: "up" in Path(sys.argv[1]).read_text())
    print(servers.processes["a server"].pid, flush=True)
    time.sleep(300)
"""


def test_servers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS, str(tmp_path / "logs" / "servers.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        server = psutil.Process(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([server], timeout=30)
    for each in alive:
        each.kill()
    assert not alive


def test_a_proxy_is_not_asked_for_the_servers_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert answers(f"http://127.0.0.1:{server.server_port}")
        thread.join()
