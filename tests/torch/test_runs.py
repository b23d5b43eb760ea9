"""Runs in PyTorch mode: without the package, begun in one mode and ended in the other, exported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcnn.backends.choice import choose_backend
from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import HpcnnError, JobError, MissingExtraError
from hpcnn.export import _format as format_of
from hpcnn.export import _parser as parser
from hpcnn.job.load import load_job
from hpcnn.runs.inference import evaluate_trained, input_loader, open_trained, predict
from hpcnn.runs.session import train
from hpcnn.storage.checkpoint import load_checkpoint
from tests.mpi.launch import ROOT
from tests.require import require
from tests.torch.modes import torch_backend

USERS = "tests.torch.modules_of_users"
COMM = SerialCommunicator()


@pytest.fixture(scope="module", autouse=True)
def backend():
    with torch_backend() as started:
        yield started


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.checkpoint_activations=true", 'backend = "torch": remove it.*torch.utils.checkpoint does the same'),
        ("train.dtype=float64", 'torch.autocast = "bfloat16" is for weights of type float32, but train.dtype = "flo'),
    ],
)
def test_what_pytorch_mode_does_not_do(setting: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        load_job(overrides=["backend=torch", "torch.autocast=bfloat16", setting])


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    message = r'backend = "torch" needs the package \'torch\', which is not installed.*hpcnn\[torch\]'
    with pytest.raises(MissingExtraError, match=message):
        choose_backend(COMM)(load_job(overrides=["backend=torch"]).job)


def test_importing_hpcnn_does_not_import_torch() -> None:
    code = "import sys, hpcnn, hpcnn.train; hpcnn.fit; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


SHORT = ["train.epochs=2", "run.display=quiet", "run.checkpoint_gap_s=0"]


def run(out: Path, name: str, backend, *settings: str, resume: str = "never") -> Path:
    loaded = load_job(overrides=[*SHORT, f"backend={name}", *settings])
    train(loaded, COMM, out=out, resume=resume, backend=backend)
    return out


@pytest.mark.parametrize(("before", "after"), [("numpy", "torch"), ("torch", "numpy")])
def test_a_run_goes_on_in_the_other_mode(backend, tmp_path: Path, capfd, before: str, after: str) -> None:
    backends = {"numpy": NUMPY, "torch": backend}
    stopped = run(tmp_path / "run", before, backends[before], "run.stop_at_step=30")
    capfd.readouterr()
    run(stopped, after, backends[after], resume="auto")
    said = capfd.readouterr().out
    assert re.search(rf"started with backend = '{before}'.* and is resumed with backend = '{after}'", said)
    facts = load_checkpoint(stopped / "model.safetensors").facts
    assert facts["job"]["backend"] == after
    assert ("torch" in facts["machine"]) == (after == "torch")
    assert json.loads((stopped / "result.json").read_text())["steps"] == 46
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).uniform(0, 16, (50, 8, 8)))
    outputs, values = [], []
    for name, each in backends.items():
        opened = open_trained(stopped / "model.safetensors", backend=name, backend_of=lambda job, each=each: each)
        outputs.append(np.concatenate([*predict(opened, COMM, input_loader(opened, COMM, str(x)))]))
        values.append(evaluate_trained(opened, COMM, None)[2])
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
    assert values[0]["loss"] == pytest.approx(values[1]["loss"], rel=1e-5)
    assert values[1]["accuracy"] > 0.85


def test_a_module_that_was_trained_is_exported(backend, tmp_path: Path) -> None:
    require("onnxruntime")
    entry = f"{USERS}:cnn"
    folder = run(tmp_path / "run", "torch", backend, "model.layers=[]", f"model.entry={entry}")
    before = (folder / "model.safetensors").read_bytes()
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(0, 16, (5, 8, 8)).astype(np.float32))
    command = [sys.executable, "-m", "tests.torch.exported", str(folder), entry, str(tmp_path / "x.npy")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "model.safetensors").read_bytes() == before
    errors = json.loads(done.stdout.splitlines()[-1])
    assert errors.keys() == {"safetensors", "pt2", "onnx"}
    assert max(errors.values()) < 1e-5


def test_a_state_dict_holds_no_scaling() -> None:
    arguments = parser().parse_args(["run", "--format", "safetensors", "--no-scaling"])
    with pytest.raises(HpcnnError, match="--no-scaling has no effect with --format safetensors, which holds no scal"):
        format_of(arguments)
