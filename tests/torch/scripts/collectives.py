"""Every collective of the drop-in: `check_*` functions that all ranks of mpirun run."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import hpcnn.torch as hvd
from hpcnn.errors import CommunicatorError
from tests.mpi.checks import run_checks

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64]
REDUCTIONS = [(hvd.Sum, np.sum), (hvd.Average, np.mean), (hvd.Min, np.min), (hvd.Max, np.max), (hvd.Product, np.prod)]


def own() -> torch.Tensor:
    return torch.tensor([[1.0, 2.0], [3.0, 4.0]]) + hvd.rank()


def everyone() -> np.ndarray:
    return np.stack([np.array([[1.0, 2.0], [3.0, 4.0]]) + rank for rank in range(hvd.size())])


def check_allreduce_of_every_type() -> None:
    for kind in TYPES:
        for op, reduce in REDUCTIONS:
            expected = reduce(everyone(), axis=0)
            got = hvd.allreduce(own().to(kind), op=op)
            assert got.dtype == kind
            np.testing.assert_allclose(got.double(), expected if kind.is_floating_point else np.floor(expected))


def check_forms_of_allreduce() -> None:
    mean = torch.from_numpy(everyone().mean(axis=0)).float()
    tensor = own()
    assert hvd.allreduce_(tensor) is tensor
    assert torch.equal(tensor, mean)
    handles = [hvd.allreduce_async(own()), hvd.allreduce_async_(other := own(), op=hvd.Sum)]
    grouped = hvd.grouped_allreduce_async([own(), own() * 2], prescale_factor=2.0)
    assert torch.equal(hvd.synchronize(handles[0]), mean)
    assert hvd.synchronize(handles[1]) is other
    assert torch.allclose(other, mean * hvd.size())
    for got, by in zip(hvd.synchronize(grouped), (2, 4), strict=True):
        assert torch.allclose(got, mean * by)
    assert hvd.poll(grouped)
    assert hvd.allreduce(3, average=False).item() == 3 * hvd.size()
    for compression in (hvd.Compression.fp16, hvd.Compression.bf16):
        tensor = (own() / 3).requires_grad_()
        got = hvd.allreduce(tensor, compression=compression)
        assert got.dtype == torch.float32
        assert torch.allclose(got, mean / 3, rtol=0.01)
        assert not torch.equal(got, mean / 3)
        got.sum().backward()
        assert torch.equal(tensor.grad, torch.ones_like(tensor))


def check_rows() -> None:
    rows = torch.arange(hvd.rank() + 1)
    assert hvd.allgather(rows).tolist() == [n for rank in range(hvd.size()) for n in range(rank + 1)]
    assert hvd.broadcast(rows[-1:], 0).tolist() == [0]
    tensor = own()
    assert torch.equal(hvd.broadcast_(tensor, hvd.size() - 1), torch.from_numpy(everyone()[-1]).float())
    received, counts = hvd.alltoall(torch.full((hvd.size(),), hvd.rank()), splits=[1] * hvd.size())
    assert received.tolist() == list(range(hvd.size()))
    assert counts.tolist() == [1] * hvd.size()
    half = own().bfloat16()
    assert torch.equal(hvd.allgather(half), torch.from_numpy(everyone().reshape(-1, 2)).bfloat16())
    share = hvd.reducescatter(torch.arange(6.0), op=hvd.Sum)
    assert torch.equal(hvd.allgather(share), torch.arange(6.0) * hvd.size())


def check_derivatives() -> None:
    size, rank = hvd.size(), hvd.rank()
    for call, expected in [
        (lambda x: hvd.allreduce(x, op=hvd.Sum).sum() * (rank + 1), sum(range(size + 1))),
        (lambda x: hvd.allgather(x).sum() * (rank + 1), sum(range(size + 1)) / size),
        (lambda x: hvd.broadcast(x, 0).sum() * (rank + 1), sum(range(size + 1)) / size * (rank == 0)),
        (lambda x: hvd.alltoall(x).sum() * (rank + 1), None),
        (lambda x: hvd.reducescatter(x, op=hvd.Sum).sum(), size),
    ]:
        x = torch.ones(2 * size, requires_grad=True)
        call(x).backward()
        of_ranks = torch.arange(1.0, size + 1).repeat_interleave(2)
        assert torch.allclose(x.grad, of_ranks if expected is None else torch.tensor(float(expected)))


def check_objects_and_sets() -> None:
    assert hvd.broadcast_object({"rank": hvd.rank()}, 0) == {"rank": 0}
    assert hvd.allgather_object(hvd.rank()) == list(range(hvd.size()))
    first = hvd.add_process_set([0]) if hvd.size() > 1 else hvd.global_process_set
    if first.included():
        assert hvd.allreduce(own(), process_set=first).tolist() == own().tolist()
    hvd.barrier()
    hvd.join()


def check_refusals() -> None:
    with pytest.raises(CommunicatorError, match=r"root_rank 9 is not one of the ranks"):
        hvd.broadcast(own(), 9)
    with pytest.raises(CommunicatorError, match=r"3 is no handle: give what a call that ends with _async returned"):
        hvd.synchronize(3)
    with pytest.raises(CommunicatorError, match=r"layout torch.sparse_coo and type .* can't be sent: make it dense"):
        hvd.allreduce(own().to_sparse())
    with pytest.raises(CommunicatorError, match=r"compression='fp16' is not one of hpcnn's"):
        hvd.allreduce(own(), compression="fp16")


if __name__ == "__main__":
    sys.modules["ml_dtypes"] = None  # which is not needed for bfloat16
    hvd.init()
    run_checks(globals(), hvd)
