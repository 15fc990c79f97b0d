"""What a cluster needs in an AWS account beside instances: create, list and delete it.

All conditions are checked before the account is changed. If a step fails, the earlier ones are undone.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labs.cluster.changes import Changes
from labs.cluster.file import Names
from labs.cluster.ingress import set_ingress
from labs.cluster.permissions import (
    CLUSTER_TAG,
    Statement,
    bucket_statements,
    head_statements,
)
from labs.runtime.errors import InputError

POLICY = "cluster"
"""Name of the policy of each of the two roles."""

LIFECYCLE_RULE = {
    "ID": "labs-incomplete-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}
"""Parts of an interrupted upload cost money, and no listing shows them."""

BUCKET_CLOSED = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)


class Account:
    """The AWS account and region of a cluster.

    Args:
        names: the names in the cluster file.
    """

    def __init__(self, names: Names) -> None:
        import boto3

        session = boto3.Session(region_name=names.region)
        self.names = names
        self.ec2 = session.resource("ec2")
        self.iam = session.client("iam")
        self.s3 = session.client("s3")

    # List

    def costs(self) -> list[str]:
        """One line for every instance and every unattached disk of the cluster."""
        lines = []
        for instance in self.ec2.instances.filter(Filters=self._tagged()):
            state = instance.state["Name"]
            if state != "terminated":
                lines.append(f"instance {instance.id} {instance.instance_type} {state}")
        for volume in self._loose_volumes():
            lines.append(f"volume {volume.id} {volume.size} GiB, not attached")
        return lines

    def leftovers(self) -> list[str]:
        """One line for everything that exists of the cluster, except the bucket."""
        profiles = (self.names.head_profile, self.names.worker_profile)
        return [
            *self.costs(),
            *(f"security group {group.id}" for group in self._groups()),
            *(f"key pair {name}" for name in self._key_pairs()),
            *(f"instance profile {name}" for name in profiles if self._profile(name)),
            *(f"role {name}" for name in profiles if self._role(name)),
        ]

    def _tagged(self) -> list[dict[str, Any]]:
        return [{"Name": f"tag:{CLUSTER_TAG}", "Values": [self.names.cluster]}]

    def _loose_volumes(self) -> list[Any]:
        """Unattached disks of this cluster, but not those of others in the region."""
        loose = {"Name": "status", "Values": ["available"]}
        return list(self.ec2.volumes.filter(Filters=[*self._tagged(), loose]))

    def _groups(self) -> list[Any]:
        named = {"Name": "group-name", "Values": [self.names.group]}
        return list(self.ec2.security_groups.filter(Filters=[named]))

    def _key_pairs(self) -> list[str]:
        """Ray's key pairs; it creates ``NAME_key-1`` and so on if it has lost the key of ``NAME``."""
        pattern = re.compile(rf"{re.escape(self.names.key_pair)}(_key-\d+)?")
        found = self.ec2.meta.client.describe_key_pairs()["KeyPairs"]
        return [pair["KeyName"] for pair in found if pattern.fullmatch(pair["KeyName"])]

    def _profile(self, name: str) -> Any:
        with contextlib.suppress(self.iam.exceptions.NoSuchEntityException):
            return self.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        return None

    def _role(self, name: str) -> Any:
        with contextlib.suppress(self.iam.exceptions.NoSuchEntityException):
            return self.iam.get_role(RoleName=name)["Role"]
        return None

    def _networks(self) -> set[str]:
        """Networks (VPCs) with public subnets, of which Ray chooses one."""
        return {s.vpc_id for s in self.ec2.subnets.all() if s.map_public_ip_on_launch}

    # Create

    def create(self, bucket: str, ssh_from: str) -> None:
        """Create or update the bucket, the security groups and the instance profiles.

        Args:
            bucket: name of the bucket for results.
            ssh_from: network that may log in, in CIDR form.

        Raises:
            InputError: it is not possible; then nothing has changed.
        """
        exists = self._check_before_create(bucket)
        with Changes() as changes:
            self._create_bucket(changes, bucket, exists)
            worker_role = self._create_profile(
                changes, self.names.worker_profile, bucket_statements(bucket)
            )
            head = bucket_statements(bucket) + head_statements(self.names, worker_role)
            self._create_profile(changes, self.names.head_profile, head)
            for group in self._create_groups(changes):
                set_ingress(changes, group, ssh_from)
            self._allow_spot()  # last: it is for the whole account, and is not undone

    def _check_before_create(self, bucket: str) -> bool:
        """Whether the bucket exists; raises InputError if a step of ``create`` would fail."""
        if not self._networks():
            raise InputError(
                f"there is no public subnet in {self.names.region}: create the default network with"
                " `aws ec2 create-default-vpc`"
            )
        for name in (self.names.head_profile, self.names.worker_profile):
            profile = self._profile(name)
            foreign = [r["RoleName"] for r in (profile or {}).get("Roles", [])]
            if foreign not in ([], [name]):
                raise InputError(
                    f"the instance profile {name} has the role {foreign[0]}, which does not belong to"
                    " this cluster: choose another name in the cluster file"
                )
        return self._owns_bucket(bucket)

    def _owns_bucket(self, bucket: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self.s3.head_bucket(Bucket=bucket)
        except ClientError as error:  # the response to HEAD has no body, and only the HTTP status
            code = error.response["Error"]["Code"]
            if code in ("404", "NoSuchBucket"):
                return False
            if code in ("403", "301"):
                raise InputError(
                    f"`bucket` {bucket} belongs to somebody else: choose another name"
                ) from None
            raise
        return True

    def _create_bucket(self, changes: Changes, bucket: str, exists: bool) -> None:
        region = self.names.region
        if not exists:
            where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            try:
                self.s3.create_bucket(Bucket=bucket, **({} if region == "us-east-1" else where))
            except self.s3.exceptions.BucketAlreadyExists:
                raise InputError(
                    f"`bucket` {bucket} belongs to somebody else: choose another name"
                ) from None
            changes.done(f"bucket {bucket}", lambda: self.s3.delete_bucket(Bucket=bucket))
        before = self._bucket_setting(self.s3.get_public_access_block, bucket)
        self.s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=BUCKET_CLOSED)
        changes.done(
            f"public access to bucket {bucket}",
            lambda: (
                self.s3.put_public_access_block(Bucket=bucket, **before)
                if before
                else self.s3.delete_public_access_block(Bucket=bucket)
            ),
        )
        self._expire_incomplete_uploads(changes, bucket)

    def _expire_incomplete_uploads(self, changes: Changes, bucket: str) -> None:
        """Add our rule to the bucket's lifecycle; other rules are kept."""
        before = self._bucket_setting(self.s3.get_bucket_lifecycle_configuration, bucket)
        rules = before.get("Rules", [])
        if any(rule.get("ID") == LIFECYCLE_RULE["ID"] for rule in rules):
            return
        rest = {key: value for key, value in before.items() if key != "Rules"}

        def put(rules: list[Any]) -> None:
            self.s3.put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": rules}, **rest
            )

        put([*rules, LIFECYCLE_RULE])
        changes.done(
            f"lifecycle of bucket {bucket}",
            lambda: put(rules) if rules else self.s3.delete_bucket_lifecycle(Bucket=bucket),
        )

    def _bucket_setting(self, get: Callable[..., Any], bucket: str) -> dict[str, Any]:
        """A bucket's setting in the form that the matching ``put`` takes; empty if there is none."""
        from botocore.exceptions import ClientError

        try:
            answer = get(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"].startswith("NoSuch"):
                return {}
            raise
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    def _create_profile(self, changes: Changes, name: str, statements: list[Statement]) -> str:
        """Create an instance profile and a role with the same name; returns the role's ARN."""
        trusted = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}
        trust = {"Version": "2012-10-17", "Statement": [{**trusted, "Action": "sts:AssumeRole"}]}
        role = self._role(name)
        if role is None:
            role = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))[
                "Role"
            ]
            changes.done(f"role {name}", lambda: self.iam.delete_role(RoleName=name))
        self._put_policy(changes, name, statements)
        profile = self._profile(name)
        if profile is None:
            profile = self.iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
            changes.done(
                f"instance profile {name}",
                lambda: self.iam.delete_instance_profile(InstanceProfileName=name),
            )
        if not profile["Roles"]:
            both = {"InstanceProfileName": name, "RoleName": name}
            self.iam.add_role_to_instance_profile(**both)
            changes.done(
                f"role of instance profile {name}",
                lambda: self.iam.remove_role_from_instance_profile(**both),
            )
        return str(role["Arn"])

    def _put_policy(self, changes: Changes, role: str, statements: list[Statement]) -> None:
        policy = {"RoleName": role, "PolicyName": POLICY}
        before = None
        with contextlib.suppress(self.iam.exceptions.NoSuchEntityException):
            before = self.iam.get_role_policy(**policy)["PolicyDocument"]
        document = {"Version": "2012-10-17", "Statement": statements}
        self.iam.put_role_policy(**policy, PolicyDocument=json.dumps(document))
        changes.done(
            f"policy of role {role}",
            lambda: (
                self.iam.put_role_policy(**policy, PolicyDocument=json.dumps(before))
                if before
                else self.iam.delete_role_policy(**policy)
            ),
        )

    def _create_groups(self, changes: Changes) -> list[Any]:
        """Create a group in each network with public subnets."""
        for network in self._networks() - {group.vpc_id for group in self._groups()}:
            group = self.ec2.create_security_group(
                GroupName=self.names.group,
                Description=f"Ray cluster {self.names.cluster}",
                VpcId=network,
            )
            changes.done(f"security group {group.id}", group.delete)
        return self._groups()

    def _allow_spot(self) -> None:
        """Create the role for spot instances, which the first user of an account needs."""
        exceptions = self.iam.exceptions
        there = exceptions.InvalidInputException, exceptions.EntityAlreadyExistsException
        with contextlib.suppress(*there):
            self.iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")

    # Delete

    def delete(self) -> None:
        """Delete everything except the bucket. It can be repeated.

        Raises:
            InputError: something is in use; then nothing has changed.
        """
        self._check_before_delete()
        for volume in self._loose_volumes():
            volume.delete()
        for group in self._groups():
            group.delete()
        for name in self._key_pairs():
            self.ec2.meta.client.delete_key_pair(KeyName=name)
            # With only the file, Ray would think that the key is lost and create NAME_key-1.
            (Path.home() / ".ssh" / f"{name}.pem").unlink(missing_ok=True)
        for name in (self.names.head_profile, self.names.worker_profile):
            self._delete_profile(name)
        left = self.leftovers()
        if left:
            raise InputError(f"still in {self.names.region}: {', '.join(left)}; run delete again")

    def _check_before_delete(self) -> None:
        instances = [line for line in self.costs() if line.startswith("instance")]
        if instances:
            raise InputError(f"{instances[0]}: run `ray down` with the cluster file first")
        for group in self._groups():
            used = {"Name": "group-id", "Values": [group.id]}
            for interface in self.ec2.network_interfaces.filter(Filters=[used]):
                owner = (interface.attachment or {}).get("InstanceId")
                if owner and self.ec2.Instance(owner).state["Name"] == "terminated":
                    continue
                raise InputError(
                    f"network interface {interface.id} uses security group {group.id}: delete what"
                    " it belongs to first"
                )
        for name in (self.names.head_profile, self.names.worker_profile):
            with contextlib.suppress(self.iam.exceptions.NoSuchEntityException):
                attached = self.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
                inline = self.iam.list_role_policies(RoleName=name)["PolicyNames"]
                foreign = [p["PolicyName"] for p in attached] + [p for p in inline if p != POLICY]
                if foreign:
                    raise InputError(
                        f"role {name} has the policy {foreign[0]}, which does not belong to this"
                        " cluster: remove it first"
                    )

    def _delete_profile(self, name: str) -> None:
        iam = self.iam
        for step, arguments in (
            (
                iam.remove_role_from_instance_profile,
                {"InstanceProfileName": name, "RoleName": name},
            ),
            (iam.delete_instance_profile, {"InstanceProfileName": name}),
            (iam.delete_role_policy, {"RoleName": name, "PolicyName": POLICY}),
            (iam.delete_role, {"RoleName": name}),
        ):
            with contextlib.suppress(iam.exceptions.NoSuchEntityException):
                step(**arguments)
