"""What a layer is: shapes and parameters declared up front, and a forward pass that returns its own backward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hpcnn.nn.context import Array, Context
from hpcnn.nn.params import ParamSpec

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
        ...


@dataclass(frozen=True)
class Layer(ABC):
    """Base of all layers: frozen, owning no array. `name` is unique in a network; parameters are ``<name>/<param>``."""

    name: str

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output sample for inputs of `input_shape` (no batch axis).

        Raises:
            ModelError: the layer can't take such inputs.
        """
        return input_shape

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the layer's parameters for inputs of `input_shape` (no batch axis)."""
        return ()

    @abstractmethod
    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y for `x` of shape (n, *input_shape), and the pass back.

        y may share memory with x or lie in scratch: it is valid until this layer's next forward pass. A layer may
        overwrite x only if it is its own scratch.
        """
