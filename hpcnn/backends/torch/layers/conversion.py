"""hpcnn's own networks as PyTorch modules: every layer and option, over the same parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hpcnn.backends.torch.layers import (
    around,
    attention,
    common,
    convolution,
    merging,
    normalization,
    pooling,
    recurrent,
    shapes,
    spectral,
)
from hpcnn.backends.torch.layers.making import Call, Make, Place, activation
from hpcnn.errors import ModelError
from hpcnn.nn.graph import Node
from hpcnn.nn.layer import Layer, MultiInput
from hpcnn.nn.layers.parts import InputPart, OutputRow
from hpcnn.nn.network import Network

LAYERS: Mapping[type[Layer], Make] = {
    **common.LAYERS,
    **convolution.LAYERS,
    **merging.LAYERS,
    **normalization.LAYERS,
    **pooling.LAYERS,
    **shapes.LAYERS,
    **attention.LAYERS,
    **recurrent.LAYERS,
    **spectral.LAYERS,
}


def to_torch(network: Network, dtype: str) -> tuple[Any, dict[str, str]]:
    """Return the network as a `torch.nn.Module`, and the name of our parameter for each of its parameters and buffers.

    Parameters have our shapes, and our names but for dots. Those that training changes without a gradient (moving
    averages) are buffers: a pass in training overwrites them with what its samples make of them.

    The module of a network with named inputs takes a list of them; one with named outputs returns a list. With
    ``logits=True`` it leaves out the last activation (of each output), `network.head`: losses work on logits where
    that is stable, see `hpcnn.backends.torch.losses.sample_losses`.

    Raises:
        ModelError: a layer of the network is not one of hpcnn's own.
    """
    calls = [None if isinstance(node.layer, InputPart | OutputRow) else _call(node, dtype) for node in network.nodes]
    module = _module_class()(network, calls, dtype)
    return module, module.names


def _call(node: Node, dtype: str) -> Call:
    return _make(Place(node.layer, node.given_shape, node.output_shape, dtype, node.shared))


def _make(place: Place) -> Call:
    kind = type(place.layer)
    if kind in around.WRAPPERS:
        return around.WRAPPERS[kind](place, _make)
    if kind not in LAYERS:
        known = ", ".join(each.__name__ for each in (*LAYERS, *around.WRAPPERS))
        raise ModelError(
            f"layer {place.layer.name!r} is a {kind.__name__}, which NumPy mode has and PyTorch mode has not. Known: "
            f'{known}. Set backend = "numpy", or let model.entry return a torch.nn.Module.'
        )
    return LAYERS[kind](place)


@cache
def _module_class() -> Any:
    """Return the class of the modules, which is made once PyTorch is there."""
    import torch

    class NetworkModule(torch.nn.Module):
        """Calls functions, one for each node, over parameters by their names in the network."""

        def __init__(self, network: Network, calls: Sequence[Call | None], dtype: str) -> None:
            super().__init__()
            self._nodes = _plan(network, calls)
            self._several = bool(network.outputs)
            heads = [output.head for output in network.outputs] or [network.head]
            self._heads = [activation(head) for head in heads]
            self.names: dict[str, str] = {}
            for spec in network.layout.specs:
                name = spec.name.replace(".", ":")
                self.names[name] = spec.name
                values = torch.zeros(spec.shape, dtype=getattr(torch, dtype))
                if spec.state:
                    self.register_buffer(name, values)
                else:
                    self.register_parameter(name, torch.nn.Parameter(values, requires_grad=spec.trainable))
            self._renamed = any(name != own for name, own in self.names.items())

        def forward(self, x: Any, logits: bool = False) -> Any:
            """Return the output, or a list of all; with `logits` without the activations behind them."""
            found = self._compute(x)
            if not logits:
                found = [y if head is None else head(y) for y, head in zip(found, self._heads, strict=True)]
            return found if self._several else found[0]

        def _compute(self, x: Any) -> list[Any]:
            p: dict[str, Any] = {**self._parameters, **self._buffers}
            if self._renamed:
                p = {self.names[name]: value for name, value in p.items()}
            given = iter(x if isinstance(x, list | tuple) else (x,))
            outputs: list[Any] = []
            for call, sources, several, done in self._nodes:
                taken = [x if source < 0 else outputs[source] for source in sources]
                if call is not None:
                    outputs.append(call(p, taken if several else taken[0], self.training))
                elif several:
                    return taken
                else:
                    outputs.append(next(given))
                for place in done:
                    outputs[place] = None
            return outputs[-1:]

    return NetworkModule


def _plan(network: Network, calls: Sequence[Call | None]) -> list[tuple[Call | None, tuple[int, ...], bool, list[int]]]:
    """Return for each node its function, what it takes, whether that is several, and the outputs that end with it."""
    last = {source: place for place, node in enumerate(network.nodes) for source in node.sources if source >= 0}
    done: list[list[int]] = [[] for _ in network.nodes]
    for source, place in last.items():
        done[place].append(source)
    return [
        (call, node.sources, isinstance(node.layer, MultiInput), ends)
        for call, node, ends in zip(calls, network.nodes, done, strict=True)
    ]
