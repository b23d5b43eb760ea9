"""Layers of several inputs, which the key `inputs` names."""

from __future__ import annotations

from hpcnn.job.layers.base import LayerSection


class Add(LayerSection, frozen=True, kw_only=True, tag="add"):
    """The sum of its inputs."""


class Multiply(LayerSection, frozen=True, kw_only=True, tag="multiply"):
    """The product of its inputs."""


class Average(LayerSection, frozen=True, kw_only=True, tag="average"):
    """The mean of its inputs."""


class Maximum(LayerSection, frozen=True, kw_only=True, tag="maximum"):
    """The largest of its inputs."""


class Concatenate(LayerSection, frozen=True, kw_only=True, tag="concatenate"):
    """Its inputs put side by side."""

    axis: int = -1
    """The axis along which; 0 is that of the samples, and not allowed."""
