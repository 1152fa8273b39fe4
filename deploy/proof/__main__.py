"""Test the deployment end to end: check everything that docs/how-to/deploy.md states, with the real compose file.

    python -m deploy.proof                        with Docker
    python -m deploy.proof --engine podman        with podman, as root

Needs only PyYAML of the project's dependencies. The compose project is `adc-proof`, so that the volumes of a deployment
on the same machine are safe; the ports must be free, or set by DAGSTER_PORT and MLFLOW_PORT. Everything except the
images is removed at the end, also after a failure. Each step prints its findings and its duration.
"""

import argparse
import os
import time
from pathlib import Path

from deploy.proof.engines import ROOT, Docker, Podman
from deploy.proof.steps import SETTINGS, Proof, step


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
        if not arguments.no_build:
            with step("Build the images"):
                engine.build()
        Proof(engine).run()
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
