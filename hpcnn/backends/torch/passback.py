"""The pass back of a module: each gradient goes to its place in the flat vector as soon as it is made."""

from __future__ import annotations

from typing import Any

from hpcnn.backends.torch.network import TorchNetwork
from hpcnn.backends.torch.tensors import view_of
from hpcnn.errors import HpcnnError, ModelError, shortened
from hpcnn.nn.passes import Ready
from hpcnn.training.model import Accumulator


class PassBack:
    """Computes gradients of a module whose parameters lie in one vector.

    A hook of each parameter takes its gradient, which is still in the processor's caches, and tells from where on the
    vector is complete: parameters that come late in it have their gradients first.
    """

    def __init__(self, module: Any, network: TorchNetwork) -> None:
        self._source = network.source
        layout = network.layout
        learning = [(layout.offsets[network.names[name]], name, p) for name, p in module.named_parameters()
                    if p.requires_grad]  # fmt: skip
        learning.sort(key=lambda each: each[0])
        self._names = [network.names[name] for _, name, _ in learning]
        self._starts = [start for start, _, _ in learning]
        self._views: dict[int, tuple[Accumulator, list[Any]]] = {}
        self._into: list[Any] = []
        self._ready: Ready | None = None
        self._done: list[bool] = []
        self._left = 0
        for place, (_, _, parameter) in enumerate(learning):
            parameter.register_post_accumulate_grad_hook(self._hook(place))

    def run(self, losses: Any, factors: Any, into: Accumulator, ready: Ready | None) -> None:
        """Overwrite the gradient in `into` by that of the sum of losses (n,) x factors (n,)."""
        _, self._into = self._views.get(id(into)) or self._views.setdefault(id(into), (into, self._views_of(into)))
        self._ready, self._done, self._left = ready, [False] * len(self._starts), len(self._starts)
        try:
            losses.backward(factors)
        except HpcnnError:
            raise
        except RuntimeError as error:
            raise ModelError(f"{self._source}: the pass back fails: {shortened(error)}") from error
        for place, done in enumerate(self._done):
            if not done:  # the loss did not depend on it
                self._into[place].zero_()

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
