"""Any ``torch.nn.Module`` as a network on flat parameters, trained by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from labs.runtime.errors import InputError

_MODE_DEPENDENT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
"""Layers that compute something else in training than in evaluation."""


class ModuleNetwork:
    """A module whose parameters and floating-point buffers are slices of the flat array.

    The module gets float32 observations ``[n, *observation_shape]``; images are divided by 255.
    It is always in evaluation mode. Gradients of buffers are 0, so they keep the values that the
    factory gave them, and are part of the parameters in checkpoints and workers.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        observation_shape: tuple[int, ...],
        outputs: int,
        name: str = "the network",
    ) -> None:
        """``make`` returns a new module, equal for equal states of torch's generator.

        Raises:
            InputError: ``make`` does not return a module for these shapes; begins with ``name``.
        """
        self._make = make
        self._sample = torch.zeros(2, *observation_shape)
        self._outputs = outputs
        self._name = name
        self._module = self._build(seed=0)
        self._tensors = _tensors(self._module)
        self.num_parameters = sum(tensor.numel() for tensor in self._tensors)
        self._gradient: torch.Tensor | None = None
        self._result: torch.Tensor | None = None

    def _build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                module = self._make()
            except Exception as error:
                raise InputError(f"{self._name} {_raised(error)}") from error
            _require_module(module, self._name)
            self._require_fit(module.eval())  # the first call also gives lazy layers their shapes
        return module

    def _require_fit(self, module: nn.Module) -> None:
        wanted = (len(self._sample), self._outputs)
        try:
            with torch.no_grad():
                found = module(self._sample)
        except Exception as error:
            raise InputError(
                f"{self._name}, given float32 observations {list(self._sample.shape)},"
                f" {_raised(error)}"
            ) from error
        if not isinstance(found, torch.Tensor):
            raise InputError(f"{self._name} returns a {type(found).__name__}: return a tensor")
        if tuple(found.shape) != wanted or found.dtype != torch.float32:
            raise InputError(
                f"{self._name} returns {str(found.dtype).removeprefix('torch.')}"
                f" {list(found.shape)} for {len(self._sample)} observations: return float32"
                f" {list(wanted)}"
            )
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                raise InputError(f"{self._name} has parameters of {tensor.dtype}: use float32")

    def initial_parameters(
        self, generator: torch.Generator, output_gain: float = 1.0, hidden_biases: bool = False
    ) -> torch.Tensor:
        """The parameters that the factory makes, float32 ``[num_parameters]``.

        The last linear layer is multiplied by ``output_gain`` if it has the right number of outputs.
        ``hidden_biases`` has no effect.
        """
        seed = int(torch.randint(2**31, (), generator=generator))
        module = self._build(seed)
        last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1:]
        with torch.no_grad():
            for layer in last:
                if layer.out_features == self._outputs:
                    for tensor in layer.parameters():
                        tensor.mul_(output_gain)
            return torch.cat([tensor.detach().reshape(-1) for tensor in _tensors(module)])

    def bind(self, parameters: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """Make the module's parameters views of ``parameters``; see ``Network.bind``."""
        self._module.to(parameters.device)
        self._gradient = gradient
        start = 0
        for tensor in self._tensors:
            part = slice(start, start + tensor.numel())
            tensor.data = parameters[part].view(tensor.shape)
            if gradient is not None:  # autograd adds in place to a `grad` that is there
                tensor.grad = gradient[part].view(tensor.shape)
            start = part.stop

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs, without a graph."""
        with torch.no_grad():
            return self._call(inputs)

    def forward_for_backward(self, inputs: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        """Outputs; keeps the graph of the first ``rows`` only."""
        with torch.inference_mode(False), torch.enable_grad():
            first = inputs[:rows]
            # A tensor made in inference mode, as learners do, cannot be part of a graph.
            self._result = self._call(first.clone() if first.is_inference() else first)
        outputs = self._result.detach()
        if rows is None:
            return outputs
        return torch.cat([outputs, self.forward(inputs[rows:])])

    def backward(self, output_gradient: torch.Tensor) -> None:
        """Automatic differentiation into the bound gradient, which is overwritten."""
        assert self._gradient is not None and self._result is not None
        self._gradient.zero_()
        with torch.inference_mode(False):
            self._result.backward(output_gradient.clone())
        self._result = None

    def _call(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.dtype == torch.uint8:
            inputs = inputs.float().div_(255)
        return self._module(inputs)


def _require_module(module: object, name: str) -> None:
    if not isinstance(module, nn.Module):
        raise InputError(f"{name} is a {type(module).__name__}: return a torch.nn.Module")
    for layer in module.modules():
        if isinstance(layer, _MODE_DEPENDENT):
            raise InputError(
                f"{name} has a {type(layer).__name__}, which computes something else in training than"
                " in evaluation: use LayerNorm or GroupNorm, or leave it out"
            )


def _raised(error: Exception) -> str:
    return f"raises {type(error).__name__}: " + str(error).partition("\n")[0]


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    return [*module.parameters(), *buffers]
