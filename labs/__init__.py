"""Deep-learning experiments that run unchanged in a debugger, on a laptop and on a GPU cluster."""

import importlib.metadata
import sys
import types


def _mend_torchvision_beside_cpu_torch() -> None:
    """Let torchvision import beside a CPU-only build of torch.

    torchvision's wheel links its C++ operators against CUDA. Beside a ``+cpu`` build of torch they
    cannot load, and ``torchvision._meta_registrations``, which only describes those operators, then
    fails the whole import with "operator torchvision::nms does not exist" (and every
    ``transformers`` model with it). Nothing here uses these operators, so an empty module takes its
    place. The build is read from the package metadata: importing torch takes seconds, and every
    Ray worker imports this package.
    """
    name = "torchvision._meta_registrations"
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return
    if version.endswith("+cpu") and "torchvision" not in sys.modules:
        sys.modules.setdefault(name, types.ModuleType(name))


_mend_torchvision_beside_cpu_torch()
