"""A trained model as one ONNX file: raw inputs in, the outputs of `hpcnn predict` out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpcnn import __version__
from hpcnn.data.samples import Scaling
from hpcnn.errors import ModelError
from hpcnn.nn.layer import Shape
from hpcnn.nn.network import Network
from hpcnn.runs.inference import TrainedModel
from hpcnn.tools.export.graph import KERNEL_TYPE, Array, Graph, add_scaling
from hpcnn.tools.export.nodes import add_network
from hpcnn.tools.outputs import writing

OPSET, IR_VERSION = 17, 8
"""Of 2022: the oldest with layer normalisation; runtimes read older versions than their own."""
INPUT, OUTPUT, BATCH = "input", "output", "batch"
SIZE_LIMIT = 2**31
"""Bytes that one file can hold."""


def write_onnx(trained: TrainedModel, path: Path, *, scaling: bool = True) -> None:
    """Write the model to `path`; with `scaling`, it takes inputs as they are in the job's data."""
    network = trained.spec.network
    if not isinstance(network, Network):
        entry = trained.job.model.entry
        if not entry:
            raise ModelError("ONNX files are written from hpcnn's own layers. Leave out --backend keras.")
        raise ModelError(
            f"Keras computes what the function {entry!r} builds, and hpcnn can't write that as ONNX. If it returns an "
            "hpcnn.nn.Network, add --backend numpy; if a keras.Model, write it by --format keras, from where Keras's "
            "own model.export(..., format='onnx') may do more."
        )
    size = network.layout.size * np.dtype(KERNEL_TYPE).itemsize
    if size >= SIZE_LIMIT:
        raise ModelError(f"the parameters take {size} bytes, but an ONNX file holds 2 GiB at most. Use --format npz.")
    from onnx import helper

    model = onnx_model(network, trained.model.weights(), trained.scaling if scaling else None)
    model.producer_name, model.producer_version = "hpcnn", __version__
    metadata = {
        "job": trained.job.name,
        "weights_sha256": trained.weights_sha256,
        "loss": trained.spec.loss.loss.name,
        "scaling": "in the file" if scaling and trained.scaling else "none" if trained.scaling is None else "left out",
    }
    helper.set_model_props(model, metadata)
    model.graph.doc_string = f"{trained.job.name}, trained by hpcnn {__version__}"
    with writing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def onnx_model(network: Network, weights: dict[str, Array], scaling: Scaling | None) -> Any:
    """Return the checked `onnx.ModelProto` of a network: float32, any number of samples at once."""
    import onnx
    from onnx import helper, numpy_helper

    graph = Graph(weights)
    tensor = INPUT
    if scaling is not None:
        shape = network.input_shape
        tensor = add_scaling(graph, _fit(scaling.shift, shape), _fit(scaling.scale, shape), INPUT)
    graph.add("Identity", add_network(graph, network, tensor), name=OUTPUT)
    made = helper.make_graph(
        graph.nodes,
        "hpcnn",
        [_tensor_info(INPUT, network.input_shape)],
        [_tensor_info(OUTPUT, network.output_shape)],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _fit(values: Array, shape: Shape) -> Array:
    """Return statistics of the data in the network's input shape, from which they may differ by axes of length 1."""
    return values.reshape(shape) if values.shape else values


def _tensor_info(name: str, shape: Shape) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])
