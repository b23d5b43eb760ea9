"""What a layer is: shapes and parameters declared up front, and a forward pass that returns its own backward pass."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.context import Context
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array

Shape = tuple[int, ...]
Params = Mapping[str, Array]
"""Arrays under the parameters' full names, as ``dense_1/kernel``."""


class Backward(Protocol):
    """The second half of a pass."""

    def __call__(self, dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
        """Write the gradient of each own parameter into `grads`, and return d loss/d x.

        `dy` has the shape of y and may be overwritten. Every own trainable parameter's view in `grads` is
        overwritten (not added to); a frozen one is absent from `grads`. With `need_dx` false the gradient of x is
        not computed and None is returned: nothing below it learns.
        """


@dataclass(frozen=True)
class Layer(ABC):
    """Base of all layers: frozen, owning no array.

    A layer describes; a `Network` makes parameters of it, under ``<name>/<param>``. A layer without a name is given one
    by its network, ``<kind>_<number>``. A layer of your own is a frozen dataclass with a forward pass.

    >>> import numpy as np
    >>> @dataclass(frozen=True)
    ... class Scale(Layer):
    ...     factor: float
    ...
    ...     def forward(self, params, x, ctx):
    ...         return self.factor * x, lambda dy, grads, *, need_dx=True: self.factor * dy
    >>> y, backward = Scale(3.0).forward({}, np.ones((1, 2)), Context())
    >>> y, Scale(3.0).kind
    (array([[3., 3.]]), 'scale')
    """

    name: str = field(default="", kw_only=True)
    """Unique in a network."""

    @property
    def kind(self) -> str:
        """What a job file calls such layers: the name of the class, as ``layer_norm``."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def title(self) -> str:
        """The layer in messages."""
        return f"layer {self.name!r}" if self.name else f"a {type(self).__name__} layer"

    @property
    def recordable(self) -> bool:
        """Whether its passes do nothing but call the context's arithmetic: hpcnn's own, not subclasses."""
        return type(self).__module__.startswith("hpcnn.nn.layers.")

    def named(self, name: str) -> Self:
        """Return the same layer under another name."""
        layer = copy.copy(self)
        object.__setattr__(layer, "name", name)
        return layer

    @property
    def children(self) -> tuple[Layer, ...]:
        """The layers that this one is made of, in the order of its forward pass: of containers alone."""
        return ()

    def with_children(self, children: Sequence[Layer]) -> Layer:
        """Return the same container around other layers."""
        raise NotImplementedError(f"{type(self).__name__} has children, but no with_children()")

    def ending(self, before: str | None) -> str | None:
        """Return the activation that the outputs went through last, None if unknown; `before` is that of the inputs."""
        return None

    def split_activation(self) -> tuple[Layer | None, str]:
        """Return the layer without its activation (None if nothing is left), and the activation's name."""
        return self, "linear"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output sample for inputs of `input_shape` (no batch axis).

        Raises:
            ModelError: the layer can't take such inputs.
        """
        return input_shape

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the layer's parameters for inputs of `input_shape` (no batch axis)."""
        return ()

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample of `input_shape`."""
        return 0

    @abstractmethod
    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y for `x` of shape (n, *input_shape), and the pass back.

        y may share memory with x or lie in scratch: it is valid until this layer's next forward pass. A layer may
        overwrite x only if it is its own scratch.
        """


def without_parameters(pull: Pull) -> Backward:
    """Return the backward pass of a layer that has nothing to learn."""

    def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
        return pull(dy) if need_dx else None

    return backward
