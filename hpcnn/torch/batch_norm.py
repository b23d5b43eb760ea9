"""Batch normalisation by the statistics of all ranks' batches together."""

from __future__ import annotations

from typing import Any

import torch

from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.errors import CommunicatorError
from hpcnn.torch.collectives import allreduce


class SyncBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """In place of ``torch.nn.SyncBatchNorm`` and ``horovod.torch.SyncBatchNorm``, on the CPU, too.

    Takes the arguments of ``torch.nn.BatchNorm2d``; inputs have the shape (n, channels, ...).
    """

    process_set: ProcessSet = global_process_set

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # PyTorch's name
        """Return the normalised input."""
        if not self.training or self.process_set.size() == 1:
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        own = input.numel() // input.shape[1]
        sums = torch.cat([input.sum(axes), input.new_tensor([own])])
        total = allreduce(sums, op=ReduceOp.SUM, process_set=self.process_set)
        count = total[-1].detach()
        if count <= 1:
            raise CommunicatorError("SyncBatchNorm needs more than one value per channel, over all ranks together")
        mean = total[:-1] / count
        centred = input - mean.reshape(shape)
        squares = allreduce(centred.square().sum(axes), op=ReduceOp.SUM, process_set=self.process_set)
        variance = squares / count
        self._follow(mean.detach(), variance.detach() * (count / (count - 1)))
        result = centred * torch.rsqrt(variance + self.eps).reshape(shape)
        if self.weight is not None:
            result = result * self.weight.reshape(shape) + self.bias.reshape(shape)
        return result

    def _follow(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Move the running averages, as PyTorch does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002
        if input.dim() < 2:
            raise CommunicatorError(f"SyncBatchNorm takes inputs of 2 or more dimensions, not {input.dim()}")

    @classmethod
    def convert_sync_batchnorm(cls, module: torch.nn.Module, process_group: ProcessSet | None = None) -> Any:
        """Return a module with `SyncBatchNorm` in place of PyTorch's batch normalisation, parameters kept."""
        result = module
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and not isinstance(module, cls):
            result = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
            result._parameters, result._buffers = module._parameters, module._buffers
            result.training = module.training
            if process_group is not None:
                result.process_set = process_group
        for name, child in module.named_children():
            result.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return result
