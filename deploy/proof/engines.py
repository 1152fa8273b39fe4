"""The container engines of the deployment's test: Docker with its compose plugin, and podman with the same file.

Podman itself does not read compose files, so its commands are generated here from the parsed file. A key without a
translation raises an error, so that the test covers the whole file. Podman 4 differs in three ways: it keeps one log
file of `max-size` instead of `max-file` of them; it needs systemd to run health checks on a timer, so they are run from
here, by podman and with the same commands; and it does not support device reservations.
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
# Variables that podman itself reads, so their values for a container cannot be passed through podman's environment.
PODMAN_VARIABLES = {"HOME", "PATH"}
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Engine:
    """Operations that are the same for both engines; both name containers PROJECT-SERVICE-1."""

    def __init__(self, binary: str, project: str, files: Sequence[Path], build_options: Sequence[str]) -> None:
        self.binary = binary
        self.project = project
        self.files = files
        self.build_options = build_options
        # Docker's compose reads `.env` by itself.
        self.spec = compose.read(files, dotenv(ROOT / ".env") | os.environ)
        # Services with a profile are started by name only.
        services = self.spec["services"]
        self.optional = {name: services.pop(name) for name in list(services) if "profiles" in services[name]}

    def build(self) -> None:
        """Build the images of the services."""
        raise NotImplementedError

    def up(self, *services: str) -> None:
        """Start services, by default all, that are not running; return when they are healthy.

        Services that are named must not depend on others.
        """
        raise NotImplementedError

    def down(self, *, volumes: bool = False) -> None:
        """Stop and remove containers and networks, and with `volumes` the volumes."""
        raise NotImplementedError

    def run_once(self, service: str, *command: str) -> None:
        """Run a command by the entrypoint of a service with a profile, in a container of its own."""
        raise NotImplementedError

    def healthy(self, service: str) -> bool:
        raise NotImplementedError

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def named(self, name: str) -> str:
        """Return the full name of a volume or network, the same for both engines."""
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
        """Run an engine command in the repository's root; raise RuntimeError with the end of its output if it fails."""
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
            raise RuntimeError(f"{shown[:300]} exited with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
        return done

    def execute(
        self, service: str, *command: str, user: str | None = None, check: bool = True, input: str | None = None
    ) -> str:
        """Run a command in a service's container, with `input` on its standard input; return its standard output."""
        options = [*(["--user", user] if user else []), *(["--interactive"] if input is not None else [])]
        return self.call("exec", *options, self.container(service), *command, check=check, input=input).stdout

    def inspect(self, service: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.call("inspect", self.container(service)).stdout)
        return found[0]

    def restarts(self, service: str) -> int:
        """Return how often the engine restarted a service's container."""
        return int(self.inspect(service)["RestartCount"])

    def logs(self, service: str) -> str:
        done = self.call("logs", "--tail", "60", self.container(service), check=False)
        return done.stdout + done.stderr

    def crash(self, service: str) -> None:
        """Kill every process of a container, as the kernel does when memory runs out.

        The command runs inside the container, since engines do not restart a container that they killed themselves.
        """
        # Without the capability KILL, root can kill only its own processes, so the command runs as the server's user.
        user = "postgres" if service == "postgres" else None
        self.execute(service, "sh", "-c", "kill -9 -1", user=user, check=False)

    def wait_healthy(self, service: str, timeout: float = 300) -> float:
        """Wait until a service's health check passes and return the seconds.

        Raise RuntimeError with the service's log after `timeout` seconds, or if the service keeps crashing.
        """
        started = time.monotonic()
        before = self.restarts(service)
        while not self.healthy(service):
            waited = time.monotonic() - started
            if waited > timeout or self.restarts(service) - before > 3:
                raise RuntimeError(f"{service} is not healthy after {waited:.0f} s:\n{self.logs(service)}")
            time.sleep(1)
        return time.monotonic() - started


class Docker(Engine):
    """Docker Engine 25 or later, with its compose plugin."""

    def compose(self, *arguments: str) -> None:
        files = [option for file in self.files for option in ("--file", str(file))]
        self.call("compose", "--project-name", self.project, *files, *arguments)

    def build(self) -> None:
        self.compose("build", *self.build_options)

    def up(self, *services: str) -> None:
        self.compose("up", "--detach", "--no-build", "--wait", *services)

    def down(self, *, volumes: bool = False) -> None:
        self.compose("--profile", "*", "down", *(["--volumes"] if volumes else []))

    def run_once(self, service: str, *command: str) -> None:
        self.compose("run", "--rm", service, *command)

    def healthy(self, service: str) -> bool:
        return bool(self.inspect(service)["State"]["Health"]["Status"] == "healthy")


class Podman(Engine):
    """Podman 4 or later, as root, with commands generated from the compose file."""

    def __init__(self, binary: str, project: str, files: Sequence[Path], build_options: Sequence[str]) -> None:
        super().__init__(binary, project, files, build_options)
        # Health checks are run from here, without systemd's timers.
        os.environ["DISABLE_HC_SYSTEMD"] = "true"

    def build(self) -> None:
        built: set[str] = set()
        for service in self.spec["services"].values():
            if "build" not in service or service["image"] in built:
                continue
            built.add(service["image"])
            arguments = [f"--build-arg={key}={value}" for key, value in service["build"]["args"].items()]
            # Only Docker's image format supports a Dockerfile's HEALTHCHECK.
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
                    raise ValueError(f"{name}.depends_on.{dependency} has no translation for podman: {how}.")
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

    def run_once(self, service: str, *command: str) -> None:
        wanted = {**self.optional[service], "command": list(command)}
        wanted.pop("restart")
        options = [option for option in self.run_command(service, wanted) if option != "--detach"]
        self.call(options[0], "--rm", *options[1:], environment=wanted["environment"])

    def start(self, name: str, service: Mapping[str, Any]) -> None:
        """Create and start a service's container; `--env=NAME` takes its variables from podman's environment."""
        own = {key: value for key, value in service["environment"].items() if key not in PODMAN_VARIABLES}
        self.call(*self.run_command(name, service), environment=own)

    def run_command(self, name: str, service: Mapping[str, Any]) -> list[str]:
        """Return the arguments of `podman run` for a service; raise ValueError for a key without a translation."""
        options = ["run", "--detach", "--name", self.container(name), "--read-only-tmpfs=false"]
        for key, value in service.items():
            if key in ("build", "image", "command", "depends_on", "networks", "profiles"):
                continue
            if key not in OPTIONS:
                raise ValueError(f"services.{name}.{key} of the compose file has no translation for podman.")
            options += OPTIONS[key](value)
        options += [f"--network={self.named(network)}:alias={name}" for network in service["networks"]]
        return [*self.volumes_placed(options), service["image"], *service.get("command", [])]

    def volumes_placed(self, options: Sequence[str]) -> list[str]:
        """Return the options with absolute paths and with the project's name in volumes' names, as compose does."""

        def placed(option: str) -> str:
            source, separator, rest = option.removeprefix("--volume=").partition(":")
            if source in self.spec["volumes"]:
                return f"--volume={self.named(source)}{separator}{rest}"
            return f"--volume={(ROOT / source).resolve()}{separator}{rest}"

        return [placed(option) if option.startswith("--volume=") else option for option in options]


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as `30s` or `1m30s`."""
    parts = re.findall(r"(\d+)([smh])", duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is not a duration such as 1m30s.")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def dotenv(file: Path) -> dict[str, str]:
    """Return the variables of a `.env` file, or none if the file does not exist."""
    if not file.exists():
        return {}
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def environment_options(variables: Mapping[str, str]) -> Iterator[str]:
    # By name, since every user of the machine can read values on a command line, and some are secrets.
    for key, value in variables.items():
        yield f"--env={key}={value}" if key in PODMAN_VARIABLES else f"--env={key}"


def health_options(check: Mapping[str, Any]) -> Iterator[str]:
    # `start_interval` has no option in podman 4; `wait_healthy` polls instead.
    known = {"interval", "timeout", "retries", "start_period", "start_interval", "test"}
    if unknown := check.keys() - known:
        raise ValueError(f"healthcheck has {sorted(unknown)}, which has no translation for podman.")
    if check["test"][0] != "CMD":
        raise ValueError("The test of a healthcheck must be a list that starts with CMD.")
    # Podman 4.3 does not accept a list here, contrary to its documentation; a quoted shell command is equivalent.
    yield f"--health-cmd={shlex.join(check['test'][1:])}"
    for option in ("interval", "timeout", "retries", "start_period"):
        yield f"--health-{option.replace('_', '-')}={check[option]}"


def resource_options(deploy: Mapping[str, Any]) -> Iterator[str]:
    if deploy.keys() != {"resources"} or deploy["resources"].keys() != {"limits"}:
        raise ValueError(f"deploy has more than resource limits, which has no translation for podman: {deploy}.")
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
    "user": lambda user: [f"--user={user}"],
    "volumes": lambda volumes: [f"--volume={volume}" for volume in volumes],
}
