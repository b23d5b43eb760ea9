"""What the sections of all layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta

from hpcnn.job.section import NonNegativeInt, PositiveInt, Section

Activation = Literal[
    "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "swish", "softplus", "sigmoid", "tanh", "softmax"
]
Initializer = Literal[
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal",
    "random_uniform", "zeros", "ones",
]  # fmt: skip

PositiveInts = PositiveInt | Annotated[list[PositiveInt], Meta(min_length=1)]
"""One number for all spatial axes, or one for each."""
Pairs = NonNegativeInt | Annotated[list[NonNegativeInt | list[NonNegativeInt]], Meta(min_length=1)]
"""The same, where an axis may have two: before and after."""


class LayerSection(Section, frozen=True, kw_only=True, tag_field="type"):
    """Settings of every layer."""

    name: str = ""
    """Name of the layer, also in checkpoints; default: `<type>_<number>`."""
    inputs: list[str] = []
    """Names of the layers whose outputs it takes, or `input` for the network's own; default: the layer before it."""

    @property
    def children(self) -> Sequence[Any]:
        """The inner layers: of containers, which have them under the key `layers`."""
        inner: Sequence[Any] = getattr(self, "layers", ())
        return inner
