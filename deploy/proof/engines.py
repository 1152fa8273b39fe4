"""The container engines that the proof runs on: Docker with its own compose, and podman from the same compose file.

Podman by itself reads no compose file, so its commands are made here from the parsed one. A key that is not
translated is an error: what is proved must be what stands in the file. Three things differ and are said so: podman
4 keeps one log file of `max-size` instead of `max-file` of them; it needs systemd to run health checks by itself,
so that they are run from here, by the same engine and with the same commands; and it has no reservation of devices.
"""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.proof import compose

ROOT = Path(__file__).parents[2]
# What means something to podman itself, and so cannot be a container's alone in its environment.
PODMANS = {"HOME", "PATH"}
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Engine:
    """What both engines do alike, container by container; containers are named PROJECT-SERVICE-1 by both."""

    def __init__(self, binary: str, project: str, files: Sequence[Path], build_options: Sequence[str]) -> None:
        self.binary = binary
        self.project = project
        self.files = files
        self.build_options = build_options
        # Docker's compose reads `.env` by itself.
        self.spec = compose.read(files, dotenv(ROOT / ".env") | os.environ)

    def build(self) -> None:
        """Make the images that the services build."""
        raise NotImplementedError

    def up(self, *services: str) -> None:
        """Start what does not run of some services that need no others, or of all; return when they are healthy."""
        raise NotImplementedError

    def down(self, *, volumes: bool = False) -> None:
        """Stop and remove the containers and networks, and the volumes if asked."""
        raise NotImplementedError

    def healthy(self, service: str) -> bool:
        raise NotImplementedError

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def named(self, name: str) -> str:
        """A volume's or network's name on the machine, the same by both."""
        return f"{self.project}_{name}"

    def remove_volume(self, name: str) -> None:
        self.call("volume", "rm", self.named(name))

    def call(
        self,
        *arguments: str,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the engine's command line in the repository; RuntimeError with its last words if it fails."""
        done = subprocess.run(
            [self.binary, *arguments],
            cwd=ROOT,
            text=True,
            capture_output=True,
            env={**os.environ, **(environment or {})},
            input=input,
        )
        if check and done.returncode:
            shown = " ".join([self.binary, *arguments])
            raise RuntimeError(f"{shown[:300]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
        return done

    def execute(
        self, service: str, *command: str, user: str | None = None, check: bool = True, input: str | None = None
    ) -> str:
        """What a command prints that is run inside a service's container, and reads `input`."""
        options = [*(["--user", user] if user else []), *(["--interactive"] if input is not None else [])]
        return self.call("exec", *options, self.container(service), *command, check=check, input=input).stdout

    def inspect(self, service: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.call("inspect", self.container(service)).stdout)
        return found[0]

    def restarts(self, service: str) -> int:
        """How often the engine started a container again that had ended by itself."""
        return int(self.inspect(service)["RestartCount"])

    def logs(self, service: str) -> str:
        done = self.call("logs", "--tail", "60", self.container(service), check=False)
        return done.stdout + done.stderr

    def crash(self, service: str) -> None:
        """Kill every process of a container as the kernel would that is short of memory.

        From inside: what is killed through the engine counts as stopped on purpose and is not started again.
        """
        # Without the capability to kill, root can end its own processes only: act as who runs them.
        user = "postgres" if service == "postgres" else None
        self.execute(service, "sh", "-c", "kill -9 -1", user=user, check=False)

    def wait_healthy(self, service: str, timeout: float = 300) -> float:
        """Seconds until the service's health check passes; RuntimeError with its log after `timeout`."""
        started = time.monotonic()
        before = self.restarts(service)
        while not self.healthy(service):
            # What crashes as soon as it starts need not be waited for.
            waited = time.monotonic() - started
            if waited > timeout or self.restarts(service) - before > 3:
                raise RuntimeError(f"{service} is not healthy after {waited:.0f} s:\n{self.logs(service)}")
            time.sleep(1)
        return time.monotonic() - started


class Docker(Engine):
    """Docker Engine 25 or later with its compose plugin, which does all of it by itself."""

    def compose(self, *arguments: str) -> None:
        files = [option for file in self.files for option in ("--file", str(file))]
        self.call("compose", "--project-name", self.project, *files, *arguments)

    def build(self) -> None:
        self.compose("build", *self.build_options)

    def up(self, *services: str) -> None:
        self.compose("up", "--detach", "--no-build", "--wait", *services)

    def down(self, *, volumes: bool = False) -> None:
        self.compose("down", *(["--volumes"] if volumes else []))

    def healthy(self, service: str) -> bool:
        return bool(self.inspect(service)["State"]["Health"]["Status"] == "healthy")


class Podman(Engine):
    """Podman 4 or later, as root, with commands made from the compose file."""

    def __init__(self, binary: str, project: str, files: Sequence[Path], build_options: Sequence[str]) -> None:
        super().__init__(binary, project, files, build_options)
        # Health checks are run from here, so no timer of systemd's need be there.
        os.environ["DISABLE_HC_SYSTEMD"] = "true"

    def build(self) -> None:
        built: set[str] = set()
        for service in self.spec["services"].values():
            if "build" not in service or service["image"] in built:
                continue
            built.add(service["image"])
            arguments = [f"--build-arg={key}={value}" for key, value in service["build"]["args"].items()]
            # Docker's format, which alone knows the health check of a Dockerfile.
            self.call(
                *("build", "--format", "docker", "--tag", service["image"]),
                *(*arguments, *self.build_options, service["build"]["context"]),
            )

    def up(self, *services: str) -> None:
        for name, settings in self.spec["networks"].items():
            if self.call("network", "exists", self.named(name), check=False).returncode:
                self.call("network", "create", *(["--internal"] if settings.get("internal") else []), self.named(name))
        wanted = [name for name in compose.start_order(self.spec) if name in services or not services]
        for name in wanted:
            service = self.spec["services"][name]
            for dependency, how in service.get("depends_on", {}).items():
                if how != {"condition": "service_healthy"}:
                    raise ValueError(f"{name} waits for {dependency} in a way that is not translated: {how}")
                self.wait_healthy(dependency)
            if self.call("container", "exists", self.container(name), check=False).returncode:
                self.start(name, service)
        for name in wanted:
            self.wait_healthy(name)

    def down(self, *, volumes: bool = False) -> None:
        for name in reversed(compose.start_order(self.spec)):
            self.call("stop", self.container(name), check=False)
            self.call("rm", "--force", self.container(name), check=False)
        for network in self.spec["networks"]:
            self.call("network", "rm", self.named(network), check=False)
        if volumes:
            for volume in self.spec["volumes"]:
                self.call("volume", "rm", self.named(volume), check=False)

    def healthy(self, service: str) -> bool:
        return self.call("healthcheck", "run", self.container(service), check=False).returncode == 0

    def start(self, name: str, service: Mapping[str, Any]) -> None:
        """Make and start a service's container; its variables are in podman's environment, where `--env=NAME` looks."""
        own = {key: value for key, value in service["environment"].items() if key not in PODMANS}
        self.call(*self.run_command(name, service), environment=own)

    def run_command(self, name: str, service: Mapping[str, Any]) -> list[str]:
        """`podman run ...` for a service of the compose file; ValueError for a key that is not translated."""
        options = ["run", "--detach", "--name", self.container(name), "--read-only-tmpfs=false"]
        for key, value in service.items():
            if key in ("build", "image", "command", "depends_on", "networks"):
                continue
            if key not in OPTIONS:
                raise ValueError(f"services.{name}.{key} of the compose file is not translated for podman")
            options += OPTIONS[key](value)
        options += [f"--network={self.named(network)}:alias={name}" for network in service["networks"]]
        return [*self.volumes_placed(options), service["image"], *service.get("command", [])]

    def volumes_placed(self, options: Sequence[str]) -> list[str]:
        """Paths made absolute and volumes given the project's name, as compose does."""

        def placed(option: str) -> str:
            source, separator, rest = option.removeprefix("--volume=").partition(":")
            if source in self.spec["volumes"]:
                return f"--volume={self.named(source)}{separator}{rest}"
            return f"--volume={(ROOT / source).resolve()}{separator}{rest}"

        return [placed(option) if option.startswith("--volume=") else option for option in options]


def seconds(duration: str) -> float:
    """The seconds of a duration such as `30s` or `1m30s`."""
    parts = re.findall(r"(\d+)([smh])", duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is not a duration such as 1m30s")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def dotenv(file: Path) -> dict[str, str]:
    """The settings of a `.env` file; none if it is not there."""
    if not file.exists():
        return {}
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def environment_options(variables: Mapping[str, str]) -> Iterator[str]:
    # By name: every user of the machine can read the values on a command line, and some are secrets.
    for key, value in variables.items():
        yield f"--env={key}={value}" if key in PODMANS else f"--env={key}"


def health_options(check: Mapping[str, Any]) -> Iterator[str]:
    # How often it is asked while starting is up to `wait_healthy`, podman 4 has no option for it.
    known = {"interval", "timeout", "retries", "start_period", "start_interval", "test"}
    if unknown := check.keys() - known:
        raise ValueError(f"healthcheck has {sorted(unknown)}, which is not translated for podman")
    if check["test"][0] != "CMD":
        raise ValueError("A health check has to be a list that starts with CMD")
    # Podman 4.3 reads no list here, other than it says: a line for the shell, quoted, does the same.
    yield f"--health-cmd={shlex.join(check['test'][1:])}"
    for option in ("interval", "timeout", "retries", "start_period"):
        yield f"--health-{option.replace('_', '-')}={check[option]}"


def resource_options(deploy: Mapping[str, Any]) -> Iterator[str]:
    if deploy.keys() != {"resources"} or deploy["resources"].keys() != {"limits"}:
        raise ValueError(f"deploy has more than resource limits, which is not translated for podman: {deploy}")
    for option, value in deploy["resources"]["limits"].items():
        yield {"cpus": "--cpus", "memory": "--memory", "pids": "--pids-limit"}[option] + f"={value}".lower()


OPTIONS: dict[str, Callable[[Any], list[str]]] = {
    "cap_add": lambda names: [f"--cap-add={name}" for name in names],
    "cap_drop": lambda names: [f"--cap-drop={name}" for name in names],
    "deploy": lambda deploy: list(resource_options(deploy)),
    "entrypoint": lambda words: [f"--entrypoint={json.dumps(words)}"],
    "environment": lambda variables: list(environment_options(variables)),
    "healthcheck": lambda check: list(health_options(check)),
    "hostname": lambda name: [f"--hostname={name}"],
    "init": lambda wanted: ["--init"] if wanted else [],
    "logging": lambda log: [f"--log-driver={log['driver']}", f"--log-opt=max-size={log['options']['max-size']}"],
    "ports": lambda ports: [f"--publish={port}" for port in ports],
    "read_only": lambda wanted: ["--read-only"] if wanted else [],
    "restart": lambda policy: [f"--restart={policy}"],
    "security_opt": lambda names: [f"--security-opt={name.removesuffix(':true')}" for name in names],
    "shm_size": lambda size: [f"--shm-size={size}"],
    "stop_grace_period": lambda duration: [f"--stop-timeout={seconds(duration):.0f}"],
    "tmpfs": lambda places: [f"--tmpfs={place}" for place in places],
    "volumes": lambda volumes: [f"--volume={volume}" for volume in volumes],
}
