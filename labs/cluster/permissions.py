"""Statements of the IAM policies: what a cluster's machines may do in its AWS account."""

from __future__ import annotations

from typing import Any

from labs.cluster.file import Names

CLUSTER_TAG = "ray-cluster-name"
"""The tag with the cluster's name: Ray sets it on every instance, ``cluster.yaml`` on every disk."""

Statement = dict[str, Any]


def bucket_statements(bucket: str) -> list[Statement]:
    """Read and write one bucket, for the head and the workers."""
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


def head_statements(names: Names, worker_role: str) -> list[Statement]:
    """Start instances of the types in the file; terminate and tag only those of this cluster.

    Args:
        names: the names in the cluster file.
        worker_role: ARN of the workers' role.
    """
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
            "Action": "ssm:GetParameters",  # RunInstances needs it to look up the image
            "Resource": "arn:aws:ssm:*:*:parameter/aws/service/*",
        },
    ]
