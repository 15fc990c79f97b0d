"""The old place of ``labs.cluster.aws``, which is used the same way."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    # By name: the runtime imports nothing of labs.cluster.
    return getattr(importlib.import_module("labs.cluster.aws"), name)


if __name__ == "__main__":
    __getattr__("main")()
