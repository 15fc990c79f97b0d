"""Who may open a connection to a cluster's machines: the rules of its security groups."""

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
    """A security group's permissions as rules with one source each, keyed by what they admit."""
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
    """The group's only rules: everything among its members, and SSH from one network.

    What is missing is added before what is too much goes, so that nobody is locked out meanwhile.
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
