"""From the sections of a job file to layers and a loss, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hpcnn.errors import JobError, ModelError
from hpcnn.job import layers as sections
from hpcnn.job import model as schema
from hpcnn.job.section import tag_of
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
    SpectralConv1D,
    TimeDistributed,
    UpSampling,
    ZeroPadding,
)
from hpcnn.nn.loss import BoundLoss, Loss
from hpcnn.nn.losses import LOSSES
from hpcnn.nn.losses.function import FunctionOfLabels, FunctionOfValues
from hpcnn.nn.network import Network, same_sample_shape
from hpcnn.nn.outputs import Output, check_inputs
from hpcnn.nn.several_losses import BoundLosses

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
    "spectral_conv1d": SpectralConv1D,
    "simple_rnn": SimpleRNN,
    "lstm": LSTM,
    "gru": GRU,
    "bidirectional": Bidirectional,
    "time_distributed": TimeDistributed,
}
"""Each takes the keys of its section."""


def build_loss(loss: schema.Loss, output_shape: Shape, head: str) -> BoundLoss:
    """Return the loss of a `[loss]` section for a network of that output and head. Class weights are the caller's.

    Raises:
        ModelError: the loss can't go with the network's output.
    """
    if isinstance(loss, schema.Function):
        built: Loss = (FunctionOfLabels if loss.targets == "labels" else FunctionOfValues)(loss.function)
    else:
        settings = msgspec.structs.asdict(loss)
        for of_training in ("class_weights", "weight", "metrics"):
            settings.pop(of_training, None)
        built = LOSSES[tag_of(loss)](**settings)
    built.check_output(output_shape, head)
    return built.bind(head)


def build_losses(sections: Mapping[str, schema.Loss], outputs: Sequence[Output]) -> BoundLosses:
    """Return the losses of `[losses]` sections for the outputs of a network.

    Raises:
        ModelError: a loss can't go with its output.
        JobError: the sections are not those of the outputs.
    """
    names = [output.name for output in outputs]
    if set(sections) != set(names):
        raise JobError(
            f"[losses] has sections for {', '.join(map(repr, sections)) or 'no output'}, but the model's outputs are "
            f"{', '.join(map(repr, names)) or 'not named: set model.outputs'}. Give each output one section."
        )
    return BoundLosses(
        [
            (output, build_loss(sections[output.name], output.shape, output.head), sections[output.name].weight)
            for output in outputs
        ]
    )


def sample_shape(model: schema.Model, data_shape: Shape) -> Shape:
    """Return the shape of one sample as the network is to take it, for data of `data_shape`.

    Raises:
        ModelError: `model.input_shape` does not fit the data.
    """
    if model.inputs:
        return check_inputs(model.inputs, data_shape)
    if model.input_shape is None:
        return data_shape
    shape = tuple(model.input_shape)
    if not same_sample_shape(shape, data_shape):
        raise ModelError(
            f"model.input_shape is {shape}, but a sample of the data has shape {data_shape}. They may differ by axes "
            "of length 1 only: correct it, or leave it out and add a reshape or flatten layer."
        )
    return shape


def build_layer(section: sections.Layer) -> Layer:
    """Return the layer of its section."""
    settings = msgspec.structs.asdict(section)
    settings["inputs"] = tuple(section.inputs)
    if section.children:
        settings["layers"] = [build_layer(child) for child in section.children]
    return LAYERS[tag_of(section)](**settings)


def model_section(network: Network) -> dict[str, Any]:
    """Return the `[model]` section that makes the same network again, with every setting written out.

    Raises:
        ModelError: a layer is not one of hpcnn's own.

    >>> from hpcnn.nn.layers import Dense
    >>> section = model_section(Network([Dense(2, activation="softmax")], (4,)))
    >>> section["input_shape"], [(layer["name"], layer["activation"]) for layer in section["layers"]]
    ([4], [('dense_1', 'softmax')])
    """
    sections = [_layer_section(layer) for layer in network.layers]
    if network.inputs or network.outputs:
        return _section_of_parts(sections, network)
    last = network.layers[-1]
    if type(last) is Dense and last.activation == "linear":
        sections[-1]["activation"] = network.head
    elif network.head != "linear" or last.split_activation() != (last, "linear"):
        sections.append({"type": "activation", "activation": network.head})
    return {"layers": sections, "input_shape": list(network.input_shape)}


def _section_of_parts(sections: list[dict[str, Any]], network: Network) -> dict[str, Any]:
    for output in network.outputs:
        if output.head != "linear":  # which was taken off a layer that had it as its activation
            next(section for section in sections if section["name"] == output.name)["activation"] = output.head
    if network.head != "linear":
        sections.append({"type": "activation", "activation": network.head})
    inputs = {name: list(shape) for name, shape in network.inputs.items()}
    shape = {"inputs": inputs} if inputs else {"input_shape": list(network.input_shape)}
    return {"layers": sections, **shape, "outputs": [output.name for output in network.outputs]}


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
