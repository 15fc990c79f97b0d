"""Create, list and delete what ``cluster.yaml`` needs in an AWS account beside instances.

    python -m labs.cluster.aws create --bucket NAME --ssh-from 203.0.113.7
    python -m labs.cluster.aws status
    python -m labs.cluster.aws delete

With ``ray up`` alone, anybody could try to log in, and the cluster would have full access to EC2 and
S3. All names are read from the cluster file.
"""

from __future__ import annotations

import ipaddress
import re
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tyro.conf import OmitSubcommandPrefixes

from labs.cluster.account import Account
from labs.cluster.errors import aws_errors
from labs.cluster.file import default_file, read_names
from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say

INTERNAL_ERROR = 70
"""Exit status after a fault of this program (EX_SOFTWARE), since 1 means that something costs money."""

MIN_PREFIX = 16
"""Shortest network prefix that may log in: a network of /16 is as large as that of a large university."""

_NOT_PUBLIC = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
]
"""Addresses that are not public (RFC 6890), except those for documentation, which the tests use."""


def parse_network(text: str) -> str:
    """The network that may log in, in AWS's CIDR form.

    Args:
        text: a single IPv4 address, or a network such as 203.0.113.0/24.

    Raises:
        InputError: it is neither, it is too large, or its addresses are not public.
    """
    example = "use one such as 203.0.113.7 (your own: curl -4 https://checkip.amazonaws.com)"
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise InputError(f"`ssh_from` {text} is not a network: {example}") from None
    if not isinstance(network, ipaddress.IPv4Network):
        raise InputError(
            f"`ssh_from` {text} is an IPv6 address, and the cluster's machines only have IPv4"
            f" addresses: {example}"
        )
    if network.prefixlen < MIN_PREFIX:
        raise InputError(f"`ssh_from` {text} is too large a network: {example}")
    address = ipaddress.IPv4Address(text.strip().partition("/")[0])
    if address != network.network_address:
        raise InputError(
            f"`ssh_from` {text} is both an address and a network: use {address}/32 for the address"
            f" alone, or {network} for all {network.num_addresses} addresses of the network"
        )
    if any(network.overlaps(other) for other in _NOT_PUBLIC):
        raise InputError(
            f"`ssh_from` {text} is not a public address, so AWS would never see it: {example}"
        )
    return str(network)


@dataclass(frozen=True)
class Create:
    """Create or update the security group, the instance profiles and the bucket."""

    bucket: str
    """S3 bucket for results; created if it does not exist."""

    ssh_from: str
    """Address or network that may log in, for instance your own address: 203.0.113.7."""

    file: Path = field(default_factory=default_file)
    """The cluster file."""

    def __post_init__(self) -> None:
        parse_network(self.ssh_from)
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", self.bucket):
            raise InputError(
                f"`bucket` {self.bucket} is not a valid bucket name: use 3 to 63 lower-case letters,"
                " digits and hyphens, such as my-results"
            )


@dataclass(frozen=True)
class Status:
    """List what costs money. The exit status is 1 if anything does except the bucket, 2 for errors."""

    file: Path = field(default_factory=default_file)
    """The cluster file."""


@dataclass(frozen=True)
class Delete:
    """Delete what ``create`` and ``ray up`` created, except the bucket with the results."""

    file: Path = field(default_factory=default_file)
    """The cluster file."""


@dataclass(frozen=True)
class Command:
    """The command line."""

    command: OmitSubcommandPrefixes[Create | Status | Delete]


def create(options: Create) -> int:
    """Create everything. Run it again after a change of the address or of the file.

    Raises:
        InputError: it is not possible; then the account has not changed.
    """
    names, network = read_names(options.file), parse_network(options.ssh_from)
    with aws_errors():
        Account(names).create(options.bucket, network)
    say(
        f"ready in {names.region}: bucket {options.bucket}, security group {names.group} (SSH from"
        f" {network}), instance profiles {names.head_profile} and {names.worker_profile}"
    )
    return 0


def status(options: Status) -> int:
    """Print what costs money; returns 1 if anything does."""
    names = read_names(options.file)
    with aws_errors():
        lines = Account(names).costs()
    for line in lines:
        say(line)
    if not lines:
        say(f"no instance and no unattached volume of cluster {names.cluster} in {names.region}")
    return 1 if lines else 0


def delete(options: Delete) -> int:
    """Delete the groups, the profiles with their roles, the key pairs, and unattached disks.

    Raises:
        InputError: something is still in use.
    """
    names = read_names(options.file)
    with aws_errors():
        Account(names).delete()
    say(f"nothing of cluster {names.cluster} is left in {names.region}, except the bucket")
    return 0


def run(options: Command) -> int:
    """Run one command; returns the exit status."""
    command = options.command
    try:
        if isinstance(command, Create):
            return create(command)
        return status(command) if isinstance(command, Status) else delete(command)
    except (InputError, BrokenPipeError):
        raise
    except Exception:  # not status 1, which means that something costs money
        traceback.print_exc()
        return INTERNAL_ERROR


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    launch(run, Command, arguments=arguments)
    raise AssertionError("launch exits")


if __name__ == "__main__":
    sys.exit(main())
