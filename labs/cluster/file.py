"""The cluster file: where it is, and the names in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labs.runtime.errors import InputError


def default_file() -> Path:
    """``cluster.yaml`` in the current directory, otherwise the one in the checkout of ``labs``."""
    here = Path("cluster.yaml")
    checkout = Path(__file__).resolve().parents[2] / "cluster.yaml"
    return checkout if checkout.is_file() and not here.is_file() else here


def load(file: Path) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: it cannot be read, or it is not YAML.
    """
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"`file` {file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"`file` {file} is not a YAML file: {reason}") from None


@dataclass(frozen=True)
class Names:
    """The names in a cluster file of what the cluster needs in an account."""

    region: str
    cluster: str
    group: str
    key_pair: str
    head_profile: str
    worker_profile: str
    instance_types: tuple[str, ...]


def read_names(file: Path) -> Names:
    """Read the names in a cluster file.

    Raises:
        InputError: it cannot be read, or a name is missing.
    """
    content = load(file)
    try:
        provider, types = content["provider"], content["available_node_types"]
        configs = {name: kind["node_config"] for name, kind in types.items()}
        head = configs[content["head_node_type"]]
        workers = {c["IamInstanceProfile"]["Name"] for c in configs.values() if c is not head}
        (worker,) = workers
        names = Names(
            region=provider["region"],
            cluster=content["cluster_name"],
            group=provider["security_group"]["GroupName"],
            key_pair=provider["key_pair"]["key_name"],
            head_profile=head["IamInstanceProfile"]["Name"],
            worker_profile=worker,
            instance_types=tuple(sorted({c["InstanceType"] for c in configs.values()})),
        )
        for key, value in vars(names).items():
            if key != "instance_types" and not (isinstance(value, str) and value):
                raise ValueError(f"the {key.replace('_', ' ')} is not a name")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"`file` {file} is not complete: compare it with the project's cluster.yaml ({reason})"
        ) from None
    return names
