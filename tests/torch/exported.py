"""Exports a run and computes with each file by what it is for; its own process, since torch.export changes `os`.

    python -m tests.torch.exported RUN ENTRY X.npy

prints the largest difference from the run's own predictions, one a format, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file

from hpcnn.backends.torch.backend import TorchBackend
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.export import main as export
from hpcnn.models.entry import find_entry
from hpcnn.runs.inference import input_loader, open_trained, predict


def main(run: Path, entry: str, inputs: str) -> None:
    for form in ("safetensors", "pt2", "onnx"):
        assert export([str(run), "--format", form, "--entry", entry]) == 0
    comm, backend, x = SerialCommunicator(), TorchBackend.start(), np.load(inputs)
    opened = open_trained(run / "model.safetensors", entry=entry, backend_of=lambda job: backend)
    expected = np.concatenate([*predict(opened, comm, input_loader(opened, comm, inputs))])
    program = torch.export.load(run / "model.pt2").module()
    session = onnxruntime.InferenceSession(run / "model.onnx")
    module = find_entry(entry)((8, 8))
    module.load_state_dict(load_file(run / "state_dict.safetensors"))
    scaled = torch.tensor(((x - opened.scaling.shift) * opened.scaling.scale).astype(np.float32))
    found = {
        "pt2": program(torch.tensor(x)).detach().numpy(),
        "onnx": session.run(["output"], {"input": x})[0],
        "safetensors": module.eval()(scaled).softmax(-1).detach().numpy(),
    }
    print(json.dumps({form: float(np.abs(each - expected).max()) for form, each in found.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
