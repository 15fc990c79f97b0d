"""The account's preparation: made, looked at and removed, in a simulated account."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import botocore.exceptions as aws_exceptions
import pytest
from botocore.exceptions import ClientError
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from simulated_account import (
    FILE,
    OFFICE,
    bootstrap,
    command,
    launch,
    prepare_account,
    simulated_account,
)

from labs.cluster import aws
from labs.cluster.errors import aws_errors
from labs.cluster.file import read_names
from labs.runtime.errors import InputError

ROOT = Path(__file__).parent.parent.parent
MOVED = "198.51.100.0/24"
ALLOW_NOTHING = {"Effect": "Deny", "Action": "*", "Resource": "*"}
READS = ("Describe", "Get", "List", "Head")


@pytest.fixture
def account(tmp_path: Path) -> Iterator[boto3.Session]:
    with simulated_account(tmp_path) as session:
        yield session


def groups(account: boto3.Session) -> list[Any]:
    found = account.resource("ec2").security_groups.all()
    return [group for group in found if group.group_name != "default"]


def entrances(account: boto3.Session) -> list[str]:
    (group,) = groups(account)
    return [source["CidrIp"] for rule in group.ip_permissions for source in rule["IpRanges"]]


def snapshot(account: boto3.Session) -> dict[str, Any]:
    """Everything of the account that ``create`` touches."""
    s3, iam = account.client("s3"), account.client("iam")

    def setting(get: Callable[..., Any], bucket: str) -> Any:
        try:
            answer = get(Bucket=bucket)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    ours = [
        role["RoleName"]
        for role in iam.list_roles()["Roles"]
        if not role["RoleName"].startswith("AWSServiceRole")
    ]
    return {
        "buckets": {
            bucket["Name"]: (
                setting(s3.get_public_access_block, bucket["Name"]),
                setting(s3.get_bucket_lifecycle_configuration, bucket["Name"]),
            )
            for bucket in s3.list_buckets()["Buckets"]
        },
        "roles": {
            role: {
                name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
                for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
            }
            for role in ours
        },
        "profiles": {
            profile["InstanceProfileName"]: [role["RoleName"] for role in profile["Roles"]]
            for profile in iam.list_instance_profiles()["InstanceProfiles"]
        },
        "groups": {
            group.id: sorted(json.dumps(rule, sort_keys=True) for rule in group.ip_permissions)
            for group in groups(account)
        },
    }


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int | None, error: Exception) -> list[str]:
    """Let the change of this number fail, and only it; the names of all changes as they come."""
    made: list[str] = []
    call = botocore.client.BaseClient._make_api_call

    def make_api_call(client: Any, operation: str, parameters: Any) -> Any:
        if not operation.startswith(READS):
            made.append(operation)
            if len(made) - 1 == number:
                raise error
        return call(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", make_api_call)
    return made


def refusal(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "AnOperation")


def test_create_status_delete(account: boto3.Session, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_account()
    bootstrapped = bootstrap(fill_resources=False)
    assert command("create", "--bucket", "results", "--ssh-from", MOVED) == 0
    assert entrances(account) == [MOVED]  # the old address is out
    assert command("status") == 0
    instance = launch(bootstrapped, "a10g", account)
    assert command("status") == 1
    assert f"instance {instance.id} g5.xlarge running" in capsys.readouterr().out
    assert command("delete") == 2
    assert "ray down" in capsys.readouterr().err
    # As `ray down` does: terminated, not stopped, so that no disk is left either.
    provider = AWSNodeProvider(bootstrapped["provider"], "labs")
    provider.non_terminated_nodes({})
    provider.terminate_nodes([instance.id])
    instance.reload()
    assert instance.state["Name"] == "terminated"
    assert command("status") == 0
    assert command("delete") == 0
    assert groups(account) == []
    assert account.client("iam").list_instance_profiles()["InstanceProfiles"] == []
    assert account.client("s3").list_buckets()["Buckets"][0]["Name"] == "results"
    assert command("delete") == 0  # again, after a half-done one


# The results' bucket and the network that may log in


@pytest.mark.parametrize(
    ("given", "admitted"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        (" 198.51.100.23\n", "198.51.100.23/32"),
        ("198.51.100.0/24", "198.51.100.0/24"),
        ("198.51.100.64/255.255.255.192", "198.51.100.64/26"),
        ("129.132.0.0/16", "129.132.0.0/16"),
    ],
)
def test_valid_sources_of_ssh_in_every_form(
    account: boto3.Session, given: str, admitted: str
) -> None:
    assert command("create", "--bucket", "results", "--ssh-from", given) == 0
    assert entrances(account) == [admitted]


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("0.0.0.0/0", "too large a network"),
        ("128.0.0.0/1", "too large a network"),
        ("129.132.0.0/15", "too large a network"),
        ("203.0.113.7/33", "not a network"),
        ("203.0.113.256", "not a network"),
        ("home", "not a network"),
        ("", "not a network"),
        (
            "203.0.113.7/24",
            "use 203.0.113.7/32 for the address alone, or 203.0.113.0/24 for all 256",
        ),
        ("2001:db8::7", "IPv6"),
        ("::/0", "IPv6"),
        ("::ffff:203.0.113.7", "IPv6"),
        ("192.168.1.23", "not a public address"),
        ("10.0.0.0/16", "not a public address"),
        ("127.0.0.1", "not a public address"),
        ("0.0.0.0", "not a public address"),
        ("255.255.255.255", "not a public address"),
    ],
)
def test_invalid_sources_of_ssh_are_refused(
    network: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an account: nothing is asked, and nothing changes."""
    assert command("create", "--bucket", "results", "--ssh-from", network) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --ssh-from {network} ")
    assert reason in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("bucket", ["s3://results", "Results", "x", "a_b", "results-"])
def test_a_bucket_must_have_a_valid_name(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("create", "--bucket", bucket, "--ssh-from", OFFICE) == 2
    assert f"error: --bucket {bucket} is not a valid bucket name" in capsys.readouterr().err


def test_incomplete_uploads_expire_and_the_users_own_rules_stay(account: boto3.Session) -> None:
    s3 = account.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="results")
    mine = {
        "ID": "mine",
        "Status": "Enabled",
        "Filter": {"Prefix": "tmp/"},
        "Expiration": {"Days": 3},
    }
    s3.put_bucket_lifecycle_configuration(
        Bucket="results", LifecycleConfiguration={"Rules": [mine]}
    )
    for _ in range(2):  # the second time there is nothing to add
        prepare_account()
        rules = s3.get_bucket_lifecycle_configuration(Bucket="results")["Rules"]
        assert [rule["ID"] for rule in rules] == ["mine", "labs-incomplete-uploads"]
        assert rules[0] == mine
        assert rules[1]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
        assert rules[1]["Status"] == "Enabled"


@pytest.mark.parametrize("code", ["403", "301"])
def test_a_foreign_bucket_is_refused_before_anything_changes(
    account: boto3.Session, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    call = botocore.client.BaseClient._make_api_call

    def make_api_call(client: Any, operation: str, parameters: Any) -> Any:
        if operation == "HeadBucket":
            raise refusal(code)
        assert operation.startswith(READS)
        return call(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", make_api_call)
    assert command("create", "--bucket", "results", "--ssh-from", OFFICE) == 2


def test_the_service_role_of_an_instance_profile_is_not_taken_over(
    account: boto3.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    iam = account.client("iam")
    iam.create_role(RoleName="theirs", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="labs-cluster-worker")
    iam.add_role_to_instance_profile(InstanceProfileName="labs-cluster-worker", RoleName="theirs")
    before = snapshot(account)
    assert command("create", "--bucket", "results", "--ssh-from", OFFICE) == 2
    assert "has the role theirs" in capsys.readouterr().err
    assert snapshot(account) == before


# Failures


def test_a_failing_step_leaves_a_new_account_as_it_was(
    account: boto3.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each change that ``create`` makes fails once, whichever it is."""
    before = snapshot(account)
    for number in range(100):
        with pytest.MonkeyPatch.context() as patch:
            made = fail_at(patch, number, refusal("AccessDenied"))
            status = command("create", "--bucket", "results", "--ssh-from", OFFICE)
        if status == 0:  # there was no change of this number: all have had their turn
            break
        assert status == 2, made
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "AccessDenied" in said
        assert "could not be undone" not in said
        assert snapshot(account) == before, made
    assert len(made) == number == 14
    assert made[0] == "CreateBucket"
    assert made[-1] == "CreateServiceLinkedRole"


def test_a_failing_step_leaves_an_account_in_use_as_it_was(account: boto3.Session) -> None:
    """Another address and another bucket: the old policies and entrances come back."""
    prepare_account()
    (group,) = groups(account)
    group.authorize_ingress(  # somebody has added a rule by hand
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 443,
                "ToPort": 443,
                "IpRanges": [{"CidrIp": "192.0.2.0/24", "Description": "the lab"}],
                "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/64"}],
            }
        ]
    )
    before = snapshot(account)
    changes = 0
    for number in range(100):
        with pytest.MonkeyPatch.context() as patch:
            made = fail_at(patch, number, aws_exceptions.ReadTimeoutError(endpoint_url="x"))
            status = command("create", "--bucket", "more", "--ssh-from", MOVED)
        if status == 0:
            break
        changes += 1
        assert status == 2
        assert snapshot(account) == before, made
    assert changes == len(made) == 8
    assert entrances(account) == [MOVED]


def test_ssh_rules_change_without_locking_anybody_out(
    account: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_account()
    seen = []
    call = botocore.client.BaseClient._make_api_call

    def make_api_call(client: Any, operation: str, parameters: Any) -> Any:
        answer = call(client, operation, parameters)
        if "SecurityGroupIngress" in operation:
            described = call(
                client, "DescribeSecurityGroups", {"GroupIds": [parameters["GroupId"]]}
            )
            rules = described["SecurityGroups"][0]["IpPermissions"]
            seen.append({source["CidrIp"] for rule in rules for source in rule["IpRanges"]})
        return answer

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", make_api_call)
    assert command("create", "--bucket", "results", "--ssh-from", MOVED) == 0
    assert seen == [{OFFICE, MOVED}, {MOVED}]


def test_what_cannot_be_undone_is_named(
    account: boto3.Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = botocore.client.BaseClient._make_api_call

    def make_api_call(client: Any, operation: str, parameters: Any) -> Any:
        if operation in ("CreateInstanceProfile", "DeleteRole"):
            raise refusal("Throttling")
        return call(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", make_api_call)
    assert command("create", "--bucket", "results", "--ssh-from", OFFICE) == 2
    assert "could not be undone: role labs-cluster-worker\n" in capsys.readouterr().err
    monkeypatch.undo()
    assert account.client("s3").list_buckets()["Buckets"] == []  # the others are put back


ERRORS: list[tuple[Exception, str]] = [
    (aws_exceptions.NoCredentialsError(), "aws configure"),
    (aws_exceptions.PartialCredentialsError(provider="env", cred_var="x"), "aws configure"),
    (aws_exceptions.CredentialRetrievalError(provider="p", error_msg="m"), "aws configure"),
    (aws_exceptions.UnauthorizedSSOTokenError(), "aws sso login"),
    (aws_exceptions.TokenRetrievalError(provider="sso", error_msg="old"), "aws sso login"),
    (aws_exceptions.NoRegionError(), "region"),
    (aws_exceptions.EndpointConnectionError(endpoint_url="https://x"), "network"),
    (aws_exceptions.ConnectTimeoutError(endpoint_url="https://x"), "network"),
    (aws_exceptions.ReadTimeoutError(endpoint_url="https://x"), "network"),
    (aws_exceptions.SSLError(endpoint_url="https://x", error="old"), "AWS_CA_BUNDLE"),
    (aws_exceptions.ProxyConnectionError(proxy_url="http://x"), "HTTPS_PROXY"),
    (aws_exceptions.ParamValidationError(report="a:\n b\n c"), "cluster file"),
    (refusal("ExpiredToken", "The token\nhas expired."), "aws sso login"),
    (refusal("RequestExpired"), "aws sso login"),
    (refusal("InvalidClientTokenId"), "aws configure"),
    (refusal("AuthFailure"), "aws configure"),
    (refusal("SignatureDoesNotMatch"), "aws configure"),
    (refusal("AccessDenied"), "may use EC2"),
    (refusal("UnauthorizedOperation", "No. Encoded authorization failure message: x1"), "may use"),
    (refusal("OptInRequired"), "region"),
    (refusal("Throttling"), "try again"),
    (refusal("RequestLimitExceeded"), "try again"),
    (refusal("InternalError"), "try again later"),
    (refusal("NeverSeenBefore", "Something new"), "Something new"),
    (ClientError({}, "Silent"), "Silent"),
    (OSError("no such certificate"), "no such certificate"),
    (boto3.exceptions.Boto3Error("of boto3"), "of boto3"),
]


@pytest.mark.parametrize(("error", "advice"), ERRORS, ids=lambda e: type(e).__name__)
def test_every_error_of_aws_is_one_sentence(error: Exception, advice: str) -> None:
    with pytest.raises(InputError) as refused, aws_errors():
        raise error
    said = str(refused.value)
    assert said.startswith("AWS ")
    assert advice in said
    assert "\n" not in said
    assert "Encoded" not in said


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["delete"], ["create", "--bucket", "results", "--ssh-from", OFFICE]],
    ids=lambda a: a[0],
)
def test_an_error_of_aws_is_status_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", fail_with_expired_token)
    assert command(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: AWS refused AnOperation (ExpiredToken)")
    assert said.err.count("\n") == 1


def fail_with_expired_token(*_: Any) -> None:
    raise refusal("ExpiredToken")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["labs.cluster.aws", "labs.runtime.aws"])
def test_without_credentials_from_a_shell(module: str, tmp_path: Path) -> None:
    environment = {"PATH": "", "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-m", module, "status"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: AWS cannot be used: Unable to locate credentials")
    assert done.stderr.count("\n") == 1


def test_a_fault_of_the_program_is_not_status_1(
    account: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 1 says that something costs money."""
    monkeypatch.setattr(aws, "Account", lambda names: 1 / 0)
    assert command("status") == 70


# What is left behind


def loose_volume(account: boto3.Session, tags: dict[str, str]) -> str:
    described = [{"Key": key, "Value": value} for key, value in tags.items()]
    volume = account.resource("ec2").create_volume(
        AvailabilityZone="us-west-2a",
        Size=8,
        TagSpecifications=[{"ResourceType": "volume", "Tags": described}] if tags else [],
    )
    return str(volume.id)


def test_only_this_clusters_loose_volumes_count(
    account: boto3.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {
        loose_volume(account, {}),
        loose_volume(account, {"ray-cluster-name": "another"}),
        loose_volume(account, {"Name": "labs"}),
    }
    assert command("status") == 0
    ours = loose_volume(account, {"ray-cluster-name": "labs"})
    assert command("status") == 1
    assert f"volume {ours} 8 GiB" in capsys.readouterr().out
    assert command("delete") == 0
    assert others <= {volume.id for volume in account.resource("ec2").volumes.all()}
    assert command("status") == 0


def test_the_disks_of_instances_are_tagged(account: boto3.Session) -> None:
    """By the cluster's file: Ray itself tags the instances only."""
    prepare_account()
    bootstrapped = bootstrap(fill_resources=False)
    for kind in ("head", "t4"):
        instance = launch(bootstrapped, kind, account)
        for volume in instance.volumes.all():
            assert {"Key": "ray-cluster-name", "Value": "labs"} in volume.tags


def test_key_pairs_and_their_files_are_deleted(account: boto3.Session, tmp_path: Path) -> None:
    ec2 = account.client("ec2")
    ssh = tmp_path / ".ssh"
    for name in ("mine", "labs-cluster-2", "labs-cluster_key-x"):
        ec2.create_key_pair(KeyName=name)
    for number in range(2):  # delete and create again: Ray finds a fresh start
        prepare_account()
        bootstrap(fill_resources=False)
        assert (ssh / "labs-cluster.pem").is_file()
        if number == 0:  # the file is lost: Ray makes a second pair
            (ssh / "labs-cluster.pem").unlink()
            bootstrap(fill_resources=False)
            assert (ssh / "labs-cluster_key-1.pem").is_file()
        (ssh / "other.pem").touch()
        assert command("delete") == 0
        assert [path.name for path in ssh.iterdir()] == ["other.pem"]
        left = {pair["KeyName"] for pair in ec2.describe_key_pairs()["KeyPairs"]}
        assert left == {"mine", "labs-cluster-2", "labs-cluster_key-x"}


def test_a_role_with_policies_of_others_is_not_half_deleted(
    account: boto3.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_account()
    account.client("iam").put_role_policy(
        RoleName="labs-cluster-head",
        PolicyName="theirs",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [ALLOW_NOTHING]}),
    )
    before = snapshot(account)
    assert command("delete") == 2
    assert "role labs-cluster-head has the policy theirs" in capsys.readouterr().err
    assert snapshot(account) == before


def test_delete_says_what_is_left(
    account: boto3.Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_account()
    monkeypatch.setattr(aws.Account, "_delete_profile", lambda *_: None)
    assert command("delete") == 2
    assert "instance profile labs-cluster-head" in capsys.readouterr().err


# The cluster's file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cluster_name: x\nprovider: {region: us-west-2}\n", "'available_node_types' is missing"),
        (FILE.read_text().replace("region: us-west-2", "region:"), "the region is not a name"),
        ("- 1\n", "not complete"),
        ("", "not complete"),
        ("a: [\n", "not a YAML file"),
    ],
)
def test_a_file_that_lacks_something_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match="^`file` .*c.yaml") as refused:
        read_names(tmp_path / "c.yaml")
    assert reason in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        aws.main(["status", "--file", str(tmp_path / "none.yaml")])
    assert capsys.readouterr().err == (
        f"error: --file {tmp_path}/none.yaml cannot be read: No such file or directory\n"
    )
