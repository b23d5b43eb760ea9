"""What the sections of all layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hpcnn.job.section import Section

Activation = Literal[
    "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "swish", "softplus", "sigmoid", "tanh", "softmax"
]
Initializer = Literal[
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal",
    "random_uniform", "zeros", "ones",
]  # fmt: skip


class LayerSection(Section, frozen=True, kw_only=True, tag_field="type"):
    """Settings of every layer."""

    name: str = ""
    """Name of the layer, also in checkpoints; default: `<type>_<number>`."""

    @property
    def children(self) -> Sequence[Any]:
        """The inner layers: of containers, which have them under the key `layers`."""
        inner: Sequence[Any] = getattr(self, "layers", ())
        return inner
