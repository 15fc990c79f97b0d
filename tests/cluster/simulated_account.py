"""A simulated AWS account, and Ray's own code at work in it. Nothing leaves this machine."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private import util
from ray.autoscaler._private.aws import config as ray_aws
from ray.autoscaler._private.aws import utils as ray_aws_utils
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from labs.cluster import aws

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "cluster.yaml"
REGION = "us-west-2"
OFFICE = "203.0.113.7/32"
REAL_SESSION = boto3.Session


@functools.cache
def kept_session(**options: str) -> boto3.Session:
    """One session, and one client of each kind: to make three takes boto3 half a second of work."""
    session = REAL_SESSION(**options)
    session.client = functools.cache(session.client)  # type: ignore[method-assign]
    session.resource = functools.cache(session.resource)  # type: ignore[method-assign]
    return session


@contextlib.contextmanager
def simulated_account(home: Path) -> Iterator[boto3.Session]:
    """An empty AWS account; SSH keys go to ``home``."""
    caches = [
        function
        for module in (ray_aws, ray_aws_utils)
        for function in vars(module).values()
        if hasattr(function, "cache_clear")
    ]
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.delenv("AWS_PROFILE", raising=False)
        patch.setenv("HOME", str(home))
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 1,300 of them, in each account
        patch.setattr(boto3, "Session", kept_session)
        for function in caches:  # Ray keeps clients, and what it learnt from them
            function.cache_clear()
        yield boto3.Session(region_name=REGION)
        for function in caches:
            function.cache_clear()


def command(*arguments: str) -> int:
    """The exit status of ``python -m labs.cluster.aws`` with these arguments."""
    with pytest.raises(SystemExit) as ended:
        aws.main([*arguments, "--file", str(FILE)])
    return ended.value.code


def prepare_account() -> None:
    """What the docs have the user do before the first ``ray up``."""
    assert command("create", "--bucket", "results", "--ssh-from", OFFICE) == 0


def bootstrap(fill_resources: bool) -> dict[str, Any]:
    """The cluster's configuration as ``ray up`` completes it, in an account that is prepared.

    Args:
        fill_resources: look up what each instance type has, which takes moto ten seconds.
    """
    config = util.prepare_config(yaml.safe_load(FILE.read_text()))
    if fill_resources:
        config = AWSNodeProvider.fillout_available_node_types_resources(config)
        util.validate_config(config)
    return AWSNodeProvider.bootstrap_config(config)


def launch(config: dict[str, Any], kind: str, account: boto3.Session) -> Any:
    """Start one node of a kind with Ray's own code; the instance."""
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    node_config = dict(config["available_node_types"][kind]["node_config"])
    is_head = kind == config["head_node_type"]
    tags = {
        TAG_RAY_CLUSTER_NAME: config["cluster_name"],
        TAG_RAY_NODE_KIND: "head" if is_head else "worker",
        TAG_RAY_USER_NODE_TYPE: kind,
    }
    provider.create_node(node_config, tags, 1)
    (node,) = provider.non_terminated_nodes({TAG_RAY_USER_NODE_TYPE: kind})
    return account.resource("ec2").Instance(node)
