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
from hpcnn.errors import CommunicatorError, HpcnnError
from hpcnn.job.load import load_job
from hpcnn.runs.build import build_training
from hpcnn.training.backend import machines_of_ranks
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
