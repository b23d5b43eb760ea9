"""A trained model as one ONNX file: raw inputs in, the outputs of `hpcnn predict` out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcnn import __version__
from hpcnn.data.samples import Scaling
from hpcnn.errors import ModelError
from hpcnn.nn.layer import Shape
from hpcnn.nn.network import Network
from hpcnn.nn.several_losses import BoundLosses
from hpcnn.runs.inference import TrainedModel
from hpcnn.tools.export.graph import KERNEL_TYPE, Array, Graph, add_scaling, undo_scaling
from hpcnn.tools.export.nodes import add_network
from hpcnn.tools.outputs import writing
from hpcnn.training.model import AnyLoss

OPSET, IR_VERSION = 17, 8
"""Of 2022: the oldest with layer normalisation; runtimes read older versions than their own."""
INPUT, OUTPUT, BATCH = "input", "output", "batch"
SIZE_LIMIT = 2**31
"""Bytes that one file can hold."""


def write_onnx(trained: TrainedModel, path: Path, *, scaling: bool = True) -> None:
    """Write the model to `path`; with `scaling`, inputs and outputs are in the units of the job's data."""
    network = trained.spec.network
    if not isinstance(network, Network):
        entry = trained.job.model.entry
        if not entry:
            raise ModelError("ONNX files are written from hpcnn's own layers. Leave out --backend.")
        raise ModelError(
            f"Keras computes what the function {entry!r} builds, and hpcnn can't write that as ONNX. If it returns an "
            "hpcnn.nn.Network, add --backend numpy; if a keras.Model, write it by --format keras, from where Keras's "
            "own model.export(..., format='onnx') may do more."
        )
    size = network.layout.size * np.dtype(KERNEL_TYPE).itemsize
    if size >= SIZE_LIMIT:
        raise ModelError(f"the parameters take {size} bytes, but an ONNX file holds 2 GiB at most. Use --format npz.")
    from onnx import helper

    model = onnx_model(
        network, trained.model.weights(), *((trained.scaling, trained.target_scaling) if scaling else ())
    )
    model.producer_name, model.producer_version = "hpcnn", __version__
    metadata = {
        "job": trained.job.name,
        "weights_sha256": trained.weights_sha256,
        "loss": _losses(trained.spec.loss),
        "scaling": _where(trained.scaling, scaling=scaling),
        "target_scaling": _where(trained.target_scaling, scaling=scaling),
    }
    recipe = trained.recipe
    if recipe is not None and recipe.columns:  # how columns become numbers is in no node of the graph
        metadata |= {"features": json.dumps(recipe.features), "recipe": msgspec.json.encode(recipe).decode()}
    if recipe is not None and recipe.words():
        metadata["classes"] = json.dumps(recipe.words())
    helper.set_model_props(model, metadata)
    model.graph.doc_string = f"{trained.job.name}, trained by hpcnn {__version__}"
    with writing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _where(measured: Scaling | None, *, scaling: bool) -> str:
    return "none" if measured is None else "in the file" if scaling else "left out"


def onnx_model(
    network: Network, weights: dict[str, Array], scaling: Scaling | None = None, target_scaling: Scaling | None = None
) -> Any:
    """Return the checked `onnx.ModelProto` of a network: float32, any number of samples at once."""
    import onnx
    from onnx import helper, numpy_helper

    graph = Graph(weights)
    inputs = network.inputs or {INPUT: network.input_shape}
    outputs = {output.name: output.shape for output in network.outputs} or {OUTPUT: network.output_shape}
    given = dict(_scaled(graph, inputs, scaling))
    for name, tensor in zip(outputs, add_network(graph, network, given), strict=True):
        if target_scaling is not None:
            shift, scale = (part.reshape(outputs[name]) if part.shape else part
                            for part in target_scaling.flat(math.prod(outputs[name])))  # fmt: skip
            tensor = undo_scaling(graph, shift, scale, tensor)
        graph.add("Identity", tensor, name=_output_name(name, network))
    made = helper.make_graph(
        graph.nodes,
        "hpcnn",
        [_tensor_info(name, shape) for name, shape in inputs.items()],
        [_tensor_info(_output_name(name, network), shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _output_name(name: str, network: Network) -> str:
    """Return the name of an output: that of its layer, unless an input has it."""
    return f"{name}_output" if name in network.inputs else name


def _losses(loss: AnyLoss) -> str:
    if isinstance(loss, BoundLosses):
        return ", ".join(f"{part.name}: {part.weight:g} {part.bound.loss.name}" for part in loss.parts)
    return loss.loss.name


def _scaled(graph: Graph, inputs: Mapping[str, Shape], scaling: Scaling | None) -> Iterator[tuple[str, str]]:
    """Yield each input with the tensor of what the network takes: a scaling is that of a row of all inputs."""
    start, entries = 0, sum(map(math.prod, inputs.values()))
    for name, shape in inputs.items():
        stop = start + math.prod(shape)
        if scaling is None:
            yield name, name
        else:
            shift, scale = (part[start:stop].reshape(shape) if part.shape else part for part in scaling.flat(entries))
            owner = "network" if inputs.keys() == {INPUT} else f"network/{name}"
            yield name, add_scaling(graph, shift, scale, name, owner)
        start = stop


def _tensor_info(name: str, shape: Shape) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])
