"""Servers end with the command that started them, however it ends."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil

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
