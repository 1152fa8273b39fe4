"""Take the screenshots of Dagster and MLflow in the README and the documentation.

    python -m adc_pipeline_tests.screenshots docs

Starts `adc dev` on 127.0.0.1, with an ADC_HOME in which the job `adc` has run; launches the job `datasets` with a
preset from Dagster's launchpad and waits for it; opens the README's link to MLflow. Needs Chromium and `adc` on the
PATH, and `playwright` from the extra `pictures`. Takes about a minute. A run's page shows the path of ADC_HOME, unless
it is below the working directory.
"""

import argparse
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.store.artefacts import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

PRESET = Path(__file__).parents[1] / "adc_pipeline" / "presets" / "released.yaml"
LOCATION = "adc_pipeline.definitions"
README = Path(__file__).parents[1] / "README.md"
VIEWPORT: "ViewportSize" = {"width": 1440, "height": 900}
# So high that the buttons in the corner lie below the graph.
OF_GRAPH: "ViewportSize" = {"width": 1440, "height": 1400}
# Returns the rectangle of the nodes of Dagster's graph and a margin.
GRAPH = """() => {
  const nodes = [...document.querySelectorAll('foreignObject')].map(node => node.getBoundingClientRect());
  const x = Math.min(...nodes.map(node => node.left)) - 12, y = Math.min(...nodes.map(node => node.top)) - 12;
  const right = Math.max(...nodes.map(node => node.right)) + 12, low = Math.max(...nodes.map(node => node.bottom)) + 12;
  return {x, y, width: right - x, height: low - y};
}"""
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def served(command: list[str], address: str, log: Path) -> Iterator[str]:
    """Run a server during the block, which starts when the server answers at `address`."""
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            for _ in range(300):
                try:
                    with urllib.request.urlopen(address, timeout=2):
                        break
                except OSError:
                    time.sleep(1)
            else:
                raise RuntimeError(f"{command[0]} does not answer at {address}; see {log}.")
            yield address
        finally:
            process.terminate()
            process.wait(30)


def screenshot(page: "Page", out: Path, name: str) -> None:
    page.screenshot(path=str(out / f"{name}.png"))
    print(f"{out / name}.png", flush=True)


def dagster_pictures(page: "Page", address: str, out: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 1168})
    page.goto(f"{address}/assets/top_2_evaluation")
    page.get_by_text("Metadata", exact=True).first.wait_for(timeout=60_000)
    page.wait_for_timeout(4_000)
    # The rows begin with the reason.
    page.get_by_role("row").filter(has_text="reason").first.evaluate("row => row.scrollIntoView()")
    page.wait_for_timeout(2_000)
    screenshot(page, out, "dagster-asset")
    page.set_viewport_size(VIEWPORT)
    page.goto(f"{address}/locations/{LOCATION}/jobs/datasets/playground")
    page.wait_for_selector(".CodeMirror", timeout=60_000)
    page.evaluate("text => document.querySelector('.CodeMirror').CodeMirror.setValue(text)", PRESET.read_text())
    page.get_by_text("No errors").wait_for()
    page.wait_for_timeout(2_000)
    screenshot(page, out, "dagster-launchpad")
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url("**/runs/**", timeout=60_000)
    page.get_by_text("Success", exact=True).first.wait_for(timeout=300_000)
    page.wait_for_timeout(3_000)
    screenshot(page, out, "dagster-run")


def graph_picture(page: "Page", address: str, out: Path) -> None:
    """Take the asset graph without the page around it."""
    page.goto(f"{address}/asset-groups")
    page.get_by_text("promotion").first.wait_for()
    page.wait_for_timeout(3_000)
    page.get_by_role("button", name="Hide navigation").click()
    page.get_by_role("img", name="settings").last.click()
    page.get_by_text("Change graph to vertical orientation").click()
    page.wait_for_timeout(3_000)
    page.keyboard.press("Alt+e")
    page.wait_for_timeout(3_000)
    # All groups are expanded now. After a reload the graph fits the window.
    page.reload()
    page.get_by_text("comparison").first.wait_for()
    page.wait_for_timeout(7_000)
    page.screenshot(path=str(out / "asset-graph.png"), clip=page.evaluate(GRAPH))
    print(f"{out / 'asset-graph.png'}", flush=True)


def mlflow_picture(page: "Page", address: str, out: Path) -> None:
    # The link of the README.
    (link,) = re.findall(r"\(http://127\.0\.0\.1:5000/(#/experiments[^)]*)\)", README.read_text())
    page.goto(f"{address}/{link}")
    page.get_by_text("Model metrics").wait_for(timeout=60_000)
    page.get_by_role("button", name="Close").click()
    page.wait_for_timeout(5_000)
    screenshot(page, out, "mlflow-comparison")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the screenshots")
    parser.add_argument("--only", choices=["dagster", "mlflow"], help="take only the screenshots of this server")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    given.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=CHROMIUM
        )
        stack.callback(browser.close)
        page = browser.new_page(viewport=VIEWPORT)
        port, of_mlflow = free_port(), free_port()
        command = [sys.executable, "-m", "adc_pipeline", "dev", "--port", str(port), "--mlflow-port", str(of_mlflow)]
        log = Store.from_environment().home / "dev.log"
        address = stack.enter_context(served(command, f"http://127.0.0.1:{port}", log))
        if given.only != "mlflow":
            # First, since the preset makes other datasets than those that the models were trained on.
            graph_picture(browser.new_page(viewport=OF_GRAPH, device_scale_factor=2), address, given.out)
            dagster_pictures(page, address, given.out)
        if given.only != "dagster":
            mlflow_picture(page, f"http://127.0.0.1:{of_mlflow}", given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
