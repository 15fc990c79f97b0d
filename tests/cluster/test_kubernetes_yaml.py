"""cluster/kubernetes.yaml and cluster/Dockerfile, offline: the CRD's schema, the pins, what is open."""

from __future__ import annotations

import gzip
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "cluster" / "kubernetes.yaml"
DOCKERFILE = ROOT / "cluster" / "Dockerfile"
SCHEMA = ROOT.parent / "shared" / "data" / "kuberay" / "rayjob_v1_schema.json.gz"
needs_schema = pytest.mark.skipif(not SCHEMA.exists(), reason=f"{SCHEMA} is not here")


@pytest.fixture
def job() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def strict(schema: Any) -> Any:
    """The schema, in which fields that it does not name are errors, as for ``kubectl apply``."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        made.setdefault("additionalProperties", False)
    return made


def errors(job: dict[str, Any]) -> list[str]:
    schema = strict(json.loads(gzip.decompress(SCHEMA.read_bytes()))["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, not the CRD's
    found = jsonschema.Draft4Validator(schema).iter_errors(job)
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in found]


@needs_schema
def test_the_crd_accepts_it(job: dict[str, Any]) -> None:
    assert errors(job) == []


@needs_schema
@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ((), "entrypont", "python"),
        (("rayClusterSpec",), "authOption", {"mode": "token"}),
        (("rayClusterSpec", "authOptions"), "mode", "tokens"),
        (("rayClusterSpec", "autoscalerOptions"), "idleTimeoutMinutes", 5),
        (("rayClusterSpec", "workerGroupSpecs", 0), "maxReplica", 8),
        (("rayClusterSpec", "workerGroupSpecs", 0, "template", "spec"), "toleration", []),
        (("rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0), "img", "x"),
    ],
)
def test_misspelt_fields_are_found(
    job: dict[str, Any], path: tuple[str | int, ...], field: str, value: Any
) -> None:
    place = job["spec"]
    for part in path:
        place = place[part]
    place[field] = value
    (error,) = errors(job)
    assert field in error


def containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [c for group in groups for c in group["template"]["spec"]["containers"]]


def test_versions_are_those_of_the_pins(job: dict[str, Any]) -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = {container["image"] for container in containers(job)}
    assert images == {f"REGISTRY/labs:{project['version']}"}
    assert f"--tag {images.pop()} " in DOCKERFILE.read_text()


def test_the_image_installs_what_the_nodes_of_aws_install() -> None:
    nodes = yaml.safe_load((ROOT / "cluster.yaml").read_text())["setup_commands"]
    (node,) = [command for command in nodes if "uv pip install" in command]
    (extras,) = re.findall(r"\[(\S+)\]", node)
    text = DOCKERFILE.read_text()
    assert f"--constraint constraints.txt --editable .[{extras}]" in text
    assert "uv pip install --quiet --system" in text
    python = re.search(r"python(3\.\d+) -m venv", " ".join(nodes))
    assert python is not None
    assert f"FROM python:{python[1]}-slim" in text
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())


def test_nothing_is_exposed_and_the_cluster_is_removed(job: dict[str, Any]) -> None:
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["enableIngress"] is False
    assert spec["shutdownAfterJobFinishes"] is True
    assert "USER ray" in DOCKERFILE.read_text()
    assert "AKIA" not in FILE.read_text()


def test_the_head_runs_no_trials_and_workers_start_and_end(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert cluster["enableInTreeAutoscaling"] is True
    aws = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    seconds = cluster["autoscalerOptions"]["idleTimeoutSeconds"]
    assert seconds == 60 * aws["idle_timeout_minutes"]
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (0, aws["max_workers"])
    (worker,) = workers["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for container in containers(job):
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_command_is_one_that_exists(job: dict[str, Any]) -> None:
    """Parsed as the experiment parses it; results go where every machine sees them."""
    directory, _, command = job["spec"]["entrypoint"].partition(" && ")
    assert directory == "cd /opt/labs"
    assert "WORKDIR /opt/labs" in DOCKERFILE.read_text()
    python, script, *options = command.split()
    assert python == "python"
    assert (ROOT / script).exists()
    assert options[options.index("--run-root") + 1].startswith("s3://")
    known = (ROOT / "labs" / "runtime" / "options.py").read_text()
    for option in options:
        if option.startswith("--") and option != "--preset":
            assert f"    {option[2:].replace('-', '_')}:" in known
