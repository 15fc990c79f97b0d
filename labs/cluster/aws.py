"""What ``cluster.yaml`` needs in an AWS account beside instances: made, looked at, and removed.

    python -m labs.cluster.aws create --bucket NAME --ssh-from 203.0.113.7/32
    python -m labs.cluster.aws status
    python -m labs.cluster.aws delete

``ray up`` alone would let the whole world try to log in, and give the cluster every right on EC2 and
S3. The names of everything come from the cluster's file, so that there is one place to change them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
import yaml

from labs.runtime.console import say
from labs.runtime.errors import InputError

CLUSTER_TAG = "ray-cluster-name"
"""Ray tags every instance with it."""


@dataclass(frozen=True)
class Names:
    """What a cluster's file names."""

    region: str
    cluster: str
    group: str
    key_pair: str
    head_profile: str
    worker_profile: str
    instance_types: tuple[str, ...]


@dataclass(frozen=True)
class Create:
    """Make the security group, the instance profiles and the bucket, or bring them up to date."""

    bucket: str
    """S3 bucket of the results; made if there is none of this name."""

    ssh_from: str
    """Addresses that may log in, for instance your own: 203.0.113.7/32."""

    file: Path = Path("cluster.yaml")
    """The cluster's file."""

    def __post_init__(self) -> None:
        try:
            network = ipaddress.ip_network(self.ssh_from)
        except ValueError:
            raise InputError(
                f"--ssh-from {self.ssh_from} is no network: use one such as 203.0.113.7/32"
            ) from None
        if network.version != 4 or network.prefixlen < 8:
            raise InputError(
                f"--ssh-from {self.ssh_from} lets strangers in: use one such as 203.0.113.7/32"
            )


@dataclass(frozen=True)
class Status:
    """List what costs money. Exit status 1 where anything does beside the bucket."""

    file: Path = Path("cluster.yaml")
    """The cluster's file."""


@dataclass(frozen=True)
class Delete:
    """Remove what ``create`` and ``ray up`` made; the bucket, with the results, stays."""

    file: Path = Path("cluster.yaml")
    """The cluster's file."""


def read_names(file: Path) -> Names:
    """What the cluster's file calls everything.

    Raises:
        InputError: it cannot be read, or does not name something.
    """
    try:
        content = yaml.safe_load(file.read_text())
        provider, types = content["provider"], content["available_node_types"]
        configs = {name: kind["node_config"] for name, kind in types.items()}
        head = configs[content["head_node_type"]]
        workers = {c["IamInstanceProfile"]["Name"] for c in configs.values() if c is not head}
        (worker,) = workers
        return Names(
            region=provider["region"],
            cluster=content["cluster_name"],
            group=provider["security_group"]["GroupName"],
            key_pair=provider["key_pair"]["key_name"],
            head_profile=head["IamInstanceProfile"]["Name"],
            worker_profile=worker,
            instance_types=tuple(sorted({c["InstanceType"] for c in configs.values()})),
        )
    except OSError as error:
        raise InputError(f"--file {file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"--file {file} does not say all that is needed: compare it with the project's"
            f" cluster.yaml ({error})"
        ) from None


def create(options: Create) -> None:
    """Make everything; safe to run again, for instance after a change of address or of the file."""
    import boto3

    names = read_names(options.file)
    session = boto3.Session(region_name=names.region)
    _create_bucket(session.client("s3"), options.bucket, names.region)
    iam = session.client("iam")
    _allow_spot(iam)
    worker_role = _create_profile(iam, names.worker_profile, _bucket_policy(options.bucket))
    head_policy = _bucket_policy(options.bucket) + _head_policy(names, worker_role)
    _create_profile(iam, names.head_profile, head_policy)
    for group in _create_groups(session.resource("ec2"), names):
        _admit(group, options.ssh_from)
    say(
        f"ready in {names.region}: bucket {options.bucket}, security group {names.group} (SSH from"
        f" {options.ssh_from}), instance profiles {names.head_profile} and {names.worker_profile}"
    )


def running(session: Any, names: Names) -> Iterator[str]:
    """One line for everything of the cluster that costs money now."""
    ec2 = session.resource("ec2")
    of_cluster = [{"Name": f"tag:{CLUSTER_TAG}", "Values": [names.cluster]}]
    for instance in ec2.instances.filter(Filters=of_cluster):
        state = instance.state["Name"]
        if state != "terminated":
            yield f"instance {instance.id} {instance.instance_type} {state}"
    for volume in ec2.volumes.filter(Filters=[{"Name": "status", "Values": ["available"]}]):
        yield f"volume {volume.id} {volume.size} GiB, attached to nothing"


def status(options: Status) -> int:
    """Print what costs money; 1 where anything does."""
    import boto3

    names = read_names(options.file)
    lines = list(running(boto3.Session(region_name=names.region), names))
    for line in lines:
        say(line)
    if not lines:
        say(f"no instance of cluster {names.cluster} and no loose volume in {names.region}")
    return 1 if lines else 0


def delete(options: Delete) -> None:
    """Remove the group, the profiles with their roles, and the key pair.

    Raises:
        InputError: instances are still there.
    """
    import boto3

    names = read_names(options.file)
    session = boto3.Session(region_name=names.region)
    left = [line for line in running(session, names) if line.startswith("instance")]
    if left:
        raise InputError(f"{left[0]}: run ray down {options.file} first")
    ec2, iam = session.resource("ec2"), session.client("iam")
    for group in _groups(ec2, names):
        group.delete()
    ec2.meta.client.delete_key_pair(KeyName=names.key_pair)
    for profile in (names.head_profile, names.worker_profile):
        _delete_profile(iam, profile)
    say(f"cluster {names.cluster} has left nothing in {names.region} but the bucket")


def _bucket_policy(bucket: str) -> list[dict[str, Any]]:
    return [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": f"arn:aws:s3:::{bucket}",
        },
        {
            "Effect": "Allow",
            "Action": [
                "s3:GetObject",
                "s3:PutObject",
                "s3:DeleteObject",
                "s3:AbortMultipartUpload",
            ],
            "Resource": f"arn:aws:s3:::{bucket}/*",
        },
    ]


def _head_policy(names: Names, worker_role: str) -> list[dict[str, Any]]:
    """Start instances of the file's types, and end or tag this cluster's own."""
    here = {"aws:RequestedRegion": names.region}
    own = {f"ec2:ResourceTag/{CLUSTER_TAG}": names.cluster}
    return [
        {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "NotResource": "arn:aws:ec2:*:*:instance/*",
            "Condition": {"StringEquals": here},
        },
        {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "Resource": "arn:aws:ec2:*:*:instance/*",
            "Condition": {"StringEquals": {**here, "ec2:InstanceType": names.instance_types}},
        },
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": "*",
            "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        },
        {
            "Effect": "Allow",
            "Action": ["ec2:TerminateInstances", "ec2:CreateTags", "ec2:DeleteTags"],
            "Resource": "arn:aws:ec2:*:*:instance/*",
            "Condition": {"StringEquals": own},
        },
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": worker_role,
            "Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        },
        {
            "Effect": "Allow",
            "Action": "ssm:GetParameters",  # RunInstances looks the image up with them
            "Resource": "arn:aws:ssm:*:*:parameter/aws/service/*",
        },
    ]


def _create_bucket(s3: Any, bucket: str, region: str) -> None:
    where = {} if region == "us-east-1" else {"LocationConstraint": region}
    settings = {"CreateBucketConfiguration": where} if where else {}
    try:
        s3.create_bucket(Bucket=bucket, **settings)
    except s3.exceptions.BucketAlreadyOwnedByYou:
        pass
    except s3.exceptions.BucketAlreadyExists:
        raise InputError(f"--bucket {bucket} belongs to somebody else: choose another") from None
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(closed, True)
    )


def _allow_spot(iam: Any) -> None:
    """The role under which EC2 starts spot instances: an account's first user has to make it."""
    there = iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException
    with contextlib.suppress(*there):
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")


def _create_profile(iam: Any, name: str, policy: list[dict[str, Any]]) -> str:
    """An instance profile with a role of the same name; returns the role's ARN."""
    trusted = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}
    trust = {"Version": "2012-10-17", "Statement": [{**trusted, "Action": "sts:AssumeRole"}]}
    for step, arguments in (
        (iam.create_role, {"RoleName": name, "AssumeRolePolicyDocument": json.dumps(trust)}),
        (iam.create_instance_profile, {"InstanceProfileName": name}),
    ):
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            step(**arguments)
    with contextlib.suppress(iam.exceptions.LimitExceededException):  # a profile has one role: ours
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    document = json.dumps({"Version": "2012-10-17", "Statement": policy})
    iam.put_role_policy(RoleName=name, PolicyName="cluster", PolicyDocument=document)
    return iam.get_role(RoleName=name)["Role"]["Arn"]


def _delete_profile(iam: Any, name: str) -> None:
    for step, arguments in (
        (iam.remove_role_from_instance_profile, {"InstanceProfileName": name, "RoleName": name}),
        (iam.delete_instance_profile, {"InstanceProfileName": name}),
        (iam.delete_role_policy, {"RoleName": name, "PolicyName": "cluster"}),
        (iam.delete_role, {"RoleName": name}),
    ):
        with contextlib.suppress(iam.exceptions.NoSuchEntityException):
            step(**arguments)


def _groups(ec2: Any, names: Names) -> list[Any]:
    return list(
        ec2.security_groups.filter(Filters=[{"Name": "group-name", "Values": [names.group]}])
    )


def _create_groups(ec2: Any, names: Names) -> list[Any]:
    """One group in each network (VPC) with public subnets: Ray chooses among them."""
    networks = {subnet.vpc_id for subnet in ec2.subnets.all() if subnet.map_public_ip_on_launch}
    if not networks:
        raise InputError(
            f"no public subnet in {names.region}: make the default network with"
            " aws ec2 create-default-vpc"
        )
    for network in networks - {group.vpc_id for group in _groups(ec2, names)}:
        ec2.create_security_group(
            GroupName=names.group, Description=f"Ray cluster {names.cluster}", VpcId=network
        )
    return _groups(ec2, names)


def _admit(group: Any, ssh_from: str) -> None:
    """The group's only rules: everything among its members, and SSH from one network."""
    if group.ip_permissions:
        group.revoke_ingress(IpPermissions=group.ip_permissions)
    group.authorize_ingress(
        IpPermissions=[
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group.id}]},
            {
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                "IpRanges": [{"CidrIp": ssh_from}],
            },
        ]
    )
    group.load()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    try:
        chosen = tyro.cli(Create | Status | Delete, args=arguments, description=__doc__)
        return {Create: create, Status: status, Delete: delete}[type(chosen)](chosen) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
