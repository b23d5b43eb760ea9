"""The pass back of a module: each gradient goes to its place in the flat vector as soon as it is made."""

from __future__ import annotations

from typing import Any

from hpcnn.backends.torch.device import Device
from hpcnn.backends.torch.gradient_copy import GradientCopy
from hpcnn.backends.torch.network import TorchNetwork
from hpcnn.backends.torch.tensors import view_of
from hpcnn.errors import HpcnnError, ModelError, shortened
from hpcnn.nn.passes import Ready
from hpcnn.training.model import Accumulator


class PassBack:
    """Computes gradients of a module whose parameters lie in one vector.

    A hook of each parameter takes its gradient, which is still in the processor's caches, and tells from where on the
    vector is complete: parameters that come late in it have their gradients first. On a device that vector is one
    there, whose pieces are copied to the host's memory when they are complete.
    """

    def __init__(self, module: Any, network: TorchNetwork, device: Device | None) -> None:
        self._source = network.source
        layout = network.layout
        learning = [(layout.offsets[network.names[name]], name, p) for name, p in module.named_parameters()
                    if p.requires_grad]  # fmt: skip
        learning.sort(key=lambda each: each[0])
        self._names = [network.names[name] for _, name, _ in learning]
        self._starts = [start for start, _, _ in learning]
        self._views: dict[int, tuple[Accumulator, list[Any], Any]] = {}
        self._into: list[Any] = []
        self._ready: Ready | None = None
        self._done: list[bool] = []
        self._left = 0
        self._copy: GradientCopy | None = None
        if device is not None:
            self._copy = GradientCopy(device, layout.trainable_size, learning[0][2].dtype)
            views: dict[str, Any] = layout.gradient_views(self._copy.gradient)
            self._into = [views[name] for name in self._names]
        for place, (_, _, parameter) in enumerate(learning):
            parameter.register_post_accumulate_grad_hook(self._hook(place))

    def run(self, losses: Any, factors: Any, into: Accumulator, ready: Ready | None) -> None:
        """Overwrite the gradient in `into` by that of the sum of losses (n,) x factors (n,)."""
        if id(into) not in self._views:
            self._views[id(into)] = into, self._views_of(into), view_of(into.vector)
        kept = self._views[id(into)]
        if self._copy is None:
            self._into, self._ready = kept[1], ready
        else:
            self._ready = self._copy.reached
        self._done, self._left = [False] * len(self._starts), len(self._starts)
        try:
            losses.backward(factors)
        except HpcnnError:
            raise
        except RuntimeError as error:
            raise ModelError(f"{self._source}: the pass back fails: {shortened(error)}") from error
        for place, done in enumerate(self._done):
            if not done:  # the loss did not depend on it
                self._into[place].zero_()
        if self._copy is not None:
            self._copy.finish(0, kept[2], ready)

    def _views_of(self, into: Accumulator) -> list[Any]:
        return [view_of(into.grads[name]) for name in self._names]

    def _hook(self, place: int) -> Any:
        def take(parameter: Any) -> None:
            self._into[place].copy_(parameter.grad)
            parameter.grad = None
            self._done[place] = True
            if self._ready is not None and place == self._left - 1:
                while self._left and self._done[self._left - 1]:
                    self._left -= 1
                self._ready(self._starts[self._left])

        return take
