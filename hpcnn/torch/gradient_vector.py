"""Gradients of one type in the memory of an exchange: where each belongs, what has come, and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from hpcnn.backends.torch.device import Cuda, Device
from hpcnn.backends.torch.gradient_copy import GradientCopy
from hpcnn.comm.protocol import Communicator, Compression
from hpcnn.errors import CommunicatorError
from hpcnn.system.memory import ALIGNMENT, aligned_empty
from hpcnn.torch.tensors import tensor_of

_ON_WIRE = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}
"""What gradients of each type are added in."""
_EXACT_IN_TWO_BYTES = 256
"""Compression rounds no sum of so many ones."""


def wire_type(parameter: torch.Tensor, name: str = "") -> np.dtype[Any]:
    """Return the type in which the gradient of a parameter is added, given its name, for messages.

    Raises:
        CommunicatorError: there is none for it.
    """
    kind = str(parameter.dtype).removeprefix("torch.")
    if kind not in _ON_WIRE:
        which = f"the parameter {name!r}" if name else f"a parameter of shape {tuple(parameter.shape)}"
        remedy = ", and torch.view_as_complex to compute from pairs of real numbers" if parameter.is_complex() else ""
        raise CommunicatorError(
            f"{which} is of type {kind}, which can't be trained on several ranks: use {', '.join(_ON_WIRE)}{remedy}"
        )
    return np.dtype(_ON_WIRE[kind])


class GradientVector:
    """The gradients of parameters of one type, one after the other, in the order of the parameters.

    A backward pass fills it from the end. Its first entries count, for each parameter, the ranks that have a gradient;
    with compression, every 256 ranks have a count of their own, since a rounded one would return in the next step.
    Where all parameters are on one GPU, gradients are gathered there, and copied to the host's memory in pieces.

    Args:
        parameters: whose gradients these are.
        kind: the type of the entries.
        comm: the ranks.
        stats: sums that travel with it.
        bucket: bytes that travel while the rest is computed; 0: all at the end.
        compression: how sums are rounded on their way; None: they are not.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        kind: np.dtype[Any],
        comm: Communicator,
        *,
        stats: int,
        bucket: int,
        compression: Compression | None,
    ) -> None:
        self.parameters = parameters
        line = ALIGNMENT // kind.itemsize
        sizes = [-(-parameter.numel() // line) * line for parameter in parameters]
        counts = 1 if compression is None else -(-comm.size // _EXACT_IN_TWO_BYTES)
        head = -(-counts * len(parameters) // line) * line
        self.starts = list(accumulate(sizes, initial=head))
        entries = bucket // kind.itemsize
        self.exchange = comm.exchange(comm.size, self.starts[-1], kind, stats, bucket=entries, compression=compression)
        self.exchange.activity = comm.activity
        own = tensor_of(self.exchange.contributions[0].vector)
        own.zero_()  # the gaps between gradients are added, too
        self._own, self._flags = own, own[: counts * len(parameters)].view(counts, -1)
        self._own_flags = self._flags[comm.rank // _EXACT_IN_TWO_BYTES % counts]
        # The sums are shared by the ranks of a host, while users may change gradients.
        self._sums, self._mean = tensor_of(self.exchange.vector), tensor_of(aligned_empty(self.starts[-1], kind))
        self._counts = self._sums[: counts * len(parameters)].view(counts, -1)
        device = device_of_all(parameters)
        self._copy = None if device is None else GradientCopy(device, self.starts[-1], own.dtype)
        if self._copy is not None:
            own, self._mean = self._copy.gradient, torch.empty_like(self._copy.gradient)
        self.own, self._results = self._views(own), self._views(self._mean)
        self.begin()

    def _views(self, vector: torch.Tensor) -> list[torch.Tensor]:
        """Return the place of each gradient, laid out as its parameter."""
        return [
            vector[start:].as_strided(parameter.shape, _strides(parameter), start)
            for start, parameter in zip(self.starts, self.parameters, strict=False)
        ]

    def begin(self) -> None:
        """Begin a step, in which nothing has come yet."""
        self._come = [False] * len(self.parameters)
        self._first = len(self.parameters)
        """All parameters from this one on have come."""

    def put(self, number: int, factor: float) -> None:
        """Take the gradient of a parameter, multiplied by `factor`."""
        gradient, place = self.parameters[number].grad, self.own[number]
        assert gradient is not None
        if gradient.layout != torch.strided:
            gradient = gradient.to_dense()
        if factor == 0:  # of a batch without samples, whose mean is not a number
            place.zero_()
        elif gradient.dtype == place.dtype and gradient.device == place.device:
            torch.mul(gradient, factor, out=place)
        else:
            place.copy_(gradient)
            if factor != 1:
                place.mul_(factor)
        self._come[number] = True
        if number == self._first - 1:
            while self._first and self._come[self._first - 1]:
                self._first -= 1
            start = self.starts[self._first]
            if self._copy is None:
                self.exchange.ready(start)
            else:
                self._copy.reached(start)

    def clear(self) -> None:
        """Have no gradients, and no weight."""
        self.exchange.contributions[0].vector[...] = 0
        self.exchange.contributions[0].stats[...] = 0

    def step(self) -> bool:
        """Add what the ranks have put: the step of an exchange that begins while gradients are computed."""
        return True

    def complete(self, factor: float) -> None:
        """Take the gradients that no backward pass has brought, and say which parameters have one."""
        self._complete(factor)
        if self._copy is not None:
            self._copy.finish(self.starts[0], self._own, self.exchange.ready)

    def _complete(self, factor: float) -> None:
        self._flags.zero_()  # what an exchange leaves there is partial sums
        if all(self._come):
            self._own_flags.fill_(1)
            return
        for number, come in enumerate(self._come):
            if not come and self.parameters[number].grad is not None:
                self.put(number, factor)
            elif not come:
                self.own[number].zero_()
        self._own_flags.copy_(torch.tensor(self._come))

    def give(self, factor: float) -> None:
        """Give each parameter the sum of its gradients, multiplied by `factor`; one that no rank has stays as it is."""
        if self._copy is None:
            torch.mul(self._sums, factor, out=self._mean)
        else:
            self._mean.copy_(self._sums).mul_(factor)
        come = self._counts.any(0)
        everywhere = bool(come.all())
        for number, (parameter, result) in enumerate(zip(self.parameters, self._results, strict=True)):
            if not everywhere and not come[number]:
                continue
            if parameter.dtype == result.dtype and parameter.device == result.device:
                if parameter.grad is not result:
                    parameter.grad = result
            else:
                parameter.grad = result.to(parameter.device, parameter.dtype)


def device_of_all(parameters: Sequence[torch.Tensor]) -> Device | None:
    """Return the GPU that all parameters are on; None: there is no such."""
    places = {parameter.device for parameter in parameters}
    return Cuda(*places) if len(places) == 1 and parameters[0].device.type == "cuda" else None


def _strides(parameter: torch.Tensor) -> tuple[int, ...]:
    if parameter.is_contiguous() or not parameter.is_contiguous(memory_format=_last(parameter.dim())):
        return torch.empty(parameter.shape, device="meta").stride()
    return parameter.stride()


def _last(dimensions: int) -> torch.memory_format:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return formats.get(dimensions, torch.contiguous_format)
