"""From the `[model]` section of a job file to a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from hpcnn.core.conversion import convert
from hpcnn.errors import JobError, ModelError
from hpcnn.job import model as schema
from hpcnn.job.models import OPTIONS
from hpcnn.models import fno, lstm_stack, mobilenet, resnet, tcn, transformer, unet, vgg
from hpcnn.models.entry import entry_network
from hpcnn.nn.build import build_layer, sample_shape
from hpcnn.nn.layer import Layer
from hpcnn.nn.network import Network

MODELS: Mapping[str, Callable[..., list[Layer]]] = {
    "fno": fno.layers,
    "lstm_stack": lstm_stack.layers,
    "mobilenet": mobilenet.layers,
    "resnet": resnet.layers,
    "tcn": tcn.layers,
    "transformer": transformer.layers,
    "unet": unet.layers,
    "vgg": vgg.layers,
}
"""Each takes the keys of its section in `hpcnn.job.models`."""


def build_network(model: schema.Model, input_shape: Sequence[int]) -> Network:
    """Return the network of a `[model]` section, for data of `input_shape` (one sample).

    The network's own `input_shape` may differ from the data's by axes of length 1, if the section says so.

    Raises:
        JobError: the section has no layers, or an entry that doesn't exist.
        ModelError: the layers don't fit together or to the data, or the entry's function fails.

    >>> from hpcnn.job.layers import Dense
    >>> from hpcnn.job.model import Model
    >>> network = build_network(Model(layers=[Dense(units=8), Dense(units=1, activation="sigmoid")]), (4,))
    >>> [layer.name for layer in network.layers], network.head
    (['dense_1', 'dense_2'], 'sigmoid')
    """
    shape = sample_shape(model, tuple(input_shape))
    if sum(map(bool, (model.layers, model.name, model.entry))) != 1:
        raise JobError(
            "[model] needs one of layers ([[model.layers]]), a name (model.name) and an entry (model.entry), but has "
            f"{_given(model)}"
        )
    if model.entry:
        return entry_network(model, shape)
    inputs = {name: tuple(sizes) for name, sizes in model.inputs.items()}
    try:
        return Network(layers_of(model), shape, inputs=inputs, outputs=model.outputs)
    except ModelError as error:
        if not model.name:
            raise
        raise ModelError(
            f'model.name = "{model.name}" with these model.options does not fit samples of shape {shape}: {error}'
        ) from None


def layers_of(model: schema.Model) -> list[Layer]:
    """Return the layers of a section that lists them or has the name of a network.

    Raises:
        ModelError: a setting is none that a layer can have.
    """
    if not model.name:
        return [build_layer(section) for section in model.layers]
    options = convert(model.options, OPTIONS[model.name])
    return MODELS[model.name](**msgspec.structs.asdict(options))


def _given(model: schema.Model) -> str:
    return " and ".join(key for key in ("layers", "name", "entry") if getattr(model, key)) or "none"
