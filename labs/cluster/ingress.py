"""The rules of a cluster's security groups: who may connect to its machines."""

from __future__ import annotations

from typing import Any

from labs.cluster.changes import Changes

Rule = tuple[Any, ...]
_SOURCES = {
    "IpRanges": "CidrIp",
    "Ipv6Ranges": "CidrIpv6",
    "PrefixListIds": "PrefixListId",
    "UserIdGroupPairs": "GroupId",
}


def _rules(permissions: list[Any]) -> dict[Rule, dict[str, Any]]:
    """A security group's permissions as rules with one source each, by what they allow."""
    return {
        (p["IpProtocol"], p.get("FromPort"), p.get("ToPort"), kind, source[key]): {
            **{k: p[k] for k in ("IpProtocol", "FromPort", "ToPort") if k in p},
            kind: [source],
        }
        for p in permissions
        for kind, key in _SOURCES.items()
        for source in p.get(kind, [])
    }


def set_ingress(changes: Changes, group: Any, ssh_from: str) -> None:
    """Set the group's rules: all traffic among its members, SSH from one network, and nothing else.

    Missing rules are added before others are removed, so that nobody is locked out in between.
    """
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]}
    members = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group.id}]}
    wanted, there = _rules([ssh, members]), _rules(group.ip_permissions)
    missing = [rule for key, rule in wanted.items() if key not in there]
    excess = [rule for key, rule in there.items() if key not in wanted]
    if missing:
        group.authorize_ingress(IpPermissions=missing)
        changes.done(
            f"new rules of {group.id}", lambda: group.revoke_ingress(IpPermissions=missing)
        )
    if excess:
        group.revoke_ingress(IpPermissions=excess)
        changes.done(
            f"old rules of {group.id}", lambda: group.authorize_ingress(IpPermissions=excess)
        )
    group.load()
