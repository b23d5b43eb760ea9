"""The model in PyTorch: outputs, loss and gradients of one shard, with parameters in the memory of one flat vector."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.backends.torch.device import Device
from hpcnn.backends.torch.loss_function import loss_function
from hpcnn.backends.torch.losses import sample_losses
from hpcnn.backends.torch.network import TorchNetwork
from hpcnn.backends.torch.passback import PassBack
from hpcnn.backends.torch.runtime import ALONE, numbers_of
from hpcnn.backends.torch.tensors import to_array, to_tensor, view_of
from hpcnn.comm.protocol import Array
from hpcnn.errors import HpcnnError, ModelError, in_words
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.losses.function import FunctionOfValues
from hpcnn.nn.passes import Ready
from hpcnn.nn.several_losses import BoundLosses
from hpcnn.system.denormals import FlushDenormals
from hpcnn.training.model import Accumulator, AnyLoss, LossSums, Model, ShardBackward
from hpcnn.training.step_stats import StatsLayout


class TorchModel(Model):
    """A `TorchNetwork` with its parameters in one flat vector, its loss and its metrics; see `Model`.

    What training changes beside the parameters (the averages of batch normalisation) is part of the vector as well:
    each shard starts from the same values, and the new ones are the mean over all samples.

    On a `device`, parameters are views of a copy of the vector there, which is made again before they are used.
    """

    network: TorchNetwork

    def __init__(
        self,
        network: TorchNetwork,
        loss: AnyLoss,
        layout: StatsLayout,
        vector: Array,
        arithmetic: str = "numpy",
        device: Device | None = None,
    ) -> None:
        super().__init__(network, loss, layout, vector, arithmetic)
        import torch

        self._device = device
        self._vector: Any = view_of(vector)
        self._place = torch.device("cpu") if device is None else device.place
        self._flat = self._vector if device is None else _like(self._vector, self._place)
        self._unchanged, self._copied = False, False
        self.module = network.take_module().to(self._place)
        """Its parameters are views of the vector, or of its copy."""
        tensors: dict[str, Any] = network.layout.views(self._flat)
        self._state = _bind(self.module, network, tensors)
        self._kept = [tensors[spec.name] for spec in network.state]
        self._back = PassBack(self.module, network, device)
        self._denormals = FlushDenormals()
        self._ones: Any = ()
        self._function: Any = None
        if isinstance(loss, BoundLoss) and isinstance(loss.loss, FunctionOfValues):
            self._function = loss_function(network.entry, loss.loss.function)

    def use_threads(self, threads: int) -> None:
        """Do nothing: the bits of PyTorch's sums depend on its threads, so each rank has one."""

    def forward(
        self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None, new_state: Array | None
    ) -> tuple[LossSums, Array, ShardBackward]:
        """Compute a shard. The pass back ends with the gradients in their place in the vector, each as it is made."""
        with ALONE, self._denormals:
            logits, losses = self._trained(key, x, y)
            sums = self._sums(losses, weights)
            if new_state is not None:
                np.concatenate([to_array(one).reshape(-1) for one in self._new_state()], out=new_state)
            outputs = self._outputs(logits) if self.layout.metrics else np.empty(0)
        total = losses[0]

        def backward(into: Accumulator, ready: Ready | None) -> None:
            with ALONE, self._denormals:
                self._back.run(total, self._factors(len(x), weights), into, ready)

        return sums, outputs, backward

    def evaluate(self, x: Array, y: Array, weights: Array | None) -> tuple[LossSums, Array]:
        """Return the loss summed over the samples, and the outputs."""
        with ALONE, self._denormals, _without_gradients():
            logits = self._called(x, training=False)
            return self._sums(self._losses(logits, y), weights), self._outputs(logits)

    def predict(self, x: Array) -> Array:
        """Return the outputs."""
        with ALONE, self._denormals, _without_gradients():
            return self._outputs(self._called(x, training=False))

    def first_not_finite(self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None) -> str | None:
        """Return whether the outputs are not finite, or the loss alone."""
        with ALONE, self._denormals:
            logits, losses = self._trained(key, x, y)
            if not np.isfinite(self._outputs(logits)).all():
                return "the outputs of the model are not finite"
            return None if np.isfinite(self._sums(losses, weights)).all() else "all outputs are finite, the loss is not"

    # ----------------------------------------------------------------------------------------------------- the passes

    def _trained(self, key: tuple[int, ...], x: Array, y: Array) -> tuple[Any, list[Any]]:
        """Return logits and losses of a shard in training."""
        import torch

        if self.network.draws:
            words = np.random.SeedSequence(key).generate_state(1, np.uint64)
            torch.default_generator.manual_seed(int(words[0]))
            if self._device is not None:
                self._device.seed(int(words[0]))
        logits = self._called(x, training=True)
        return logits, self._losses(logits, y)

    def _called(self, x: Array, *, training: bool) -> Any:
        """Return the logits of all outputs, each (n, *shape)."""
        network, module = self.network, self.module
        if module.training != training:
            module.train(training)
        self._load()
        given = self._given(x.reshape(len(x), *network.input_shape), network.dtype)
        try:
            if network.dtype == "float32":
                return network.call(module, given)
            with numbers_of(network.dtype):
                return network.call(module, given)
        except HpcnnError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise ModelError(
                f"{network.source}: the module fails on {len(x)} samples in "
                f"{'training' if training else 'evaluation'}: {in_words(error)}"
            ) from error

    @contextmanager
    def unchanged_weights(self) -> Iterator[None]:
        """Copy the weights to the device once within it."""
        self._unchanged, self._copied = True, False
        try:
            yield
        finally:
            self._unchanged = False

    def module_on_cpu(self) -> Any:
        """Return the module with the weights as they are, in the host's memory."""
        self._load()
        return self.module if self._device is None else copy.deepcopy(self.module).cpu()

    def _load(self) -> None:
        """Give parameters on a device, and buffers that training changes, the values that the vector has for them."""
        import torch

        if self._device is not None and not (self._unchanged and self._copied):
            self._flat.copy_(self._vector)
            self._copied = True
        if self._state:
            with torch.no_grad():
                torch._foreach_copy_([tensor for _, _, tensor in self._state], self._kept)

    def _given(self, array: Array, dtype: DTypeLike) -> Any:
        """Return an array as a tensor where the module is."""
        tensor = to_tensor(np.ascontiguousarray(array, dtype))
        return tensor if self._device is None else tensor.to(self._place)

    def _new_state(self) -> list[Any]:
        """Return what the last call made of the buffers that are state; one may have put a new tensor in its place."""
        found = []
        for owner, leaf, tensor in self._state:
            found.append(owner._buffers[leaf].detach())
            owner._buffers[leaf] = tensor
        return found

    def _losses(self, logits: Any, y: Array) -> list[Any]:
        """Return the loss of each sample; of several outputs: their sum, then that of each, times its weight."""
        if not isinstance(self.loss, BoundLosses):
            dtype = np.int64 if self.loss.target_kind != "values" else self.network.dtype
            targets = self._given(y, dtype)
            if self._function is not None:
                return [self._function(logits[0], targets)]
            return [sample_losses(self.loss.loss, logits[0], targets, self.loss.head)]
        each = []
        for part, one in zip(self.loss.parts, logits, strict=True):
            dtype = np.int64 if part.labels else self.network.dtype
            targets = self._given(part.targets_in(y), dtype)
            each.append(sample_losses(part.bound.loss, one, targets, part.bound.head) * part.weight)
        return [sum(each[1:], start=each[0]), *each]

    def _sums(self, losses: list[Any], weights: Array | None) -> LossSums:
        rows = [to_array(one).astype(np.float64) for one in losses]
        sums = [float(self._total(row if weights is None else row * weights)) for row in rows]
        return np.array(sums) if isinstance(self.loss, BoundLosses) else sums[0]

    def _factors(self, samples: int, weights: Array | None) -> Any:
        import torch

        if weights is not None:
            return self._given(weights, self.network.dtype)
        if len(self._ones) != samples:
            self._ones = torch.ones(samples, dtype=getattr(torch, self.network.dtype), device=self._place)
        return self._ones

    def _outputs(self, logits: Any) -> Array:
        return to_array(self.network.rows([one.detach() for one in logits]))


def _without_gradients() -> Any:
    import torch

    return torch.no_grad()


def _like(tensor: Any, place: Any) -> Any:
    import torch

    return torch.empty_like(tensor, device=place)


def _bind(module: Any, network: TorchNetwork, params: Mapping[str, Any]) -> list[tuple[Any, str, Any]]:
    """Give the module's parameters and constant buffers the memory of `params`, by our names.

    Returns:
        for each buffer that training changes its owner, its name there, and the tensor that each call begins with.
    """
    import torch

    state = {spec.name for spec in network.state}
    changing: dict[str, tuple[Any, str, Any]] = {}
    for name, parameter in module.named_parameters():
        parameter.data = params[network.names[name]]
    for name, own in network.names.items():
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        if leaf not in owner._buffers:
            continue
        if own in state:
            owner._buffers[leaf] = torch.empty_like(params[own])
            changing[own] = owner, leaf, owner._buffers[leaf]
        else:
            owner._buffers[leaf] = params[own]
    return [changing[spec.name] for spec in network.state]
