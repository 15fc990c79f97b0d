"""The former name of ``labs.cluster.aws``, which still works."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    # By name, because labs.runtime must not import labs.cluster.
    return getattr(importlib.import_module("labs.cluster.aws"), name)


if __name__ == "__main__":
    __getattr__("main")()
