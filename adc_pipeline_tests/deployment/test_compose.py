"""The compose file is valid by the compose specification, and does what docs/how-to/deploy.md states.

That the deployment runs is shown by `deploy/proof`, which needs a container engine; here the files are read. 2 s.
"""

import copy
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from deploy.proof import compose
from deploy.proof.engines import Podman, dotenv, seconds
from deploy.proof.steps import BACKUP, PUBLISHED, RESTORE, SETTINGS

ROOT = Path(__file__).parents[2]
ORIGINS = "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
BASE, GPU = ROOT / "docker-compose.yml", ROOT / "docker-compose.gpu.yml"


def project(*files: Path, **variables: str) -> dict[str, Any]:
    return compose.read(files or [BASE], variables)


def services() -> list[Any]:
    return [pytest.param(service, id=name) for name, service in project()["services"].items()]


def validated(document: Mapping[str, Any]) -> None:
    """Raise ValueError unless a document is valid by the compose specification."""
    PyCompose.from_yaml(yaml.safe_dump(document))


@pytest.mark.parametrize("files", [[BASE], [BASE, GPU]], ids=["base", "gpu"])
def test_the_files_are_valid_by_the_compose_specification(files: list[Path]) -> None:
    validated(project(*files))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("restrat",), "always"),
        (("restart",), "sometimes"),
        (("healthcheck", "interval"), "5 parsecs"),
        (("healthcheck", "retries"), "many"),
        (("depends_on", "mlflow", "condition"), "healthy"),
        (("deploy", "resources", "limits", "memory"), "plenty"),
        (("read_only",), "perhaps"),
    ],
)
def test_unknown_keys_are_refused(place: tuple[str, ...], value: str) -> None:
    broken = copy.deepcopy(project())
    at = broken["services"]["code"]
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    with pytest.raises(ValueError, match=r"\w"):
        validated(broken)


@pytest.mark.parametrize("service", services())
def test_every_service_has_a_health_check_restarts_and_limits(service: dict[str, Any]) -> None:
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert seconds(check["start_interval"]) < seconds(check["interval"]), "a start must not wait for the interval"
    assert service["restart"] == "unless-stopped"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}, "logs must not fill the disk"


@pytest.mark.parametrize("service", services())
def test_no_service_has_more_rights_than_it_needs(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "network_mode", "pid", "ipc", "devices"}
    assert not service.get("user", "10001").startswith(("0", "root"))
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))


def test_every_service_waits_for_health_and_the_databases_come_first() -> None:
    conditions = [how for service in project()["services"].values() for how in service.get("depends_on", {}).values()]
    assert conditions
    assert all(how == {"condition": "service_healthy"} for how in conditions)
    order = compose.start_order(project())
    assert order[0] == "postgres"
    # The daemon migrates Dagster's database, the MLflow server its own; their readers start later.
    assert order.index("daemon") < order.index("webserver")
    assert order.index("mlflow") < order.index("code")


def test_ports_are_published_on_the_loopback_interface_by_default() -> None:
    def ports(**variables: str) -> list[str]:
        found = project(**variables)["services"].values()
        return sorted(port for service in found for port in service.get("ports", []))

    assert ports() == ["127.0.0.1:3000:3000", "127.0.0.1:5000:5000"]
    assert ports(ADC_BIND="0.0.0.0", MLFLOW_PORT="5001") == ["0.0.0.0:3000:3000", "0.0.0.0:5001:5000"]


@pytest.mark.slow
def test_mlflow_accepts_only_requests_of_its_published_pages() -> None:
    def origins(**variables: str) -> list[str]:
        spec = project(**variables)["services"]
        assert spec["code"]["environment"]["ADC_MLFLOW_PAGES"] == spec["mlflow"]["environment"][ORIGINS]
        return [str(spec["mlflow"]["environment"][ORIGINS])]

    assert origins() == ["http://127.0.0.1:5000"]
    assert origins(MLFLOW_PORT="5001") == ["http://127.0.0.1:5001"]
    # Importing the server takes 5 s.
    from mlflow.server.security_utils import should_block_cors_request

    published = f"https://{PUBLISHED}"
    assert should_block_cors_request(published, "POST", origins())
    assert not should_block_cors_request(published, "POST", origins(**SETTINGS))
    assert should_block_cors_request("https://elsewhere.example.org", "POST", origins(**SETTINGS))
    (hosts,) = [word for word in project(**SETTINGS)["services"]["mlflow"]["command"] if "--allowed-hosts=" in word]
    assert hosts.endswith(f",{PUBLISHED}")


def test_the_code_location_has_a_fixed_host_name() -> None:
    assert project()["services"]["code"]["hostname"] == "code"


def test_only_the_services_reach_the_database() -> None:
    spec = project()
    assert spec["networks"]["database"] == {"internal": True}
    assert spec["services"]["postgres"]["networks"] == ["database"]
    assert "database" not in spec["services"]["pages"]["networks"]


def test_only_what_needs_the_internet_has_a_way_there() -> None:
    def outside(**variables: str) -> set[str]:
        spec = project(**variables)
        open_networks = {name for name, network in spec["networks"].items() if not network.get("internal")}
        return {name for name, service in spec["services"].items() if open_networks & set(service["networks"])}

    # Caddy publishes the ports, which an internal network cannot.
    assert outside() == {"code", "pages"}
    assert outside(MLFLOW_NETWORK="outside") == {"code", "pages", "mlflow"}
    assert {name for name, service in project()["services"].items() if "ports" in service} == {"pages"}


def test_each_database_has_a_role_of_its_own() -> None:
    spec = project()["services"]
    addresses = [spec["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]]
    addresses.append(
        yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())["storage"]["postgres"]["postgres_url"]
    )
    assert [re.findall(r"//(\w+)@postgres/(\w+)$", each) for each in addresses] == [
        [("mlflow", "mlflow")],
        [("dagster", "dagster")],
    ]
    assert spec["postgres"]["environment"]["POSTGRES_USER"] == "postgres"
    for name, service in spec.items():
        secrets = {volume.split(":")[0] for volume in service.get("volumes", []) if "-secret" in volume}
        both = {"dagster-secret", "mlflow-secret"}
        assert secrets == {"postgres": both, "backup": both, "pages": set(), "mlflow": {"mlflow-secret"}}.get(
            name, {"dagster-secret"}
        )


def test_no_file_contains_a_secret() -> None:
    assert dotenv(ROOT / ".env.example") == {}
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|KEY", re.IGNORECASE)
    for name, service in project()["services"].items():
        for key, value in service["environment"].items():
            if secret.search(key) and key not in ("POSTGRES_PASSWORD_FILE", "SECRET_OWNER"):
                assert value == "", f"{name}: {key}"
    for path in [BASE, GPU, ROOT / "Dockerfile", *(ROOT / "deploy").glob("*.*")]:
        # A URL with a password: scheme://user:password@host.
        assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", path.read_text()), path


def test_a_secret_reaches_only_the_services_that_need_it() -> None:
    given = project(AWS_SECRET_ACCESS_KEY="s-2", HF_TOKEN="t-3", ADC_MAIL_PASSWORD="m-4")["services"]
    having = {
        value: [name for name, service in given.items() if value in service["environment"].values()]
        for value in ("s-2", "t-3", "m-4")
    }
    assert having == {"s-2": ["mlflow"], "t-3": ["code"], "m-4": ["code"]}


def test_env_example_lists_every_setting_and_no_other() -> None:
    documented = set(re.findall(r"^#([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    # Compose's own.
    documented.remove("COMPOSE_PROFILES")
    assert documented == set(re.findall(r"\$\{(\w+)", BASE.read_text() + GPU.read_text()))


def test_every_service_builds_the_image_and_only_the_code_location_has_the_gpu() -> None:
    plain, gpu = project()["services"], project(BASE, GPU)["services"]
    assert {service["image"] for service in plain.values() if "build" in service} == {"adc-pipeline:cpu"}
    changed = {name for name in plain if plain[name] != gpu[name]}
    assert changed == {"code"}
    assert gpu["code"]["build"]["args"] == {**plain["code"]["build"]["args"], "TORCH": "cuda"}
    assert gpu["code"]["deploy"]["resources"]["limits"] == plain["code"]["deploy"]["resources"]["limits"]
    for service in gpu.values():
        if "build" in service:
            assert (ROOT / "deploy" / f"torch-{service['build']['args']['TORCH']}.lock").exists()


def test_every_key_is_translated_for_podman_or_refused() -> None:
    engine = Podman("podman", "p", [BASE], [])
    assert set(engine.optional) == {"backup"}
    for name, service in {**engine.spec["services"], **engine.optional}.items():
        command = engine.run_command(name, service)
        assert "--cap-drop=ALL" in command
        assert f"--memory={service['deploy']['resources']['limits']['memory']}".lower() in command
        assert command.index(service["image"]) == len(command) - len(service.get("command", [])) - 1
    with pytest.raises(ValueError, match="privileged"):
        engine.run_command("code", {**engine.spec["services"]["code"], "privileged": True})
    with pytest.raises(ValueError, match="resource limits"):
        engine.run_command("code", project(BASE, GPU)["services"]["code"])


def test_secrets_reach_containers_without_podmans_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "p-1")
    podman = tmp_path / "podman"
    podman.write_text('#!/bin/sh\nprintf "%s\\n" "$*" "$HF_TOKEN" "$HOME" >"$0.saw"\n')
    podman.chmod(0o755)
    engine = Podman(str(podman), "p", [BASE], [])
    # The values of the compose file, not those of this process' environment.
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HOME", "/ours")
    service = engine.spec["services"]["code"]
    engine.start("code", {**service, "environment": {**service["environment"], "HOME": "/theirs"}})
    command, password, home = (tmp_path / "podman.saw").read_text().splitlines()
    assert "--env=HF_TOKEN " in command
    assert "p-1" not in command
    assert password == "p-1"
    assert "--env=HOME=/theirs " in command
    assert home == "/ours"


def test_the_deployments_test_uses_the_commands_of_the_documentation() -> None:
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
    assert f"docker compose exec -T postgres sh -c '{BACKUP}' > databases.sql\n" in page
    assert f"docker compose exec -T postgres {RESTORE} < databases.sql\n" in page
    for key, value in SETTINGS.items():
        assert f"\n{key}={value}\n" in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("${A:-2}", "1"),
        ("${B:-2}", "2"),
        ("${EMPTY:-2}", "2"),
        ("${B}", ""),
        ("$${A}", "${A}"),
        ("x:${A}/${B:-y}", "x:1/y"),
        ("${B:-x:${A}/${C:-y}}", "x:1/y"),
        ("${A:-x:${B}}", "1"),
    ],
)
def test_variables_are_interpolated_by_the_specification(text: str, expected: str) -> None:
    assert compose.interpolated({"k": [text]}, {"A": "1", "EMPTY": ""}) == {"k": [expected]}


@pytest.mark.parametrize("text", ["$A", "${A?needed}", "${A", "100$"])
def test_other_spellings_of_variables_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\$"):
        compose.interpolated(text, {"A": "1"})


def test_images_come_from_the_environment_and_can_be_pinned_by_digest(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = pull ] && exit\nfor image; do :; done\necho "$image@sha256:1234"\n')
    docker.chmod(0o755)
    printed = subprocess.run(
        ["sh", str(ROOT / "deploy" / "pin.sh"), str(docker)], capture_output=True, text=True, check=True
    ).stdout
    pins = dict(line.split("=", 1) for line in printed.splitlines())
    before, after = project()["services"], project(**pins)["services"]
    for name, service in before.items():
        if "build" in service:
            base = service["build"]["args"]["PYTHON_IMAGE"]
            assert after[name]["build"]["args"]["PYTHON_IMAGE"] == f"{base}@sha256:1234"
        else:
            assert after[name]["image"] == f"{service['image']}@sha256:1234"


def test_a_cycle_of_dependencies_is_refused() -> None:
    circle: dict[str, Any] = {"services": {"a": {"depends_on": {"b": {}}}, "b": {"depends_on": {"a": {}}}}}
    with pytest.raises(ValueError, match="a -> b -> a"):
        compose.start_order(circle)
