"""What deploy/kubernetes says is good Kubernetes, and fits the rest of the repository."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from colloquy_server.settings import Settings
from colloquy_server.web.probes import Probes
from colloquy_slack.settings import Settings as SlackSettings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATIONS = sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))
VERSION = "1.30"
"""The oldest that still got security fixes lately; newer ones take the same."""

Object = dict[str, Any]


def objects(folder: Path) -> Iterator[Object]:
    """What the files of a kustomization have in them."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))["resources"]
    for name in listed:
        yield from yaml.safe_load_all((folder / name).read_text("utf-8"))


ALL = [one for folder in KUSTOMIZATIONS for one in objects(folder)]
WORKLOADS = [one for one in ALL if one["kind"] in ("Deployment", "Job")]


def named(kind: str, name: str) -> Object:
    [found] = [one for one in ALL if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pod(workload: Object) -> Object:
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Object) -> Object:
    [found] = pod(workload)["containers"]
    only: Object = found
    return only


@pytest.mark.parametrize("found", ALL, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_each_object_is_as_kubernetes_wants_it(found: Object) -> None:
    kubernetes_validate.validate(found, VERSION, strict=True)


def test_every_file_belongs_to_a_kustomization_and_the_image_is_named_once_in_each() -> None:
    files = set(FOLDER.rglob("*.yaml"))
    for folder in KUSTOMIZATIONS:
        file = folder / "kustomization.yaml"
        said = yaml.safe_load(file.read_text("utf-8"))
        files -= {file, *(folder / name for name in said["resources"])}
        assert [(one["name"], one["newTag"]) for one in said["images"]] == [("colloquy", "latest")]
    assert files == set()
    assert {container(one)["image"] for one in WORKLOADS} == {"colloquy"}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl here")
@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda one: one.name)
def test_kustomize_makes_the_same_objects_of_it(folder: Path) -> None:
    made = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True
    ).stdout
    kinds = sorted(one["kind"] for one in yaml.safe_load_all(made))
    assert kinds == sorted(one["kind"] for one in objects(folder))


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["metadata"]["name"])
def test_nobody_is_root_writes_where_they_should_not_or_has_a_secret_in_the_file(
    workload: Object,
) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
    security = pod(workload)["securityContext"]
    assert security["runAsNonRoot"]
    assert f"USER {security['runAsUser']}\n" in dockerfile
    own = container(workload)
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in own["resources"]["limits"]
    assert "env" not in own
    for source in own["envFrom"]:
        if "configMapRef" in source:
            assert named("ConfigMap", source["configMapRef"]["name"])
    assert not any(one["kind"] == "Secret" for one in ALL)


def test_settings_are_settings_and_none_is_a_secret() -> None:
    server = {name.upper() for name in Settings.model_fields}
    bot = {name.upper() for name in SlackSettings.model_fields}
    for name, known in (("colloquy", server), ("colloquy-slack", bot)):
        settings = named("ConfigMap", name)["data"]
        assert set(settings) <= known
        assert not any(word in one for one in settings for word in ("KEY", "TOKEN", "SECRET"))


def test_a_server_gets_the_time_that_it_takes_to_stop_and_is_asked_what_it_answers() -> None:
    workload = named("Deployment", "colloquy")
    own = container(workload)
    waits = float(own["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = float(named("ConfigMap", "colloquy")["data"]["SHUTDOWN_GRACE"])
    assert pod(workload)["terminationGracePeriodSeconds"] >= waits + grace + 10
    assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    answers = {route.path for route in Probes(None).routes()}  # type: ignore[arg-type]
    probes = {
        own[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }
    assert probes == answers
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
    settings = named("ConfigMap", "colloquy")["data"]
    for port in own["ports"]:
        address = f"0.0.0.0:{port['containerPort']}"
        if port["name"] == "metrics":
            assert settings["PROMETHEUS_ADDRESS"] == address
        else:
            assert f"{port['name'].upper()}_ADDRESS={address}" in dockerfile


def test_services_budgets_and_policies_find_their_pods() -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in WORKLOADS]
    for one in ALL:
        spec = one.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        wanted = selector.get("matchLabels", selector)
        if wanted:
            assert sum(wanted.items() <= each.items() for each in labels) == 1, one["kind"]
