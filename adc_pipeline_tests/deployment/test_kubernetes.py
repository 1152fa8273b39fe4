"""The manifests for Kubernetes are valid, and fit one another, the image and the pipeline; nothing of them runs here.

A RayCluster is checked against the schema of its custom resource definition, pods and claims against Kubernetes' own.
"""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from adc_pipeline.core.cluster.tasks import memory_of
from adc_pipeline.core.engine import MEMORY_LIMIT
from adc_pipeline.defs.automation.jobs import GPU_POD

kubernetes_validate = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMA = json.loads((Path(__file__).parent / "raycluster.schema.json").read_text())
VERSION = "1.34"


def manifests() -> tuple[dict[str, Any], dict[str, Any]]:
    claim, cluster = yaml.safe_load_all((FOLDER / "raycluster.yaml").read_text())
    return claim, cluster


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "dagster.yaml").read_text())
    return found


def validate_pod(spec: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    kubernetes_validate.validate(pod, VERSION, strict=True)


def code_pod() -> dict[str, Any]:
    """Return the pod that the chart makes of the code location, as far as our values say."""
    (deployment,) = values()["dagster-user-deployments"]["deployments"]
    container = {"name": "code", "image": deployment["image"]["repository"]}
    container |= {name: deployment[name] for name in ("env", "volumeMounts", "resources")}
    return {"containers": [container], "volumes": deployment["volumes"]}


def test_the_manifests_are_valid() -> None:
    claim, cluster = manifests()
    kubernetes_validate.validate(claim, VERSION, strict=True)
    jsonschema.validate(cluster, SCHEMA)
    for group in groups(cluster):
        validate_pod(group["template"]["spec"])
    validate_pod(code_pod())
    run = values()["runLauncher"]["config"]["k8sRunLauncher"]
    gpu = GPU_POD["dagster-k8s/config"]["container_config"]["resources"]
    limits = run["resources"]["limits"] | gpu["limits"]
    validate_pod(
        run["runK8sConfig"]["podSpecConfig"] | {"containers": [{"name": "run", "resources": {"limits": limits}}]}
    )


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "headGroupSpecs"), {}),
        (("spec", "workerGroupSpecs", 0, "replicas"), "many"),
        (("spec", "workerGroupSpecs", 0, "minimumReplicas"), 1),
        (("spec", "headGroupSpec", "template"), None),
    ],
)
def test_what_the_definition_does_not_know_is_refused(place: tuple[Any, ...], value: Any) -> None:
    broken = copy.deepcopy(manifests()[1])
    at = broken
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_a_misspelt_part_of_a_pod_is_refused() -> None:
    spec = copy.deepcopy(groups(manifests()[1])[0]["template"]["spec"])
    spec["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        validate_pod(spec)


def test_every_pod_sees_the_same_home_and_the_runs_find_the_cluster() -> None:
    claim, cluster = manifests()
    pods = [*(group["template"]["spec"] for group in groups(cluster)), code_pod()]
    for pod in pods:
        (container,) = pod["containers"]
        home = next(volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume)
        assert home["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert {"name": home["name"], "mountPath": "/state"} in container["volumeMounts"]
        assert {"name": "ADC_HOME", "value": "/state"} in container["env"]
        assert container["image"].partition(":")[0] == "adc-pipeline"
    environment = {each["name"]: each["value"] for each in pods[-1]["containers"][0]["env"]}
    assert environment["RAY_ADDRESS"] == f"ray://{cluster['metadata']['name']}-head-svc:10001"


def test_a_worker_has_the_memory_that_its_tasks_ask_for() -> None:
    (container,) = manifests()[1]["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    asked = container["resources"]["requests"]
    # Ray leaves a part of a pod's memory to itself and to its object store (30 %).
    assert int(asked["memory"].removesuffix("Gi")) * 2**30 * 0.7 >= int(asked["cpu"]) * memory_of(MEMORY_LIMIT) * 0.9


def test_the_version_of_ray_is_that_of_the_constraints() -> None:
    version = manifests()[1]["spec"]["rayVersion"]
    assert f"ray=={version}" in (ROOT / "constraints.txt").read_text().splitlines()
