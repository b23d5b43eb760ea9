"""The PyTorch module that a user's function builds: called with everything fixed, and checked before it is used."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from hpcnn.backends.torch.probe import call_once, type_of
from hpcnn.backends.torch.runtime import drawing_from, numbers_of
from hpcnn.errors import ModelError
from hpcnn.job.schema import Job
from hpcnn.models.entry import call_entry, seed_of_libraries
from hpcnn.nn.layer import Shape
from hpcnn.nn.network import Network
from hpcnn.nn.params import Initializer, ParamSpec


def build_entry(job: Job, shape: Shape, source: str) -> Any:
    """Return what the function ``model.entry`` returns: a checked `torch.nn.Module`, or an `hpcnn.nn.Network`.

    PyTorch's default type and its generator are those of the job for it. Lazy modules have been called once.

    Raises:
        JobError: there is no such function.
        ModelError: it fails, or returns something that can't be trained.
    """
    import torch

    with drawing_from(seed_of_libraries(job.train.seed)), numbers_of(job.train.dtype):
        module = call_entry(job.model, shape)
        if isinstance(module, Network):
            return module
        if not isinstance(module, torch.nn.Module):
            raise ModelError(f"{source} must return a torch.nn.Module, but returned {type(module).__name__}")
        tensors = [*module.parameters(), *module.buffers()]
        if any(torch.nn.parameter.is_lazy(tensor) for tensor in tensors):
            call_once(module, module, shape, job.train.dtype, source, training=False)
    _check_module(source, module)
    _check_parameters(source, module, job.train.dtype)
    return module


def _check_module(source: str, module: Any) -> None:
    import torch

    for name, inner in module.named_modules():
        averages = isinstance(inner, torch.nn.modules.batchnorm._NormBase) and inner.track_running_stats
        if averages and inner.momentum is None:
            raise ModelError(
                f"{source}: {name or 'the module'!r} has momentum=None: averages over all batches so far depend on "
                "how many shards each rank computes. Give it a momentum, as 0.1."
            )
        if isinstance(inner, torch.nn.SyncBatchNorm):
            raise ModelError(
                f"{source}: {name or 'the module'!r} is a SyncBatchNorm, which needs torch.distributed. Take "
                "BatchNorm1d, 2d or 3d: they are over gradient shards, the same for any number of ranks."
            )


def _check_parameters(source: str, module: Any, dtype: str) -> None:
    import torch

    named = list(module.named_parameters())
    if not named:
        raise ModelError(f"{source} returned a module without parameters: there is nothing to train")
    if not any(parameter.requires_grad for _, parameter in named):
        raise ModelError(f"{source} returned a module whose parameters all have requires_grad=False: none can learn")
    for name, parameter in named:
        if parameter.dtype != getattr(torch, dtype):
            raise ModelError(
                f"{source}: the parameter {name!r} is {type_of(parameter)}, but train.dtype is {dtype}. Leave the "
                "type to the job, which sets torch's default, or change train.dtype."
            )
        if parameter.device.type != "cpu":
            raise ModelError(
                f"{source}: the parameter {name!r} is on the device {str(parameter.device)!r}. Build the module on "
                "the CPU: hpcnn moves it to the job's torch.device."
            )


def specs_of(module: Any, state: Collection[str], dtype: str) -> list[ParamSpec]:
    """Return what the layout says of a module's parameters, its constant buffers, and its `state`, in this order.

    Buffers of other types, and those that its `state_dict` leaves out, stay as the function made them.
    """
    return [
        *(
            ParamSpec(name, tuple(tensor.shape), _start_of(tensor), tensor.requires_grad)
            for name, tensor in module.named_parameters()
        ),
        *(
            ParamSpec(name, tuple(tensor.shape), _start_of(tensor), trainable=False)
            for name, tensor in _kept_buffers(module, dtype)
            if name not in state
        ),
        *(
            ParamSpec(name, tuple(tensor.shape), _start_of(tensor), trainable=False, state=True)
            for name, tensor in module.named_buffers()
            if name in state
        ),
    ]


def _kept_buffers(module: Any, dtype: str) -> Iterator[tuple[str, Any]]:
    import torch

    kept = module.state_dict(keep_vars=True).keys()
    for name, buffer in module.named_buffers():
        if name in kept and buffer.dtype == getattr(torch, dtype):
            yield name, buffer


def _start_of(tensor: Any) -> Initializer:
    """Return what gives a parameter the value that the function gave the tensor."""
    values = tensor.detach().clone().numpy()
    return lambda shape, generator: values
