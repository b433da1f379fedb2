"""The manifests are valid for Kubernetes, closed, and in agreement with our settings."""

import json
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dicom_node.config import NodeSettings, load_settings
from tests.deploy.commands import understands

Tool = Callable[[str], str]
Manifest = dict[str, Any]
VARIANTS = ("base", "autoscale", "cpu")
# The oldest that Kubernetes maintains and the newest that the schemas know.
VERSIONS = ("1.35", "1.37")
# What KEDA's custom resource definition of a ScaledObject knows.
SCALED_OBJECT = {
    "scaleTargetRef",
    "pollingInterval",
    "cooldownPeriod",
    "minReplicaCount",
    "maxReplicaCount",
    "fallback",
    "advanced",
    "triggers",
}
PROMETHEUS_TRIGGER = {"serverAddress", "query", "threshold", "ignoreNullValues"}


def built(repository: Path, tool: Tool, variant: str) -> list[Manifest]:
    """What ``kubectl apply -k`` would send."""
    folder = repository / "deploy" / "kubernetes" / variant
    return [one for one in yaml.safe_load_all(_kustomized(tool("kubectl"), folder)) if one]


@cache
def _kustomized(program: str, folder: Path) -> str:
    command = [program, "kustomize", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def pod_of(deployment: Manifest) -> Manifest:
    pod: Manifest = deployment["spec"]["template"]["spec"]
    return pod


def container_of(deployment: Manifest) -> Manifest:
    (container,) = pod_of(deployment)["containers"]
    assert isinstance(container, dict)
    return container


@pytest.fixture
def base(repository: Path, tool: Tool) -> list[Manifest]:
    return built(repository, tool, "base")


@pytest.fixture
def settings(base: list[Manifest], secrets: Path) -> NodeSettings:
    """What the pods read."""
    (settings_map,) = of_kind(base, "ConfigMap").values()
    file = secrets.parent / "node.toml"
    file.write_text(settings_map["data"]["node.toml"])
    return load_settings(file)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_manifest_is_valid(repository: Path, tool: Tool, variant: str, version: str) -> None:
    manifests = built(repository, tool, variant)
    own = [one for one in manifests if not one["apiVersion"].startswith("keda.sh/")]
    assert len(own) >= 15
    for manifest in own:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_mistake_in_a_manifest_would_be_seen(base: list[Manifest]) -> None:
    listener = of_kind(base, "Deployment")["psoas-listener"]
    container_of(listener)["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(listener, VERSIONS[0], strict=True)


def test_all_parts_are_there(base: list[Manifest]) -> None:
    deployments = of_kind(base, "Deployment")
    assert set(deployments) == {
        f"psoas-{name}" for name in ("listener", "worker-node", "worker-gpu", "console")
    }
    assert deployments["psoas-listener"]["spec"]["replicas"] >= 2
    assert set(of_kind(base, "PodDisruptionBudget")) == {"psoas-listener", "psoas-worker-node"}
    (spool,) = of_kind(base, "PersistentVolumeClaim").values()
    assert spool["spec"]["accessModes"] == ["ReadWriteMany"]
    service = of_kind(base, "Service")["psoas-listener"]
    assert service["spec"]["externalTrafficPolicy"] == "Local"


def test_selectors_select(base: list[Manifest]) -> None:
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"]
        for name, one in of_kind(base, "Deployment").items()
    }
    for kind in ("Service", "PodDisruptionBudget", "Deployment"):
        for name, one in of_kind(base, kind).items():
            selector = one["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            assert wanted.items() <= labels[name].items(), (kind, name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_have_no_rights(repository: Path, tool: Tool, variant: str) -> None:
    for name, deployment in of_kind(built(repository, tool, variant), "Deployment").items():
        pod, container = pod_of(deployment), container_of(deployment)
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert re.fullmatch(r"registry\.example/psoas:(cpu|cuda)", container["image"])
        assert understands(container["args"])


def test_volumes_that_are_mounted_exist(base: list[Manifest]) -> None:
    claims, maps = of_kind(base, "PersistentVolumeClaim"), of_kind(base, "ConfigMap")
    for deployment in of_kind(base, "Deployment").values():
        volumes = {volume["name"]: volume for volume in pod_of(deployment)["volumes"]}
        assert volumes["spool"]["persistentVolumeClaim"]["claimName"] in claims
        assert volumes["settings"]["configMap"]["name"] in maps
        mounted = {mount["name"] for mount in container_of(deployment)["volumeMounts"]}
        assert mounted == set(volumes)


def test_probes_ask_where_it_is_answered(base: list[Manifest], settings: NodeSettings) -> None:
    answered = {
        "psoas-listener": (settings.metrics.port, {"/health", "/ready"}),
        "psoas-worker-node": (settings.metrics.node_worker_port, {"/health", "/ready"}),
        "psoas-worker-gpu": (settings.metrics.worker_port, {"/health", "/ready"}),
        "psoas-console": (settings.console.port, {"/login"}),
    }
    for name, deployment in of_kind(base, "Deployment").items():
        container = container_of(deployment)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        number, paths = answered[name]
        for probe in ("startupProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert ports[asked["port"]] == number
            assert asked["path"] in paths
    assert settings.metrics.host == "0.0.0.0"  # noqa: S104 - of the pod


def test_settings_and_pods_agree(base: list[Manifest], settings: NodeSettings) -> None:
    deployments = of_kind(base, "Deployment")
    grace = {
        name: pod_of(one)["terminationGracePeriodSeconds"] for name, one in deployments.items()
    }
    listener = container_of(deployments["psoas-listener"])
    wait_s = float(listener["lifecycle"]["preStop"]["exec"]["command"][1])
    assert grace["psoas-listener"] > wait_s + settings.listener.stop_grace_s
    assert grace["psoas-worker-gpu"] > settings.worker.time_limit_s
    ports = {port["port"] for port in of_kind(base, "Service")["psoas-listener"]["spec"]["ports"]}
    assert settings.listener.port in ports
    assert str(settings.storage.folder) == "/var/lib/psoas"
    assert settings.storage.ledger_password_file is not None
    assert settings.storage.ledger_password_file.parent.name == "secrets"


def test_workers_follow_the_queue(
    repository: Path, tool: Tool, settings: NodeSettings, tmp_path: Path
) -> None:
    manifests = built(repository, tool, "autoscale")
    (scaled,) = of_kind(manifests, "ScaledObject").values()
    spec = scaled["spec"]
    assert set(spec) <= SCALED_OBJECT
    target = of_kind(manifests, "Deployment")[spec["scaleTargetRef"]["name"]]
    assert "replicas" not in target["spec"]
    # More workers than series that are handed out ahead would stand idle.
    assert spec["minReplicaCount"] <= spec["maxReplicaCount"] <= settings.worker.queue_ahead
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert set(trigger["metadata"]) <= PROMETHEUS_TRIGGER
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    # The query counts what waits, once, however many listeners tell of it.
    series = [
        {"series": f'psoas_series{{state="{state}",instance="{pod}"}}', "values": f"{count}"}
        for pod in ("a", "b")
        for state, count in (("complete", 9), ("queued", 4), ("analyzing", 2), ("delivered", 70))
    ]
    (tmp_path / "rules.yaml").write_text("groups: []\n")
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": trigger["metadata"]["query"],
                "eval_time": "0m",
                "exp_samples": [{"labels": "{}", "value": 15}],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps({"rule_files": ["rules.yaml"], "tests": [test]}))
    run = subprocess.run(
        [tool("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout


def test_without_a_gpu_none_is_asked_for(repository: Path, tool: Tool) -> None:
    for variant, wanted in (("base", 1), ("cpu", None)):
        worker = of_kind(built(repository, tool, variant), "Deployment")["psoas-worker-gpu"]
        assert container_of(worker)["resources"]["limits"].get("nvidia.com/gpu") == wanted


def test_whoever_is_not_named_may_not_connect(base: list[Manifest]) -> None:
    policies = of_kind(base, "NetworkPolicy")
    nobody = policies["psoas-nobody"]["spec"]
    assert set(nobody["policyTypes"]) == {"Ingress", "Egress"}
    assert not {"ingress", "egress"} & set(nobody)
    peers = policies["psoas-peers"]["spec"]["podSelector"]["matchExpressions"][0]["values"]
    assert "worker-gpu" not in peers
