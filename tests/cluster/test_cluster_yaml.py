"""cluster.yaml, offline: Ray's own code builds the cluster in a simulated AWS account."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import (
    GangResourceRequest,
)
from simulated_account import (
    FILE,
    OFFICE,
    REGION,
    ROOT,
    bootstrap,
    launch,
    prepare_account,
    simulated_account,
)

from labs.runtime.machine.resources import RESERVE, Resources, reserve_request


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[boto3.Session]:
    with simulated_account(tmp_path_factory.mktemp("home")) as session:
        prepare_account()
        yield session


@pytest.fixture(scope="module")
def bootstrapped(account: boto3.Session) -> dict[str, Any]:
    return bootstrap(fill_resources=True)


def test_the_head_runs_no_trials_and_workers_have_the_gpus_of_their_type(
    bootstrapped: dict[str, Any],
) -> None:
    resources = {
        name: (kind["resources"]["CPU"], kind["resources"].get("GPU", 0))
        for name, kind in bootstrapped["available_node_types"].items()
    }
    workers = {"t4": (4, 1), "a10g": (4, 1), "a10g_x4": (48, 4), "a10g_on_demand": (4, 1)}
    assert resources == {"head": (0, 0), **workers}


def test_workers_are_bounded(bootstrapped: dict[str, Any]) -> None:
    """Ray drops a top-level min_workers silently, and accepts a minimum above the maximum."""
    assert "min_workers" not in yaml.safe_load(FILE.read_text())
    assert bootstrapped["max_workers"] == 8
    assert bootstrapped["idle_timeout_minutes"] == 5
    for name, kind in bootstrapped["available_node_types"].items():
        workers = 0 if name == "head" else 1
        assert kind["min_workers"] == 0  # zero cost while nothing waits
        assert workers <= kind["max_workers"] <= 8
    assert bootstrapped["available_node_types"]["head"]["max_workers"] == 0


def chosen(
    bootstrapped: dict[str, Any],
    *groups: dict[str, float],
) -> dict[str, int]:
    """The machines that the second version of Ray's autoscaler starts for placement groups that wait."""
    config = AutoscalingConfig(bootstrapped, skip_content_hash=True)
    reply = ResourceDemandScheduler(event_logger=None).schedule(
        SchedulingRequest(
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes(),
            disable_launch_config_check=True,
            gang_resource_requests=[
                GangResourceRequest(requests=[ResourceRequestUtil.make(group)]) for group in groups
            ],
        )
    )
    return {launch.instance_type: launch.count for launch in reply.to_launch if launch.count}


def test_on_demand_comes_after_spot_and_only_on_request(
    bootstrapped: dict[str, Any],
) -> None:
    kinds = {n: k["resources"] for n, k in bootstrapped["available_node_types"].items()}
    reserve = {n: size for n, size in kinds.items() if RESERVE in size}
    assert set(reserve) == {"a10g_on_demand"}
    for request in (Resources(1, 1), Resources(2, 0.25)):
        (trial,) = request.bundles()
        (spot,) = chosen(bootstrapped, trial)
        assert spot in ("t4", "a10g")
        kind, bundle = reserve_request(request, {spot: "InsufficientInstanceCapacity"}, reserve)
        assert kind == "a10g_on_demand"
        assert chosen(bootstrapped, trial, bundle) == {spot: 1, "a10g_on_demand": 1}


def test_no_key_is_misspelt() -> None:
    """Ray passes unknown keys under ``provider`` and ``node_config`` over, or finds out on AWS."""
    content = yaml.safe_load(FILE.read_text())
    known = {"type", "region", "cache_stopped_nodes", "key_pair", "security_group"}
    assert set(content["provider"]) == known
    assert set(content["provider"]["key_pair"]) == {"key_name"}
    assert set(content["provider"]["security_group"]) == {"GroupName"}
    shape = boto3.Session(region_name=REGION).client("ec2").meta.service_model
    members = shape.operation_model("RunInstances").input_shape.members
    for kind in content["available_node_types"].values():
        assert set(kind["node_config"]) <= set(members)


def test_what_the_launcher_creates(bootstrapped: dict[str, Any], account: boto3.Session) -> None:
    types = {
        "head": "m6i.large",
        "t4": "g4dn.xlarge",
        "a10g": "g5.xlarge",
        "a10g_x4": "g5.12xlarge",
        "a10g_on_demand": "g5.xlarge",
    }
    at_full_price = ("head", "a10g_on_demand")
    group_ids = set()
    for kind, instance_type in types.items():
        instance = launch(bootstrapped, kind, account)
        assert instance.instance_type == instance_type
        assert instance.instance_lifecycle == (None if kind in at_full_price else "spot")
        profile = "labs-cluster-head" if kind == "head" else "labs-cluster-worker"
        assert instance.iam_instance_profile["Arn"].endswith(f"/{profile}")
        assert instance.key_name == "labs-cluster"
        assert instance.metadata_options["HttpTokens"] == "required"
        group_ids |= {group["GroupId"] for group in instance.security_groups}
    (group_id,) = group_ids
    group = account.resource("ec2").SecurityGroup(group_id)
    assert group.group_name == "labs-cluster"
    entrances = [
        (rule.get("FromPort"), rule.get("ToPort"), source["CidrIp"])
        for rule in group.ip_permissions
        for source in rule["IpRanges"]
    ]
    assert entrances == [(22, 22, OFFICE)]
    assert all(not rule.get("Ipv6Ranges") for rule in group.ip_permissions)
    members = [pair["GroupId"] for r in group.ip_permissions for pair in r["UserIdGroupPairs"]]
    assert members == [group_id]


def test_ray_leaves_no_group_and_no_role_of_its_own(
    bootstrapped: dict[str, Any], account: boto3.Session
) -> None:
    groups = {g.group_name for g in account.resource("ec2").security_groups.all()}
    assert groups <= {"default", "labs-cluster"}
    roles = {role["RoleName"] for role in account.client("iam").list_roles()["Roles"]}
    ours = {role for role in roles if not role.startswith("AWSServiceRole")}
    assert ours == {"labs-cluster-head", "labs-cluster-worker"}


def statements(account: boto3.Session, role: str) -> list[dict[str, Any]]:
    policy = account.client("iam").get_role_policy(RoleName=role, PolicyName="cluster")
    document = policy["PolicyDocument"]
    return (document if isinstance(document, dict) else json.loads(document))["Statement"]


def test_workers_reach_the_bucket_only(
    bootstrapped: dict[str, Any], account: boto3.Session
) -> None:
    for statement in statements(account, "labs-cluster-worker"):
        assert statement["Resource"] in ("arn:aws:s3:::results", "arn:aws:s3:::results/*")
        assert all(action.startswith("s3:") and "*" not in action for action in statement["Action"])
    head = statements(account, "labs-cluster-head")
    for statement in head:
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        ):
            assert action == "ec2:Describe*" or "*" not in action
    (starts,) = [
        s
        for s in head
        if s.get("Resource") == "arn:aws:ec2:*:*:instance/*" and s["Action"] == "ec2:RunInstances"
    ]
    assert starts["Condition"]["StringEquals"]["ec2:InstanceType"] == [
        "g4dn.xlarge", "g5.12xlarge", "g5.xlarge", "m6i.large"
    ]  # fmt: skip
    block = account.client("s3").get_public_access_block(Bucket="results")
    assert set(block["PublicAccessBlockConfiguration"].values()) == {True}


def test_nothing_but_ssh_is_open_and_the_token_is_kept() -> None:
    text = FILE.read_text()
    content = yaml.safe_load(text)
    starts = content["head_start_ray_commands"] + content["worker_start_ray_commands"]
    assert not any("0.0.0.0" in command for command in starts)
    assert any("--dashboard-host=127.0.0.1" in command for command in starts)
    assert content["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token" in content["setup_commands"]
    assert any("RAY_AUTH_MODE=token" in command for command in content["setup_commands"])
    assert re.search(r"AKIA|aws_secret|BEGIN .*KEY|[0-9a-f]{40}", text) is None


def test_every_node_has_the_pinned_versions() -> None:
    """uv installs the project under constraints.txt, which agrees with pyproject and with here."""
    content = yaml.safe_load(FILE.read_text())
    (install,) = [c for c in content["setup_commands"] if "uv pip install" in c]
    assert "--constraint ~/labs/constraints.txt --editable ~/labs[" in install
    pins = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    for text in importlib.metadata.requires("labs"):
        requirement = Requirement(text)
        extra = re.search(r'extra == "(\w+)"', text)
        if extra and extra[1] not in install:
            continue
        name = next(pin for pin in pins if pin.lower() == requirement.name.lower())
        assert pins[name] in requirement.specifier
        assert importlib.metadata.version(name).split("+")[0] == pins[name]
    mounted = [source for source in content["file_mounts"].values() if not source.startswith("~")]
    assert {"labs", "pyproject.toml", "constraints.txt"} <= set(mounted)
    assert all((ROOT / source).exists() for source in mounted)
