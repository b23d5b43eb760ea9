"""One call of a module in training: what it returns, which buffers it changes, and whether it draws random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnn.backends.torch.runtime import drawing_from
from hpcnn.errors import ModelError, in_words
from hpcnn.nn.layer import Shape

_COUNTER = "num_batches_tracked"
"""The one buffer that training may change and that is no state: batch normalisation reads it only where its momentum
is None, which is refused."""
_SAMPLES = 2


@dataclass(frozen=True)
class Probe:
    """What a call has shown."""

    outputs: Any
    changed: frozenset[str]
    """Names of the buffers that it changed."""
    draws: bool
    """Whether it took numbers from PyTorch's generator."""


def probe(
    call: Callable[[Any], Any], module: Any, shape: Shape, dtype: str, source: str, *, zeros: bool = False
) -> Probe:
    """Call a module in training, on samples of `shape`, and leave its buffers as they were.

    Raises:
        ModelError: it fails, or changes parameters or what can't be averaged over shards, or draws from another
            generator.
    """
    import torch

    parameters = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    before = {name: (buffer, buffer._version, buffer.clone()) for name, buffer in module.named_buffers()}
    with drawing_from(0):
        generators = torch.get_rng_state(), random.getstate(), _state_of_numpy()
        outputs = call_once(call, module, shape, dtype, source, training=True, zeros=zeros)
        draws = not torch.equal(generators[0], torch.get_rng_state())
    _check_other_generators(source, generators[1:])
    _check_parameters_kept(source, module, parameters)
    changed = frozenset(_changed(source, module, before, dtype))
    with torch.no_grad():
        for name, (buffer, _, values) in before.items():
            owner, _, leaf = name.rpartition(".")
            module.get_submodule(owner)._buffers[leaf] = buffer.copy_(values)
    return Probe(outputs, changed, draws)


def call_once(
    call: Callable[[Any], Any],
    module: Any,
    shape: Shape,
    dtype: str,
    source: str,
    *,
    training: bool,
    zeros: bool = False,
) -> Any:
    """Return what the module makes of two samples: numbers in [0, 1), which ids and pixels may be, or zeros.

    Raises:
        ModelError: it fails.
    """
    import torch

    numbers = np.random.default_rng(0).random((_SAMPLES, *shape)).astype(dtype)
    module.train(training)
    try:
        return call(torch.from_numpy(numbers * (not zeros)))
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{source}: the module can't be called on samples of shape {shape}: {in_words(error)}"
        ) from error


def _check_other_generators(source: str, before: tuple[Any, Any]) -> None:
    now = random.getstate(), _state_of_numpy()
    for name, old, new in zip(("Python's random", "numpy.random"), before, now, strict=True):
        if old != new:
            raise ModelError(
                f"{source}: the module draws random numbers from {name}, whose state does not follow from the job's "
                "seed. Draw by torch's own functions, such as torch.rand."
            )


def _check_parameters_kept(source: str, module: Any, before: dict[str, Any]) -> None:
    for name, parameter in module.named_parameters():
        old, new = before.get(name), parameter.detach()
        # by values: neither a change of .data nor a new parameter has a version that would tell
        if old is None or old.dtype != new.dtype or not np.array_equal(old.numpy(), new.numpy(), equal_nan=True):
            raise ModelError(
                f"{source}: a call of the module changes its parameter {name!r}, which only the optimizer may: the "
                "ranks would end with different weights. Compute from a changed copy of it, or keep what changes in a "
                "buffer (register_buffer); an Embedding must not have max_norm."
            )


def _state_of_numpy() -> Any:
    _, words, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - to see whether the module uses it
    return words.tobytes(), rest  # type: ignore[union-attr]


def _changed(source: str, module: Any, before: dict[str, tuple[Any, int, Any]], dtype: str) -> set[str]:
    import torch

    changed = set()
    for name, buffer in module.named_buffers():
        tensor, version, values = before.get(name, (None, 0, None))
        if tensor is buffer and buffer._version == version and torch.equal(buffer, values):
            continue
        if name.rpartition(".")[2] == _COUNTER:
            continue
        if buffer.dtype != getattr(torch, dtype):
            raise ModelError(
                f"{source}: training changes the buffer {name!r}, which is {type_of(buffer)} and can't be averaged "
                f"over the shards. Keep only state of type {dtype}."
            )
        if tensor is None or tensor.shape != buffer.shape:
            raise ModelError(f"{source}: training changes the shape of the buffer {name!r}. Create it in __init__.")
        changed.add(name)
    return changed


def type_of(tensor: Any) -> str:
    """Return the name of a tensor's type, without that of the library."""
    return str(tensor.dtype).removeprefix("torch.")


def check_outputs(outputs: Any, dtype: str, source: str) -> None:
    """Check what the module returned in a `probe`.

    Raises:
        ModelError: it is not one tensor of a row of numbers for each sample, or nothing that can be trained.
    """
    import torch

    if not isinstance(outputs, torch.Tensor):
        raise ModelError(f"{source}: the module must return one tensor, but returns {type(outputs).__name__}")
    if outputs.dtype != getattr(torch, dtype):
        raise ModelError(f"{source}: the module returns {type_of(outputs)}, but train.dtype is {dtype}: convert it")
    if outputs.dim() == 0 or outputs.shape[0] != _SAMPLES:
        raise ModelError(
            f"{source}: for {_SAMPLES} samples the module returns a tensor of shape {tuple(outputs.shape)}. Its first "
            "axis must be that of the samples."
        )
    if not outputs.requires_grad:
        raise ModelError(f"{source}: the outputs of the module do not depend on its parameters: nothing can learn")
