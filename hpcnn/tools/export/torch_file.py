"""A trained model as files of PyTorch: its `state_dict` by name, and a program of `torch.export` or its ONNX graph."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hpcnn.backends.torch.model import TorchModel
from hpcnn.backends.torch.network import TorchNetwork
from hpcnn.backends.torch.runtime import ALONE, numbers_of
from hpcnn.errors import HpcnnError, shortened
from hpcnn.runs.inference import TrainedModel
from hpcnn.tools.outputs import writing

_SAMPLES = 2
"""Of the example that a program is traced with. It takes any number of them."""
Save = Callable[[Any, Any, Path], object]
"""``(module, example, file)``: writes what the module computes."""


def write_state_dict(trained: TrainedModel, path: Path) -> None:
    """Write what `load_state_dict` of the same module takes: PyTorch's names, tied weights under each of theirs."""
    from safetensors.torch import save_file

    assert isinstance(trained.model, TorchModel)
    with ALONE:
        state = trained.model.module_on_cpu().state_dict()
        tensors = {name: tensor.detach().clone() for name, tensor in state.items()}
    with writing(path) as temporary:
        save_file(tensors, temporary, {"format": "pt", "weights_sha256": trained.weights_sha256})


def write_program(trained: TrainedModel, path: Path, *, scaling: bool = True) -> None:
    """Write a program for `torch.export.load`; with `scaling`, in the units of the job's data."""
    import torch

    def save(module: Any, example: Any, file: Path) -> None:
        batch = {0: torch.export.Dim("batch")}
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=(batch,), strict=False), file)

    _write(trained, path, save, scaling=scaling)


def write_onnx_of_module(trained: TrainedModel, path: Path, *, scaling: bool = True) -> None:
    """Write an ONNX graph by PyTorch's exporter; with `scaling`, in the units of the job's data."""
    import torch

    def save(module: Any, example: Any, file: Path) -> None:
        axes = {"input": {0: "batch"}, "output": {0: "batch"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the newer exporter needs a package more
            torch.onnx.export(
                module, (example,), file, input_names=["input"], output_names=["output"], dynamic_axes=axes,
                dynamo=False,
            )  # fmt: skip

    _write(trained, path, save, scaling=scaling)


def _write(trained: TrainedModel, path: Path, save: Save, *, scaling: bool) -> None:
    import torch

    model, network = trained.model, trained.spec.network
    assert isinstance(model, TorchModel)
    assert isinstance(network, TorchNetwork)
    with tempfile.TemporaryDirectory() as folder, ALONE, numbers_of(network.dtype):
        own = model.module_on_cpu().eval()
        saved = Path(folder) / f"model{path.suffix}"  # PyTorch looks at the ending
        example = torch.zeros(_SAMPLES, *network.input_shape, dtype=getattr(torch, network.dtype))
        try:
            save(_whole(trained, own, network, scaling=scaling), example, saved)
        except Exception as error:
            raise HpcnnError(
                f"PyTorch can't write the model as {path.suffix}: {type(error).__name__}: {shortened(error)}. Use "
                "--format safetensors, which holds its state_dict."
            ) from None
        with writing(path) as temporary:
            temporary.write_bytes(saved.read_bytes())


def _whole(trained: TrainedModel, module: Any, network: TorchNetwork, *, scaling: bool) -> Any:
    """Return a module from the job's inputs to what `hpcnn predict` gives; scaling in float64, as in training."""
    import torch

    before = after = None
    if scaling and trained.scaling:
        before = _tensors(trained.scaling.flat(math.prod(network.input_shape)), network.input_shape)
    if scaling and trained.target_scaling:
        after = _tensors(trained.target_scaling.flat(math.prod(network.output_shape)), network.output_shape)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Any) -> Any:
            if before is not None:
                x = ((x.double() - before[0]) * before[1]).to(x.dtype)
            y = network.rows(network.call(self.module, x))
            return y if after is None else (y.double() / after[1] + after[0]).to(y.dtype)

    return Whole().eval()


def _tensors(values: tuple[NDArray[Any], NDArray[Any]], shape: tuple[int, ...]) -> list[Any]:
    import torch

    return [torch.tensor(one.reshape(shape) if one.shape else one) for one in values]
