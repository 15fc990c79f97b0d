"""The account's preparation: made, looked at and removed, in a simulated account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from simulated_account import FILE, bootstrap, launch, prepare_account, simulated_account

from labs.cluster import aws


@pytest.fixture
def account(tmp_path: Path) -> Iterator[boto3.Session]:
    with simulated_account(tmp_path) as session:
        yield session


def test_create_status_delete(account: boto3.Session, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_account()
    bootstrapped = bootstrap(fill_resources=False)
    file = ["--file", str(FILE)]
    moved = "198.51.100.0/24"
    assert aws.main(["create", "--bucket", "results", "--ssh-from", moved, *file]) == 0
    (group,) = [
        g for g in account.resource("ec2").security_groups.all() if g.group_name != "default"
    ]
    sources = [source["CidrIp"] for rule in group.ip_permissions for source in rule["IpRanges"]]
    assert sources == [moved]  # the old address is out
    assert aws.main(["status", *file]) == 0
    instance = launch(bootstrapped, "a10g", account)
    assert aws.main(["status", *file]) == 1
    assert f"instance {instance.id} g5.xlarge running" in capsys.readouterr().out
    assert aws.main(["delete", *file]) == 2
    assert "ray down" in capsys.readouterr().err
    # As `ray down` does: terminated, not stopped, so that no disk is left either.
    provider = AWSNodeProvider(bootstrapped["provider"], "labs")
    provider.non_terminated_nodes({})
    provider.terminate_nodes([instance.id])
    instance.reload()
    assert instance.state["Name"] == "terminated"
    assert aws.main(["status", *file]) == 0
    assert aws.main(["delete", *file]) == 0
    assert {g.group_name for g in account.resource("ec2").security_groups.all()} == {"default"}
    assert account.client("iam").list_instance_profiles()["InstanceProfiles"] == []
    assert account.client("s3").list_buckets()["Buckets"][0]["Name"] == "results"
    assert aws.main(["delete", *file]) == 0  # again, after a half-done one


@pytest.mark.parametrize("network", ["0.0.0.0/0", "203.0.113.7/33", "home"])
def test_ssh_from_everywhere_is_refused(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert aws.main(["create", "--bucket", "results", "--ssh-from", network]) == 2
    assert "203.0.113.7/32" in capsys.readouterr().err


def test_a_file_without_profiles_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("cluster_name: x\nprovider: {region: us-west-2}\n")
    assert aws.main(["status", "--file", str(tmp_path / "c.yaml")]) == 2
    assert aws.main(["status", "--file", str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err
