"""A PyTorch module whose parameters are pieces of one flat vector."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpcnn.backends.torch.entry import build_entry, specs_of
from hpcnn.backends.torch.heads import ending_of, head_of
from hpcnn.backends.torch.layers import activation, to_torch
from hpcnn.backends.torch.probe import check_outputs, probe
from hpcnn.backends.torch.runtime import numbers_of
from hpcnn.job.model import Function
from hpcnn.job.schema import Job
from hpcnn.models.build import build_network
from hpcnn.nn.build import sample_shape
from hpcnn.nn.layer import Shape
from hpcnn.nn.network import Network
from hpcnn.nn.outputs import Output
from hpcnn.nn.params import ParamLayout, ParamSpec


class TorchNetwork:
    """A PyTorch module with the place of each of its parameters and buffers in the flat vector.

    Args:
        module: it returns logits, where its `head` is an activation.
        names: the name of our parameter for each of the module's parameters and buffers that is one.
        layout: of the parameters.
        shapes: of one sample, and of the outputs for it.
        dtype: of parameters and arithmetic.
        source: what built the module, for messages.
        entry: the function that did, ``module:function``, if one of the user's did.
        endings: the activation behind the module, and the last activation of all, be it that or within the module.
        parts: the network that the module computes, where it is one of hpcnn's layers.
        draws: whether the module draws random numbers in training.
        autocast: the type of products and convolutions, where that is another.
    """

    def __init__(
        self,
        module: Any,
        names: Mapping[str, str],
        layout: ParamLayout,
        shapes: tuple[Shape, Shape],
        dtype: str,
        source: str,
        *,
        endings: tuple[str, str | None],
        entry: str = "",
        parts: Network | None = None,
        draws: bool = True,
        autocast: str = "none",
    ) -> None:
        self.names, self.layout, self.dtype, self.source = names, layout, dtype, source
        self.input_shape, self.output_shape = shapes
        self.head, self.ending = endings
        self.entry, self.draws, self.autocast = entry, draws, autocast
        self.inputs: Mapping[str, Shape] = {} if parts is None else parts.inputs
        """The shapes of several inputs by name, which a row of the samples holds."""
        self.outputs: Sequence[Output] = () if parts is None else parts.outputs
        """Where a row of outputs has each of several."""
        self.state: Sequence[ParamSpec] = [spec for spec in layout.specs if spec.state]
        """The parameters that training changes without a gradient, as the averages of batch normalisation."""
        self.of_layers = parts is not None
        """Whether the module is made of hpcnn's layers; else a user's function has built it."""
        self._module, self._taken = module, False

    def take_module(self) -> Any:
        """Return the module for a model, whose parameters it is to have; of several models, each has a copy."""
        if not self._taken:
            self._taken = True
            return self._module
        return copy.deepcopy(self._module)

    def given(self, x: Any) -> Any:
        """Return what the module takes: the samples (n, *input_shape), or each of its inputs."""
        if not self.inputs:
            return x
        parts = x.split([math.prod(shape) for shape in self.inputs.values()], dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.inputs.values(), strict=True)]

    def call(self, module: Any, x: Any) -> Sequence[Any]:
        """Return the logits of each output of a module that `take_module` returned."""
        if self.autocast == "none":
            return self._each(self._called(module, x))
        import torch

        with torch.autocast(x.device.type, getattr(torch, self.autocast)):
            found = self._called(module, x)
        return [one.to(x.dtype) for one in self._each(found)]

    def _called(self, module: Any, x: Any) -> Any:
        given = self.given(x)
        return module(given, logits=True) if self.of_layers else module(given)

    def _each(self, found: Any) -> Sequence[Any]:
        return found if self.outputs else [found]

    def rows(self, logits: Sequence[Any]) -> Any:
        """Return the outputs, (n, *output_shape); of several, the rows of all of them."""
        import torch

        heads = [output.head for output in self.outputs] or [self.head]
        behind = [behind_head(head, one) for head, one in zip(heads, logits, strict=True)]
        return torch.cat([one.flatten(1) for one in behind], 1) if self.outputs else behind[0]


def behind_head(head: str, logits: Any) -> Any:
    """Return the outputs that an activation makes of logits."""
    function = activation(head)
    return logits if function is None else function(logits)


def build_torch_network(job: Job, input_shape: tuple[int, ...]) -> TorchNetwork:
    """Return the network of the job's ``[model]``: its layers, or what its function returns.

    Raises:
        JobError: the section names no layers, or a function that doesn't exist.
        ModelError: the model does not fit the data, or can't be trained.
    """
    if not job.model.entry:
        return _of_layers(build_network(job.model, input_shape), "[model]", job)
    source = f"model.entry {job.model.entry!r}"
    shape = sample_shape(job.model, input_shape)
    module = build_entry(job, shape, source)
    return _of_layers(module, source, job) if isinstance(module, Network) else _of_module(module, shape, source, job)


def _of_layers(network: Network, source: str, job: Job) -> TorchNetwork:
    dtype = job.train.dtype
    module, names = to_torch(network, dtype)
    made = TorchNetwork(
        module, names, network.layout, (network.input_shape, network.output_shape), dtype, source,
        endings=(network.head, network.ending), parts=network, autocast=job.torch.autocast,
    )  # fmt: skip
    made.draws = probe(lambda x: made.call(module, x), module, network.input_shape, dtype, source, zeros=True).draws
    return made


def _of_module(module: Any, shape: Shape, source: str, job: Job) -> TorchNetwork:
    dtype = job.train.dtype
    with numbers_of(dtype):
        found = probe(module, module, shape, dtype, source)
        check_outputs(found.outputs, dtype, source)
    ending = None if isinstance(job.loss, Function) else ending_of(found.outputs)
    head = head_of(job.loss, ending, found.outputs, source)
    layout = ParamLayout(specs_of(module, found.changed, dtype))
    return TorchNetwork(
        module, {spec.name: spec.name for spec in layout.specs}, layout, (shape, tuple(found.outputs.shape[1:])), dtype,
        source, endings=(head, ending if head == "linear" else head), entry=job.model.entry,
        draws=found.draws, autocast=job.torch.autocast,
    )  # fmt: skip
