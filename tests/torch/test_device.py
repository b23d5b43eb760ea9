"""Computing on a device with memory of its own: gradients in pieces to the host, weights back; what jobs ask for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from hpcnn.backends.choice import choose_backend
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.errors import CommunicatorError, HpcnnError, JobError
from hpcnn.job.load import load_job
from hpcnn.runs.build import build_training
from hpcnn.training.backend import machines_of_ranks
from tests.nn.cases import LAYERS, LOSSES, LOSSES_BEHIND_HEADS
from tests.nn.cases.losses import loss_case
from tests.nn.helpers import alone
from tests.require import require
from tests.small_jobs import make_job, train
from tests.torch.modes import torch_backend

COMM = SerialCommunicator()


@pytest.fixture(scope="module", autouse=True)
def backend():
    with torch_backend() as started:
        yield started


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch):
    """Return a device whose gradients travel in the smallest pieces."""
    from hpcnn.backends.torch import gradient_copy
    from tests.torch.pretended import Pretended

    monkeypatch.setattr(gradient_copy, "PIECE_BYTES", 64)
    return Pretended()


def staged(backend, device):
    return type(backend)(backend.facts | device.facts, device)


def job_of(entry: str, **changes):
    model = {"layers": None, "entry": f"tests.torch.modules_of_users:{entry}"} if entry else {}
    return make_job(model=model, train={"shards": 2, **changes})


@pytest.mark.parametrize("entry", ["normalized", "tied", ""])
def test_the_same_bits_through_the_memory_of_a_device(backend, device, entry: str) -> None:
    """Weights, averages of batch normalisation, values of the validation, also of parameters that the loss ignores."""
    known = train(job_of(entry), backend=backend)
    found = train(job_of(entry), backend=staged(backend, device))
    assert found.bits() == known.bits()
    assert found.fingerprint == known.fingerprint
    assert [report.values for report in found.reports] == [report.values for report in known.reports]
    assert device.copies > 0
    assert (device.seeds > 0) == (entry != "tied")  # which draws nothing


def test_pieces_travel_while_others_are_computed(backend, device) -> None:
    """On two ranks, in buckets: each begins when its last gradient is asked for, and is added when it has come."""
    job = job_of("", bucket_mb=1e-4)
    known = train(job, backend=backend)
    found = train(job, ranks=2, backend=staged(backend, device))
    assert found.fingerprint == known.fingerprint


def test_passes_see_weights_that_have_changed(backend, device) -> None:
    """A copy on the device is kept within a step or an evaluation, and nowhere else."""
    training = build_training(job_of(""), Path(), COMM, staged(backend, device))
    model, x = training.replica.model, np.arange(10, dtype=np.float32).reshape(2, 5) ** 2
    before = model.predict(x).copy()
    model.vector[...] = 0
    after = model.predict(x)
    assert np.ptp(before) > 0
    assert np.ptp(after) == 0


def check_place(what: object, compute) -> None:
    """Compute on PyTorch's device without values, and check that no operation takes tensors of the CPU as well."""
    torch = require("torch")
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class OnePlace(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor) and one.dim()]
            mixed = len({one.device for one in given}) > 1 and operation is not torch.ops.aten.copy_.default
            assert not mixed, f"{what}: {operation} of tensors on several devices"
            return operation(*args, **(kwargs or {}))

    with OnePlace(), torch.no_grad():
        assert compute().device.type == "meta", what


def test_layers_and_losses_compute_where_their_inputs_are() -> None:
    torch = require("torch")
    from hpcnn.backends.torch.layers import to_torch
    from hpcnn.backends.torch.losses import sample_losses

    with pytest.raises(AssertionError, match=r"self-test: aten.mm.default of tensors on several devices"):
        check_place("self-test", lambda: torch.empty(3, 5, device="meta").mm(torch.ones(5, 2)))
    for name, (layer, shape) in LAYERS.items():
        module, _ = to_torch(alone(layer, shape).network, "float64")
        module.to("meta")
        x = torch.empty(4, *shape, dtype=torch.float64, device="meta")
        check_place(name, lambda module=module, x=x: module(x, logits=True))
    for name, head, outputs in dict.fromkeys(case[:3] for case in LOSSES_BEHIND_HEADS):
        logits, targets = (torch.from_numpy(one).to("meta") for one in loss_case(LOSSES[name], outputs))
        check_place(name, lambda one=(LOSSES[name], logits, targets, head): sample_losses(*one))


def test_a_job_that_asks_for_a_gpu_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = require("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    message = re.escape(f'torch.device = "cuda", but PyTorch {torch.__version__} sees no GPU: this build of PyTorch is')
    with pytest.raises(HpcnnError, match=message) as caught:
        choose_backend(COMM)(load_job(overrides=["backend=torch", "torch.device=cuda"]).job)
    assert caught.value.exit_code == 2
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(HpcnnError, match=r"`nvidia-smi` tells what the driver sees\. Set torch.device to"):
        choose_backend(COMM)(load_job(overrides=["backend=torch", "torch.device=cuda"]).job)
    chosen = choose_backend(COMM)(load_job(overrides=["backend=torch", "torch.device=auto"]).job)
    assert chosen.device is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "train.optimizer_sharding=true",
            'true is not supported with torch.comm = "distributed": remove it, or set torch.',
        ),
        ("train.compression=bf16", 'train.compression = "bf16" is not supported with torch.comm'),
        ("run.on_rank_loss=continue", 'run.on_rank_loss = "continue" is not supported with torch.comm'),
    ],
)
def test_what_a_process_group_does_not_do(setting: str, message: str) -> None:
    with pytest.raises(JobError, match=re.escape(message)):
        load_job(overrides=["backend=torch", "torch.comm=distributed", setting])
    load_job(overrides=["backend=torch", setting])


def test_ranks_that_can_be_no_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    dist = require("torch.distributed")
    from hpcnn.backends.torch import group_exchange

    with pytest.raises(
        CommunicatorError, match="ranks 0 and 2 have the same GPU, and NCCL needs one for each: start as"
    ):
        group_exchange._check_gpus(["a", "b", "a"])
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    with pytest.raises(
        CommunicatorError, match="this build of PyTorch can't sum by nccl: install another, or let hpcnn"
    ):
        group_exchange._is_connected(COMM, "nccl")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    for name, value in (("get_backend", "mpi"), ("get_rank", 1), ("get_world_size", 2)):
        monkeypatch.setattr(dist, name, lambda value=value: value)
    with pytest.raises(
        CommunicatorError, match="rank 0 of 1 is already rank 1 of 2 in PyTorch's default process group"
    ):
        group_exchange._is_connected(COMM, "gloo")
    store = group_exchange._store("localhost", 0, first=True)
    with pytest.raises(CommunicatorError, match=r"PyTorch can't connect the ranks at localhost:\d+: .* Else let hpcnn"):
        group_exchange._store("localhost", store.port, first=True)


def test_sums_in_any_order_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(HpcnnError, match="CUBLAS_WORKSPACE_CONFIG is ':0:0', with which cuBLAS may add in another"):
        choose_backend(COMM)(load_job(overrides=["backend=torch", "torch.device=cuda"]).job)


def test_ranks_on_different_devices(backend, device) -> None:
    job = make_job()

    def body(comm):
        with pytest.raises(CommunicatorError, match="rank 0 computes on cpu, and rank 1 on pretended: all ranks must"):
            machines_of_ranks(comm, job, staged(backend, device) if comm.rank else backend)

    run_threads(2, body)


def test_the_calls_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU of a rank by its number on the node, and a copy on its own stream, after what was computed."""
    torch, calls = require("torch"), []
    from hpcnn.backends.torch.device import device_of, prepare_device

    class Stream:
        def __init__(self, place=None):
            self.place = place

        def __getattr__(self, name):
            return lambda *given: calls.append((name, *given))

        def __enter__(self):
            calls.append(("enter",))

        def __exit__(self, *error):
            calls.append(("exit",))

    copies, current = Stream(), Stream()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # to be restored
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: calls.append(("set_device", number)))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "Stream", lambda place: copies)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda place: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "Event", Stream)
    torch.backends.cuda.matmul.allow_tf32 = True
    prepare_device("cuda")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with torch.backends.cudnn.flags(benchmark=True, deterministic=False, allow_tf32=True):
        found = device_of("cuda", local_rank=3)
        assert found.place == torch.device("cuda", 1)
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
    source, target = torch.ones(3), torch.zeros(3)
    found.copy(source, target).wait()
    assert target.tolist() == [1, 1, 1]
    assert calls == [
        ("set_device", 1), ("wait_stream", current), ("enter",), ("record", copies), ("exit",), ("synchronize",)
    ]  # fmt: skip
