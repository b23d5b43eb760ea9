"""From the sections of a job file to a network and a loss."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from hpcnn.errors import HpcnnError, JobError, ModelError, nearest
from hpcnn.job import layers as sections
from hpcnn.job import model as schema
from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import (
    ELU,
    GRU,
    LSTM,
    Activation,
    Add,
    Average,
    AveragePooling,
    BatchNormalization,
    Bidirectional,
    Block,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Cropping,
    CrossAttention,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GlobalAveragePooling,
    GlobalMaxPooling,
    GroupNormalization,
    LayerNorm,
    LeakyReLU,
    Maximum,
    MaxPooling,
    MultiHeadAttention,
    Multiply,
    PaddingMask,
    Permute,
    PositionalEmbedding,
    PReLU,
    RepeatVector,
    Reshape,
    Residual,
    RMSNormalization,
    SeparableConv2D,
    Shared,
    SimpleRNN,
    SpatialDropout,
    TimeDistributed,
    UpSampling,
    ZeroPadding,
)
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.losses import LOSSES
from hpcnn.nn.network import Network, same_sample_shape
from hpcnn.system.search_path import add_working_folder

LAYERS: dict[str, type[Layer]] = {
    "dense": Dense,
    "activation": Activation,
    "flatten": Flatten,
    "reshape": Reshape,
    "dropout": Dropout,
    "layer_norm": LayerNorm,
    "add": Add,
    "multiply": Multiply,
    "average": Average,
    "maximum": Maximum,
    "concatenate": Concatenate,
    "residual": Residual,
    "block": Block,
    "shared": Shared,
    "conv1d": Conv1D,
    "conv2d": Conv2D,
    "conv3d": Conv3D,
    "depthwise_conv2d": DepthwiseConv2D,
    "separable_conv2d": SeparableConv2D,
    "conv1d_transpose": Conv1DTranspose,
    "conv2d_transpose": Conv2DTranspose,
    "conv3d_transpose": Conv3DTranspose,
    "batch_normalization": BatchNormalization,
    "group_normalization": GroupNormalization,
    "rms_normalization": RMSNormalization,
    "max_pooling": MaxPooling,
    "average_pooling": AveragePooling,
    "global_max_pooling": GlobalMaxPooling,
    "global_average_pooling": GlobalAveragePooling,
    "zero_padding": ZeroPadding,
    "cropping": Cropping,
    "up_sampling": UpSampling,
    "permute": Permute,
    "repeat_vector": RepeatVector,
    "gaussian_noise": GaussianNoise,
    "spatial_dropout": SpatialDropout,
    "prelu": PReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "embedding": Embedding,
    "positional_embedding": PositionalEmbedding,
    "padding_mask": PaddingMask,
    "multi_head_attention": MultiHeadAttention,
    "cross_attention": CrossAttention,
    "simple_rnn": SimpleRNN,
    "lstm": LSTM,
    "gru": GRU,
    "bidirectional": Bidirectional,
    "time_distributed": TimeDistributed,
}
"""Each takes the keys of its section."""


def build_network(model: schema.Model, input_shape: Sequence[int]) -> Network:
    """Return the network of a `[model]` section, for data of `input_shape` (one sample).

    The network's own `input_shape` may differ from the data's by axes of length 1, if the section says so.

    Raises:
        JobError: the section names no layers, or an entry that doesn't exist.
        ModelError: the layers don't fit together or to the data, or the entry's function fails.

    >>> from hpcnn.job.layers import Dense
    >>> from hpcnn.job.model import Model
    >>> network = build_network(Model(layers=[Dense(units=8), Dense(units=1, activation="sigmoid")]), (4,))
    >>> [layer.name for layer in network.layers], network.head
    (['dense_1', 'dense_2'], 'sigmoid')
    """
    shape = sample_shape(model, tuple(input_shape))
    if bool(model.layers) == bool(model.entry):
        given = "both" if model.entry else "neither"
        raise JobError(f"[model] needs either layers ([[model.layers]]) or an entry (model.entry), but has {given}")
    if model.entry:
        return _entry_network(model, shape)
    return Network([_build_layer(section) for section in model.layers], shape)


def build_loss(loss: schema.Loss, output_shape: Shape, head: str) -> BoundLoss:
    """Return the loss of a `[loss]` section for a network of that output and head. Class weights are the caller's.

    Raises:
        ModelError: the loss can't go with the network's output.
    """
    settings = msgspec.structs.asdict(loss)
    settings.pop("class_weights", None)
    built = LOSSES[_tag(loss)](**settings)
    built.check_output(output_shape, head)
    return built.bind(head)


def _tag(section: sections.Layer | schema.Loss) -> str:
    return str(section.__struct_config__.tag)


def sample_shape(model: schema.Model, data_shape: Shape) -> Shape:
    """Return the shape of one sample as the network is to take it, for data of `data_shape`.

    Raises:
        ModelError: `model.input_shape` does not fit the data.
    """
    if model.input_shape is None:
        return data_shape
    shape = tuple(model.input_shape)
    if not same_sample_shape(shape, data_shape):
        raise ModelError(
            f"model.input_shape is {shape}, but a sample of the data has shape {data_shape}. They may differ by axes "
            "of length 1 only: correct it, or leave it out and add a reshape or flatten layer."
        )
    return shape


def _build_layer(section: sections.Layer) -> Layer:
    settings = msgspec.structs.asdict(section)
    settings["inputs"] = tuple(section.inputs)
    if section.children:
        settings["layers"] = [_build_layer(child) for child in section.children]
    return LAYERS[_tag(section)](**settings)


def model_section(network: Network) -> dict[str, Any]:
    """Return the `[model]` section that `build_network` makes the same network of, with every setting written out.

    Raises:
        ModelError: a layer is not one of hpcnn's own.

    >>> from hpcnn.nn.layers import Dense
    >>> section = model_section(Network([Dense(2, activation="softmax")], (4,)))
    >>> section["input_shape"], [(layer["name"], layer["activation"]) for layer in section["layers"]]
    ([4], [('dense_1', 'softmax')])
    """
    sections = [_layer_section(layer) for layer in network.layers]
    last = network.layers[-1]
    if type(last) is Dense and last.activation == "linear":
        sections[-1]["activation"] = network.head
    elif network.head != "linear" or last.split_activation() != (last, "linear"):
        sections.append({"type": "activation", "activation": network.head})
    return {"layers": sections, "input_shape": list(network.input_shape)}


def _layer_section(layer: Layer) -> dict[str, Any]:
    if LAYERS.get(layer.kind) is not type(layer):
        raise ModelError(
            f"{layer.title} is a {type(layer).__name__}, which no job file knows ({', '.join(LAYERS)}). Name a "
            'function that builds the network, model.entry = "package.module:function", so that it can be built again.'
        )
    values = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    settings = {name: value for name, value in values.items() if value is not None}  # TOML has no null
    settings["inputs"] = list(layer.inputs)
    if layer.children:
        settings["layers"] = [_layer_section(child) for child in layer.children]
    return {"type": layer.kind, **settings}


def call_entry(model: schema.Model, input_shape: Shape) -> Any:
    """Return what the user's function returns for samples of `input_shape`.

    Raises:
        JobError: there is no such function.
        ModelError: it fails.
    """
    if "input_shape" in model.options:
        raise JobError("model.options can't hold 'input_shape': set model.input_shape, or leave it to the data")
    function = _find_entry(model.entry)
    try:
        return function(input_shape=input_shape, **model.options)
    except HpcnnError:
        raise
    except Exception as error:
        raise ModelError(f"model.entry {model.entry!r} failed with {type(error).__name__}: {error}") from error


def _entry_network(model: schema.Model, input_shape: Shape) -> Network:
    network = call_entry(model, input_shape)
    if not isinstance(network, Network):
        of_keras = any(base.__module__.partition(".")[0] == "keras" for base in type(network).__mro__)
        hint = ': a model of Keras, which needs backend = "keras"' if of_keras else ""
        raise ModelError(
            f"model.entry {model.entry!r} must return an hpcnn.nn.Network, but returned {type(network).__name__}{hint}"
        )
    if not same_sample_shape(network.input_shape, input_shape):
        raise ModelError(
            f"model.entry {model.entry!r} returned a network for samples of shape {network.input_shape}, but was asked "
            f"for {input_shape}"
        )
    return network


def _find_entry(entry: str) -> Callable[..., Any]:
    module_name, colon, function_name = entry.partition(":")
    if not (module_name and colon and function_name):
        raise JobError(f"model.entry must look like 'package.module:function', but is {entry!r}")
    add_working_folder()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ModelError(f"model.entry {entry!r}: its module can't be imported: {error}") from error
        raise JobError(
            f"model.entry {entry!r}: there is no module {error.name!r}.{nearest(error.name, _siblings(error.name))} "
            "It must be installed, or lie in the working folder or in one of PYTHONPATH."
        ) from None
    except Exception as error:
        raise ModelError(
            f"model.entry {entry!r}: importing its module failed with {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")]
        what = "has no function" if function is None else "holds no function, but something else, under"
        raise JobError(
            f"model.entry {entry!r}: module {module_name!r} {what} {function_name!r}.{nearest(function_name, known)}"
            f"{_overlooked(module)}"
        )
    return function  # type: ignore[no-any-return]


def _overlooked(module: ModuleType) -> str:
    """Return a hint where a file of the working folder has the name of a module that is found before it."""
    name, found = module.__name__.partition(".")[0], Path(getattr(module, "__file__", None) or "built in")
    files = [path for path in (Path(f"{name}.py"), Path(name)) if path.exists()]
    if not files or Path.cwd() in found.parents:
        return ""
    return f" {str(files[0])!r} in the working folder is not it, but {str(found)!r}, found first: rename yours."


def _siblings(module_name: str) -> list[str]:
    package, dot, _ = module_name.rpartition(".")
    path = getattr(importlib.import_module(package), "__path__", []) if package else None
    return [f"{package}{dot}{module.name}" for module in pkgutil.iter_modules(path)]
