"""`DistributedDataParallel`: a module whose gradients are the means over the samples of all ranks."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch.utils._pytree import tree_leaves

from hpcnn.comm.protocol import Array
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.world import connect_ranks
from hpcnn.errors import CommunicatorError
from hpcnn.torch.broadcasts import broadcast_tensors
from hpcnn.torch.reducer import Reducer

_MB = 2**20


class DistributedDataParallel(torch.nn.Module):
    """In place of ``torch.nn.parallel.DistributedDataParallel``, over MPI and shared memory.

    The gradient of a step is the mean over all its samples, on whichever rank they are: where ranks have batches of
    different sizes, each rank counts by its samples. The loss of each rank is to be the mean over its own batch.

    A copy, by ``copy.deepcopy`` or from a file of ``torch.save``, has weights of its own and takes nothing from the
    other ranks until it is trained: its first forward pass in training is to be on all of them.

    Args:
        module: gets the parameters and buffers of rank 0.
        device_ids: has no effect: the module computes where its parameters are.
        output_device: has no effect.
        dim: the dimension of inputs that counts samples.
        broadcast_buffers: after each step, all ranks get the buffers of rank 0, as the averages of batch normalisation.
        init_sync: give all ranks the parameters and buffers of rank 0.
        process_group: a `ProcessSet`; None: all ranks.
        bucket_cap_mb: MiB of gradients that are summed while the rest is computed; 0: all at the end; None: buckets
            between hosts, and all at the end within one.
        weighting: ``samples``, or ``ranks``: each rank counts the same, as in PyTorch.
        options: others of PyTorch's own class have no effect: parameters without a gradient count as zeros.

    Raises:
        CommunicatorError: no module, or one without a parameter that requires a gradient; one of a lazy module, or of
            a type whose gradients can't be added; the ranks have different modules.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        init_sync: bool = True,
        process_group: ProcessSet | None = None,
        bucket_cap_mb: float | None = None,
        *,
        weighting: str = "samples",
        **options: Any,
    ) -> None:
        super().__init__()
        connect_ranks()
        _check_options(weighting, options)
        _check_module(module)
        self.module, self.dim, self.weighting = module, dim, weighting
        self.require_backward_grad_sync = True
        self.broadcast_buffers = broadcast_buffers
        self._bucket = None if bucket_cap_mb is None else int(bucket_cap_mb * _MB)
        self._ranks = global_process_set if process_group is None else process_group
        if init_sync:
            broadcast_tensors([*module.parameters(), *module.buffers()], self._ranks.ranks[0], self._ranks)
        self._reset()
        self._start()

    def _reset(self) -> None:
        """Be between two steps, and not ready to exchange gradients."""
        self._samples = self._passes = 0
        self._weight = 1.0
        self._synchronizes = self._running = self._started = False
        self._reducer: Reducer | None = None

    def _start(self) -> None:
        """Make ready to exchange gradients, where any are computed. Collective."""
        named = {name: each for name, each in self.module.named_parameters() if each.requires_grad}
        if not named:
            return
        ranks, self._started = self._ranks, True
        self._first_rank = ranks.rank() == 0
        self._buffers_sent = list(self.module.buffers()) if self.broadcast_buffers and ranks.size() > 1 else []
        if ranks.size() > 1:
            self._reducer = Reducer(
                list(named.values()),
                ranks.group,
                detail=("DistributedDataParallel",),
                names=list(named),
                bucket=self._bucket,
                extra=sum(buffer.numel() for buffer in self._buffers_sent),
            )
            for number, parameter in enumerate(named.values()):
                hook = _hook(weakref.ref(self), number)
                parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a file holds: all but what exchanges gradients."""
        return {name: value for name, value in vars(self).items() if name not in ("_reducer", "_buffers_sent")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be a copy, which exchanges gradients from its first forward pass in training on."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._reset()

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return what the module returns."""
        trains = torch.is_grad_enabled() and self.training
        if trains and not self._started:
            connect_ranks()
            self._start()
        outputs = self.module(*inputs, **options)
        if self._reducer is None or not trains:
            return outputs
        self._synchronizes = self.require_backward_grad_sync
        self._samples += _count(inputs, options, self.dim) if self.weighting == "samples" else 1
        self._passes += 1
        if self._synchronizes:
            leaves = [outputs] if isinstance(outputs, torch.Tensor) else tree_leaves(outputs)
            for leaf in leaves:
                if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
                    leaf.register_hook(self._begin)  # type: ignore[no-untyped-call]
        return outputs

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let gradients accumulate on this rank, for forward passes within the block."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def join(self, *_unused: Any, **_options: Any) -> NoReturn:
        """Raise an error: batches are to be as many on each rank.

        Raises:
            CommunicatorError: always.
        """
        raise CommunicatorError(
            "DistributedDataParallel.join(): give each rank as many batches, by "
            "DataLoader(..., batch_sampler=hpcnn.torch.DistributedBatchSampler(sampler, batch_size))"
        )

    def register_comm_hook(self, *_unused: Any, **_options: Any) -> NoReturn:
        """Raise an error: gradients are added exactly.

        Raises:
            CommunicatorError: always.
        """
        raise CommunicatorError(
            "DistributedDataParallel.register_comm_hook(): gradients are added in shared memory and by MPI, without "
            "hooks. Compression is an option of hpcnn.torch.DistributedOptimizer."
        )

    def _begin(self, *_gradient: Any) -> None:
        """Begin the sum of a backward pass, which ends with it."""
        if self._running or not self._synchronizes or self._reducer is None:
            return
        self._running = True
        if self._passes:  # else it is another backward pass through the same forward pass
            self._weight = self._samples / self._passes
        self._samples = self._passes = 0
        torch.autograd.Variable._execution_engine.queue_callback(self._finish)
        self._reducer.begin(self._weight, self._fill_buffers if self._buffers_sent else None)

    def _put(self, number: int) -> None:
        """Take a gradient that a backward pass has computed."""
        if self._synchronizes and self._reducer is not None:
            self._begin()
            self._reducer.put(number)

    def _finish(self) -> None:
        assert self._reducer is not None
        self._running = False
        with torch.no_grad():
            buffers = self._reducer.finish(lambda weights: 1 / weights if weights else 0.0)
            start = 0
            for buffer in self._buffers_sent:
                values = buffers[start : start + buffer.numel()]
                if not self._first_rank:
                    buffer.copy_(torch.from_numpy(values).reshape(buffer.shape))
                start += buffer.numel()

    def _fill_buffers(self, own: Array) -> None:
        """Write the buffers of rank 0, and zeros elsewhere."""
        start = 0
        for buffer in self._buffers_sent:
            place = own[start : start + buffer.numel()]
            place[...] = buffer.detach().reshape(-1).double().cpu().numpy() if self._first_rank else 0
            start += buffer.numel()


def _hook(owner: weakref.ref[DistributedDataParallel], number: int) -> Callable[[torch.Tensor], None]:
    """Return a hook that does not keep its module: parameters may outlive it."""

    def computed(parameter: torch.Tensor) -> None:
        if (parallel := owner()) is not None:
            parallel._put(number)

    return computed


def _count(inputs: Any, options: Any, dim: int) -> int:
    """Return the number of samples of the first tensor."""
    alone = len(inputs) == 1 and not options and isinstance(inputs[0], torch.Tensor)
    for leaf in inputs if alone else tree_leaves((inputs, options)):
        if isinstance(leaf, torch.Tensor) and leaf.dim() > dim:
            return leaf.shape[dim]
    return 1


def _check_module(module: Any) -> None:
    if not isinstance(module, torch.nn.Module):
        raise CommunicatorError(f"DistributedDataParallel() takes a torch.nn.Module, not {type(module).__name__}")
    parameters = dict(module.named_parameters())
    for name, tensor in [*parameters.items(), *module.named_buffers()]:
        if torch.nn.parameter.is_lazy(tensor):
            raise CommunicatorError(
                f"DistributedDataParallel: {name!r} of the module has no shape before the module's first call. Call "
                "the module once on a batch, before DistributedDataParallel takes it."
            )
    if not any(parameter.requires_grad for parameter in parameters.values()):
        why = f"all {len(parameters)}, from {next(iter(parameters))!r} on, are frozen" if parameters else "it has none"
        raise CommunicatorError(
            f"DistributedDataParallel: no parameter of the module requires a gradient: {why}. Let one learn, by "
            "requires_grad_(), or use the module itself: without gradients there is nothing to exchange."
        )


_WITHOUT_EFFECT = {
    "find_unused_parameters",
    "check_reduction",
    "gradient_as_bucket_view",
    "static_graph",
    "device_mesh",
    "skip_all_reduce_unused_params",
}


def _check_options(weighting: str, options: dict[str, Any]) -> None:
    if weighting not in ("samples", "ranks"):
        raise CommunicatorError(f"weighting={weighting!r} is neither 'samples' nor 'ranks'")
    if unknown := sorted(set(options) - _WITHOUT_EFFECT):
        raise CommunicatorError(f"DistributedDataParallel has no option {', '.join(unknown)}: leave it out")
