"""Deep-learning experiments that run unchanged in a debugger, on a laptop and on a GPU cluster.

The names below are the public interface. They are imported on first use, since every Ray worker imports
this package, and torch and Ray take seconds.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import types
from typing import TYPE_CHECKING, Any

from labs.environment import prepare

if TYPE_CHECKING:
    from labs.analysis.load import load_run
    from labs.analysis.report.page import open_run
    from labs.experiment import main, sweep
    from labs.language.topics.prediction import load_topic_model
    from labs.rl.agents.config import AgentConfig, register_algorithm
    from labs.rl.agents.networks.base import Spaces
    from labs.rl.agents.policies import PolicySpec
    from labs.rl.agents.segments import Segment
    from labs.rl.agents.trainer import Learner, Rollouts, Trainer
    from labs.rl.loading import load_policy
    from labs.runtime.cli import launch
    from labs.runtime.errors import InputError
    from labs.runtime.grid import Range, grid
    from labs.runtime.machine.resources import Needs
    from labs.runtime.options import RuntimeOptions
    from labs.runtime.reports import Checkpoint, Objective, Report
    from labs.runtime.results import GridResult
    from labs.runtime.sweep import run_grid

__all__ = [
    "AgentConfig",
    "Checkpoint",
    "GridResult",
    "InputError",
    "Learner",
    "Needs",
    "Objective",
    "PolicySpec",
    "Range",
    "Report",
    "Rollouts",
    "RuntimeOptions",
    "Segment",
    "Spaces",
    "Trainer",
    "grid",
    "launch",
    "load_policy",
    "load_run",
    "load_topic_model",
    "main",
    "open_run",
    "register_algorithm",
    "run_grid",
    "sweep",
]

_MODULES = {
    "main": "labs.experiment",
    "sweep": "labs.experiment",
    "launch": "labs.runtime.cli",
    "load_run": "labs.analysis.load",
    "load_policy": "labs.rl.loading",
    "load_topic_model": "labs.language.topics.prediction",
    "AgentConfig": "labs.rl.agents.config",
    "register_algorithm": "labs.rl.agents.config",
    "PolicySpec": "labs.rl.agents.policies",
    "Segment": "labs.rl.agents.segments",
    "Learner": "labs.rl.agents.trainer",
    "Rollouts": "labs.rl.agents.trainer",
    "Spaces": "labs.rl.agents.networks.base",
    "Trainer": "labs.rl.agents.trainer",
    "InputError": "labs.runtime.errors",
    "Range": "labs.runtime.grid",
    "grid": "labs.runtime.grid",
    "RuntimeOptions": "labs.runtime.options",
    "Checkpoint": "labs.runtime.reports",
    "Objective": "labs.runtime.reports",
    "Report": "labs.runtime.reports",
    "Needs": "labs.runtime.machine.resources",
    "GridResult": "labs.runtime.results",
    "open_run": "labs.analysis.report.page",
    "run_grid": "labs.runtime.sweep",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _fix_torchvision_beside_cpu_torch() -> None:
    """Let torchvision import beside a CPU-only build of torch.

    torchvision's wheel links its C++ operators against CUDA. With a ``+cpu`` build of torch they cannot
    be loaded, and ``torchvision._meta_registrations``, which only describes those operators, then fails
    the whole import with "operator torchvision::nms does not exist" (and every ``transformers`` model
    with it). Nothing here uses these operators, so the module is replaced by an empty one. The build is
    read from the package metadata, because it takes seconds to import torch.
    """
    name = "torchvision._meta_registrations"
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return
    if version.endswith("+cpu") and "torchvision" not in sys.modules:
        sys.modules.setdefault(name, types.ModuleType(name))


_fix_torchvision_beside_cpu_torch()
prepare()
