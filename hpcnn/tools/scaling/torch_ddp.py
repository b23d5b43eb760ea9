"""The network of a job, trained by PyTorch's DistributedDataParallel over gloo: dense networks with common settings."""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcnn.comm.collectives import agree
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError, JobError, MissingExtraError
from hpcnn.job import layers, optimizer
from hpcnn.job.model import BinaryCrossentropy, LossSection, Mse, SparseCategoricalCrossentropy
from hpcnn.job.schema import Job
from hpcnn.system.denormals import FlushDenormals
from hpcnn.training.gradient_pass import Shards

if TYPE_CHECKING:
    import torch

_INTERFACE = "GLOO_SOCKET_IFNAME"
_CONNECT_S = 60.0
_ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of netdevice(7)
_LOSSES: tuple[tuple[LossSection, str, str], ...] = (
    (SparseCategoricalCrossentropy(), "softmax", "cross_entropy"),
    (BinaryCrossentropy(), "sigmoid", "binary_cross_entropy_with_logits"),
    (Mse(), "", "mse_loss"),
)
"""The losses, each with the last activation that PyTorch's includes, and its function there."""


def check_torch(job: Job, input_shape: Sequence[int]) -> None:
    """Raise an error if PyTorch is not installed, or can't train the job with modules of the same meaning.

    Raises:
        MissingExtraError: it is not installed.
        JobError: the job has more than dense layers, dropout, and common losses and optimizers.
    """
    try:
        import torch.distributed
    except ImportError:
        raise MissingExtraError("torch", "torch", "PyTorch DDP") from None
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise CommunicatorError("this PyTorch was built without gloo")
    make_module(job, input_shape)
    make_optimizer(job, [torch.nn.Parameter(torch.zeros(1))])


def make_module(job: Job, input_shape: Sequence[int]) -> torch.nn.Module:
    """Return the network of a job whose last activation, if the loss includes it, is left out.

    Raises:
        JobError: it has something that is not translated.
    """
    from torch import nn

    included, _ = _loss(job)
    if job.backend == "keras" or not job.model.layers or job.model.inputs:
        raise JobError("only networks that are a list of layers (model.layers) are translated to PyTorch")
    if job.train.dtype != "float32" or job.data.augment is not None:
        raise JobError("only float32 and data without augmentation are translated to PyTorch")
    shape, modules, last = list(input_shape), [], job.model.layers[-1]
    for layer in job.model.layers:
        if layer.inputs:
            raise JobError("only layers that follow each other are translated to PyTorch")
        modules += _modules(layer, shape)
    ending = getattr(last, "activation", "linear")
    if included and ending != included:
        raise JobError(f"only a last layer with activation = {included!r} is translated to PyTorch with this loss")
    return nn.Sequential(*(modules[:-1] if included else modules))


def _loss(job: Job) -> tuple[str, str]:
    for known, ending, function in _LOSSES:
        if job.loss == known:
            return ending, function
    raise JobError(
        "only the losses sparse_categorical_crossentropy, binary_crossentropy and mse, without options, are translated "
        "to PyTorch"
    )


def _modules(layer: layers.Layer, shape: list[int]) -> list[torch.nn.Module]:
    """Return the modules of a layer, and change `shape` to that of its outputs."""
    from torch import nn

    if isinstance(layer, layers.Flatten):
        shape[:] = [math.prod(shape)]
        return [nn.Flatten()]
    if isinstance(layer, layers.Dropout):
        return [nn.Dropout(layer.rate)]
    if isinstance(layer, layers.ActivationLayer):
        return _activation(layer.activation)
    if isinstance(layer, layers.Dense) and layer.trainable:
        penalties = (layer.kernel_l1, layer.kernel_l2, layer.bias_l1, layer.bias_l2)
        if not any(penalties):
            before, shape[-1] = shape[-1], layer.units
            return [nn.Linear(before, layer.units, bias=layer.use_bias), *_activation(layer.activation)]
    raise JobError(
        "only dense layers without penalties, flatten, dropout and activations are translated to PyTorch, and this job "
        f"has {type(layer).__name__}"
    )


def _activation(name: str) -> list[torch.nn.Module]:
    from torch import nn

    known: dict[str, Callable[[], nn.Module]] = {
        "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "softmax": lambda: nn.Softmax(-1), "elu": nn.ELU,
        "selu": nn.SELU, "swish": nn.SiLU, "softplus": nn.Softplus,
    }  # fmt: skip
    if name == "linear":
        return []
    if name not in known:
        raise JobError(f"the activation {name!r} is not translated to PyTorch")
    return [known[name]()]


def make_optimizer(job: Job, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer of a job, fused where PyTorch has that.

    Raises:
        JobError: it is not translated.
    """
    import torch

    chosen = job.optimizer
    if chosen.clip_norm or chosen.clip_value:
        raise JobError("clipped gradients are not translated to PyTorch")
    if isinstance(chosen, optimizer.Sgd) and not chosen.decay:
        momentum, nesterov = chosen.momentum, chosen.nesterov and chosen.momentum > 0
        return torch.optim.SGD(parameters, chosen.learning_rate, momentum=momentum, nesterov=nesterov, fused=True)
    if isinstance(chosen, optimizer.AdamSection):
        decay = chosen.weight_decay if isinstance(chosen, optimizer.AdamW) else 0.0
        betas, kind = (chosen.beta_1, chosen.beta_2), torch.optim.AdamW if decay else torch.optim.Adam
        return kind(parameters, chosen.learning_rate, betas=betas, eps=chosen.epsilon, weight_decay=decay, fused=True)
    raise JobError("only sgd without decay, adam and adamw are translated to PyTorch")


class TorchSteps:
    """Training steps of DistributedDataParallel with its options for speed, on the samples that hpcnn takes."""

    def __init__(self, job: Job, input_shape: Sequence[int], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._denormals = FlushDenormals()  # as hpcnn's arithmetic does; else tiny gradients slow PyTorch down
        ddp: Any = torch.nn.parallel.DistributedDataParallel
        self._module = ddp(make_module(job, input_shape), gradient_as_bucket_view=True, static_graph=True)
        self._optimizer = make_optimizer(job, list(self._module.parameters()))
        self._rate = job.optimizer.learning_rate
        self._labels = isinstance(job.loss, SparseCategoricalCrossentropy)
        self._criterion: Callable[..., Any] = getattr(torch.nn.functional, _loss(job)[1])

    def __call__(self, samples: Shards, factor: float) -> torch.Tensor:
        """Do one step, and return the mean loss of these samples before it; `factor` multiplies the learning rate."""
        import torch

        x, y = torch.from_numpy(np.asarray(samples.x)), torch.from_numpy(np.asarray(samples.y))
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * factor
        with self._denormals:
            self._optimizer.zero_grad()
            outputs = self._module(x)
            targets = y.reshape(-1) if self._labels else y.reshape(outputs.shape).to(outputs.dtype)
            total = self._criterion(outputs, targets, reduction="sum")
            count = max(1, targets.numel())  # the last batch of an epoch may leave a rank without samples
            loss: torch.Tensor = total / count
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        return loss.detach()

    def sha256(self) -> str:
        """Return the SHA-256 of the parameters, in their order."""
        weights = b"".join(parameter.detach().numpy().tobytes() for parameter in self._module.parameters())
        return hashlib.sha256(weights).hexdigest()


@contextmanager
def process_group(comm: Communicator) -> Iterator[None]:
    """Make the ranks PyTorch's default process group over gloo. Collective.

    Raises:
        CommunicatorError: on all ranks, if any can't connect.
    """
    import torch.distributed

    dist: Any = torch.distributed
    hosts = comm.allgather(comm.host)
    timeout = timedelta(seconds=_CONNECT_S)
    store: list[Any] = []

    def serve() -> int:
        if comm.rank == 0:
            store.append(dist.TCPStore(hosts[0], 0, comm.size, is_master=True, wait_for_workers=False))
        return int(store[0].port) if store else 0

    def connect() -> None:
        if comm.rank:
            store.append(dist.TCPStore(hosts[0], port, comm.size, is_master=False, timeout=timeout))
        other = next((host for host in hosts if host != comm.host), None)
        os.environ.setdefault(_INTERFACE, _interface_to(other) if other else "lo")
        dist.init_process_group("gloo", store=store[0], rank=comm.rank, world_size=comm.size, timeout=timeout)

    port = comm.broadcast(agree(comm, lambda: _in_words(serve)))
    agree(comm, lambda: _in_words(connect))
    try:
        yield
    finally:
        dist.destroy_process_group()


def _in_words(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (OSError, RuntimeError) as error:
        raise CommunicatorError(
            f"gloo could not connect the ranks ({str(error).splitlines()[0]}). Name the network interface of the nodes "
            f"in slurm/site.sh: export {_INTERFACE}=eth0"
        ) from None


def _interface_to(host: str) -> str:
    """Return the name of the network interface through which another host is reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe, _ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()[:15]))
            except OSError:  # one without an address
                continue
            if socket.inet_ntoa(found[20:24]) == own:
                return name
    raise OSError(f"no network interface has the address {own}, by which {host} is reached")
