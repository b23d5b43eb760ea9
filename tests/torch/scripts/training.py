"""`DistributedDataParallel` and `DistributedOptimizer` against one process: `check_*` functions that all ranks run."""

from __future__ import annotations

import copy
import io
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch.nn.functional import cross_entropy

import hpcnn.torch as hvd
from hpcnn.backends.torch import gradient_copy
from hpcnn.comm.connect import connect
from hpcnn.data.readers.digits import load_digits
from hpcnn.errors import CommunicatorError
from hpcnn.runs.build import build_training
from hpcnn.tools.scaling import torch_ddp
from hpcnn.tools.scaling.measure import take_turns
from hpcnn.tools.scaling.names import DDP
from hpcnn.tools.scaling.sides import ddp_side
from hpcnn.tools.scaling.torch_ddp import TorchSteps
from hpcnn.torch import gradient_vector
from hpcnn.training.gradient_pass import Shards
from tests.mpi.checks import run_checks
from tests.small_jobs import make_job
from tests.torch.pretended import Pretended

SAMPLES = 23
"""So that some ranks have more than others."""


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (SAMPLES,), generator=generator)


def own_samples() -> torch.Tensor:
    return torch.tensor(list(hvd.DistributedSampler(range(SAMPLES), shuffle=False)))


def make_net(width: int = 8) -> torch.nn.Module:
    torch.manual_seed(3)
    layers = [torch.nn.Linear(6, width), torch.nn.Tanh(), torch.nn.Linear(width, width), torch.nn.Linear(width, 3)]
    return torch.nn.Sequential(*layers).double()


def gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in module.parameters()]


def expected(net: torch.nn.Module) -> list[torch.Tensor]:
    """Return the gradients over all samples in one process."""
    alone = copy.deepcopy(net)
    x, y = data()
    cross_entropy(alone(x), y).backward()
    return gradients(alone)


def same(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    bits = hvd.allgather_object([each.tolist() for each in found])
    return all(each == bits[0] for each in bits) and all(
        torch.allclose(a, b, rtol=0, atol=1e-14) for a, b in zip(found, wanted, strict=True)
    )


def check_gradient_is_the_mean_over_all_samples() -> None:
    x, y = (each[own_samples()] for each in data())
    for bucket in (None, 0, 0.001):
        net = make_net(200 if bucket else 8)
        wanted = expected(net)
        with torch.no_grad():
            net[0].bias += hvd.rank()  # rank 0's count
        parallel = hvd.DistributedDataParallel(net, bucket_cap_mb=bucket)
        assert list(parallel.state_dict()) == ["module." + name for name in net.state_dict()]
        for step in range(3):
            parallel.zero_grad(set_to_none=step > 1)
            cross_entropy(parallel(x), y).backward()
            assert same(gradients(net), wanted), (bucket, step)
        if bucket and hvd.size() > 1:
            assert parallel._reducer.overlap


def check_gradients_through_the_memory_of_a_device() -> None:
    """The same bits as without, also where ranks use different parameters, in pieces of all sizes."""
    x, y = (each[own_samples()] for each in data())
    for bucket, piece in ((0, 2**22), (0, 64), (0.001, 64)):
        with pytest.MonkeyPatch.context() as patch:
            found = []
            for device in (None, Pretended()):
                patch.setattr(gradient_vector, "device_of_all", lambda parameters, device=device: device)
                patch.setattr(gradient_copy, "PIECE_BYTES", piece)
                net = make_net(200)
                net.append(torch.nn.Linear(3, 3).double())
                parallel = hvd.DistributedDataParallel(net, bucket_cap_mb=bucket)
                for step in range(3):
                    parallel.zero_grad(set_to_none=step > 1)
                    net[4].requires_grad_(step != 1)
                    cross_entropy(parallel(x), y).backward()
                    found.append(gradients(net))
            half = len(found) // 2
            for one, other in zip(found[:half], found[half:], strict=True):
                assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), (bucket, piece)
            assert device.copies >= (3 if hvd.size() > 1 else 0)


def check_passes_without_synchronisation() -> None:
    net = make_net()
    wanted = expected(net)
    parallel = hvd.DistributedDataParallel(net)
    x, y = (each[own_samples()] for each in data())
    with parallel.no_sync():
        (cross_entropy(parallel(x), y) / 2).backward()
    (cross_entropy(parallel(x), y) / 2).backward()
    assert same(gradients(net), wanted)


def check_copies() -> None:
    """Copies have weights of their own, exchange nothing until they are trained, and then train as the original."""
    net = make_net()
    wanted = expected(net)
    everyone = hvd.DistributedDataParallel(net)
    x, y = (each[own_samples()] for each in data())
    cross_entropy(everyone(x), y).backward()
    kept = io.BytesIO()
    torch.save(everyone, kept)
    kept.seek(0)
    for parallel in (copy.deepcopy(everyone), torch.load(kept, weights_only=False)):
        frozen = copy.deepcopy(parallel).requires_grad_(False)
        if hvd.rank() == 0:  # alone
            assert torch.equal(frozen(x), everyone.eval()(x))
            everyone.train()
        assert list(parallel.state_dict()) == list(everyone.state_dict())
        for one in (parallel, everyone):
            one.zero_grad()
            cross_entropy(one(x), y).backward()
            assert same(gradients(one), wanted)
    averaged = torch.optim.swa_utils.AveragedModel(everyone, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0))
    before = copy.deepcopy(net.state_dict())
    averaged.update_parameters(everyone)
    with torch.no_grad():
        net[0].bias += 1
    assert torch.equal(averaged.module.module[0].bias, before["0.bias"])
    averaged.update_parameters(everyone)
    assert torch.equal(averaged.module.module[0].bias, before["0.bias"] + 1)
    part = hvd.add_process_set([0, hvd.size() - 1]) if hvd.size() > 2 else hvd.ProcessSet([0])
    assert (copy.deepcopy(part) is part) == (hvd.size() > 2)
    assert copy.deepcopy(part).ranks == part.ranks


class Branches(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (torch.nn.Linear(6, 3).double() for _ in range(3))

    def forward(self, x: torch.Tensor, which: int) -> dict[str, torch.Tensor]:
        return {"out": (self.first if which == 0 else self.second)(x)}


def check_parameters_that_some_ranks_do_not_use() -> None:
    net = Branches()
    parallel = hvd.DistributedDataParallel(net, find_unused_parameters=True)
    x, y = data()
    cross_entropy(parallel(x, hvd.rank())["out"], y).backward()
    assert net.third.weight.grad is None  # no rank uses it: momentum must not move it
    assert (net.second.weight.grad is None) == (hvd.size() == 1)
    alone = Branches()
    alone.load_state_dict(net.state_dict())
    cross_entropy(alone(x, 0)["out"], y).backward()
    assert torch.allclose(net.first.weight.grad, alone.first.weight.grad / hvd.size(), rtol=0, atol=1e-14)


def check_buffers_are_those_of_rank_0() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.BatchNorm1d(3)).double()
    parallel = hvd.DistributedDataParallel(net)
    torch.manual_seed(hvd.rank())
    seen = torch.randn(5, 6, dtype=torch.float64)
    alone = copy.deepcopy(net)
    alone(seen)
    parallel(seen).square().sum().backward()
    buffers = [each.tolist() for each in net.buffers()]
    assert (
        hvd.allgather_object(buffers)
        == [hvd.broadcast_object([each.tolist() for each in alone.buffers()])] * hvd.size()
    )


def check_distributed_optimizer() -> None:
    for passes, predivide in [(1, 1.0), (2, 2.0)]:
        net = make_net()
        inner = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.5)
        torch.optim.lr_scheduler.StepLR(inner, 1)  # which replaces inner.step
        optimizer = hvd.DistributedOptimizer(
            inner, net.named_parameters(), backward_passes_per_step=passes, gradient_predivide_factor=predivide
        )
        assert isinstance(optimizer, torch.optim.SGD)
        hvd.broadcast_parameters(net.state_dict(), root_rank=0)
        every_x, every_y = (each[: SAMPLES // 6 * 6] for each in data())  # as many on each rank
        x, y = (each.chunk(hvd.size())[hvd.rank()] for each in (every_x, every_y))
        whole = copy.deepcopy(net)
        cross_entropy(whole(every_x), every_y).backward()
        for _ in range(2):
            optimizer.zero_grad()
            for _ in range(passes):
                (cross_entropy(net(x), y) / passes).backward()
            optimizer.synchronize()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1e9)
            with optimizer.skip_synchronize():
                optimizer.step()
            assert same(gradients(net), gradients(whole))
            optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()
        for _ in range(passes):
            (cross_entropy(net(x), y) / passes).backward()
        optimizer.step()
        assert same(gradients(net), gradients(whole))


def check_compressed_gradients() -> None:
    """What a step's rounding loses comes with the next: the mean over steps is nearer than any one step."""
    x, y = (each[: SAMPLES // 6 * 6].chunk(hvd.size())[hvd.rank()] for each in data())
    for compression, step_loss in ((hvd.Compression.bf16, 2**-8), (hvd.Compression.fp16, 2**-11)):
        net = make_net()
        hvd.broadcast_parameters(net.state_dict())
        inner = torch.optim.SGD(net.parameters(), lr=0.0)
        alone = copy.deepcopy(net)
        cross_entropy(alone(x), y).backward()
        wanted = [hvd.allreduce(each.grad) for each in alone.parameters()]
        optimizer = hvd.DistributedOptimizer(inner, compression=compression)
        total = [torch.zeros_like(each) for each in wanted]
        for _ in range(16):
            optimizer.zero_grad()
            cross_entropy(net(x), y).backward()
            optimizer.step()
            for own, found, known in zip(total, gradients(net), wanted, strict=True):
                own += found / 16
                assert (found - known).abs().max() < 4 * step_loss * known.abs().max()
        assert not same(gradients(net), wanted)
        for own, known in zip(total, wanted, strict=True):
            assert (own - known).abs().max() < step_loss * known.abs().max() / 2


def check_a_script_for_horovod_learns() -> None:
    """Train as Horovod's example for MNIST does, on the digits, with a higher learning rate.

    With its own, for epochs of 900 steps, two epochs of the digits teach a module nothing in plain PyTorch either.
    """
    x, y = load_digits()
    images, labels = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    torch.manual_seed(hvd.rank())
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Dropout(0.2),
        torch.nn.Linear(72, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05 * hvd.size(), momentum=0.9)
    hvd.broadcast_parameters(net.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=net.named_parameters())
    sampler = torch.utils.data.DistributedSampler(range(1500), hvd.size(), hvd.rank())
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for chosen in torch.tensor(list(sampler)).split(32):
            optimizer.zero_grad()
            cross_entropy(net(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    net.eval()
    own = slice(1500 + hvd.rank(), None, hvd.size())
    accuracy = hvd.allreduce((net(images[own]).argmax(1) == labels[own]).float().mean())
    assert accuracy > 0.8
    weights = [each.tolist() for each in net.parameters()]
    assert hvd.allgather_object(weights) == [weights] * hvd.size()


def check_ranks_that_have_joined() -> None:
    """One rank takes two steps more than the others, whose gradients count as zeros."""
    for width in (8, 200):
        net = make_net(width)
        optimizer = hvd.DistributedOptimizer(torch.optim.SGD(net.parameters(), lr=0.0))
        wanted = [each / hvd.size() for each in expected(net)]
        x, y = data()
        for step in range(3 if hvd.rank() == 0 else 1):
            optimizer.zero_grad()
            cross_entropy(net(x), y).backward()
            optimizer.step()
            factor = 1 if step else hvd.size()
            for got, want in zip(gradients(net), wanted, strict=True):
                assert torch.allclose(got, want * factor, rtol=0, atol=1e-14)
        assert hvd.join() == 0


def check_state_of_an_optimizer() -> None:
    net = make_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1 * (hvd.rank() + 1))
    if hvd.rank() == 0:
        net(data()[0]).sum().backward()
        optimizer.step()
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    assert optimizer.param_groups[0]["lr"] == 0.1
    state = [value.tolist() for own in optimizer.state.values() for value in own.values()]
    assert len(state) == 18
    assert hvd.allgather_object(state) == [state] * hvd.size()


def check_synchronous_batch_norm() -> None:
    x, _ = data()
    alone = torch.nn.BatchNorm1d(6).double()
    together = hvd.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(alone))
    for module, inputs in ((alone, x), (together, x[own_samples()])):
        (module(inputs) ** 3).sum().backward()
    assert torch.allclose(hvd.allreduce(together.weight.grad, op=hvd.Sum), alone.weight.grad)
    for name, value in alone.state_dict().items():
        assert torch.allclose(together.state_dict()[name], value), name


def check_samplers() -> None:
    for samples in (23, 64, 65):
        sampler = hvd.DistributedSampler(range(samples), seed=5)
        sampler.set_epoch(2)
        assert sorted(chain.from_iterable(hvd.allgather_object(list(sampler)))) == list(range(samples))
        batches = list(hvd.DistributedBatchSampler(sampler, 8))
        assert list(chain.from_iterable(batches)) == list(sampler)
        assert len(set(hvd.allgather_object(len(batches)))) == 1
        assert max(map(len, batches)) <= 8


class Recording(TorchSteps):
    """Keeps the losses."""

    losses: ClassVar[list[float]] = []

    def __call__(self, samples: Shards, factor: float) -> torch.Tensor:
        loss = super().__call__(samples, factor)
        self.losses.append(float(loss))
        return loss


def check_pytorchs_own_class_in_a_scaling_study() -> None:
    """It learns, and all ranks hold equal weights; the last batches of epochs leave ranks without samples."""
    comm, dense = connect(), {"type": "dense", "units": 9, "activation": "relu"}
    layers = [dense, dense | {"units": 3, "activation": "softmax"}]
    training = build_training(make_job(model={"layers": layers}, train={"metrics": []}), Path(), comm)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_ddp, "TorchSteps", Recording)
        found = take_turns(comm, [ddp_side(training, comm, stack)], 10)[DDP]
    losses = Recording.losses
    assert len(losses) == found["steps"] == 90
    assert sum(losses[-6:]) < 0.7 * sum(losses[:6])
    assert hvd.allgather_object(found["weights_sha256"]) == [found["weights_sha256"]] * hvd.size()


def check_refusals() -> None:
    net = make_net()
    with pytest.raises(CommunicatorError, match=r"takes an optimizer of PyTorch, as torch\.optim\.Adam"):
        hvd.DistributedOptimizer(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(CommunicatorError, match="named_parameters lacks 4 of the 6 parameters of the optimizer"):
        hvd.DistributedOptimizer(optimizer, list(net.named_parameters())[:2])
    with pytest.raises(CommunicatorError, match="op=Max: gradients are reduced by Average or Sum"):
        hvd.DistributedOptimizer(optimizer, op=hvd.Max)
    frozen, complex_one = torch.nn.Linear(3, 1).requires_grad_(False), torch.nn.Linear(3, 1, dtype=torch.complex64)
    for module, message in (
        ("x", r"takes a torch\.nn\.Module, not str"),
        (torch.nn.ReLU(), "no parameter of the module requires a gradient: it has none. Let one learn"),
        (frozen, "requires a gradient: all 2, from 'weight' on, are frozen"),
        (
            torch.nn.Sequential(torch.nn.LazyLinear(3)),
            r"'0\.weight' of the module has no shape .* Call the module once",
        ),
    ):
        with pytest.raises(CommunicatorError, match=message):
            hvd.DistributedDataParallel(module)
    if hvd.size() > 1:
        with pytest.raises(
            CommunicatorError, match=r"parameter 'weight' is of type complex64, .* torch\.view_as_complex"
        ):
            hvd.DistributedDataParallel(complex_one)
        with pytest.raises(CommunicatorError, match=r"a parameter of shape \(1, 3\) is of type complex64"):
            hvd.DistributedOptimizer(torch.optim.SGD(complex_one.parameters(), lr=0.1))
    with pytest.raises(CommunicatorError, match="DistributedDataParallel has no option buckets: leave it out"):
        hvd.DistributedDataParallel(net, buckets=3)


if __name__ == "__main__":
    hvd.init()
    torch.set_num_threads(1)
    run_checks(globals(), hvd)
