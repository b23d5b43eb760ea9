"""What a layer is: shapes and parameters declared up front, and a forward pass that returns its own backward pass."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from hpcnn.core.tree import fold_rows
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
    inputs: tuple[str, ...] = field(default=(), kw_only=True)
    """The layers whose outputs it takes; left out: the layer before it."""

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

    def taking(self, inputs: Iterable[str]) -> Self:
        """Return the same layer with other inputs."""
        layer = copy.copy(self)
        object.__setattr__(layer, "inputs", tuple(inputs))
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


class MultiBackward(Protocol):
    """The second half of a pass of a layer with several inputs."""

    def __call__(self, dy: Array, grads: Params, *, need_dx: Sequence[bool]) -> list[Array | None]:
        """Write the gradients as `Backward` does, and return that of each input; None where `need_dx` is false.

        No two of the arrays returned share memory. One may be dy.
        """


class MultiInput(Layer):
    """A layer of several inputs.

    Its methods take a sequence where those of other layers take one shape or array: whoever calls them asks first
    whether a layer is a `MultiInput`.
    """

    def output_shape(self, input_shapes: Sequence[Shape]) -> Shape:  # type: ignore[override]
        """Return the shape of one output sample for inputs of `input_shapes` (no batch axis).

        Raises:
            ModelError: the layer can't take such inputs.
        """
        raise NotImplementedError(f"{type(self).__name__} has no output_shape()")

    def parameters(self, input_shapes: Sequence[Shape]) -> Sequence[ParamSpec]:  # type: ignore[override]
        """Return the layer's parameters for inputs of `input_shapes` (no batch axis)."""
        return ()

    def multiply_adds(self, input_shapes: Sequence[Shape]) -> int:  # type: ignore[override]
        """Return the multiply-adds of a forward pass over one sample of each input."""
        return 0

    @abstractmethod
    def forward(  # type: ignore[override]
        self, params: Params, x: Sequence[Array], ctx: Context
    ) -> tuple[Array, MultiBackward]:
        """Return y for arrays `x`, each of shape (n, *input_shape), and the pass back; y as for any layer."""


@dataclass(frozen=True)
class BatchSum:
    """What a pass needs before it goes on: the sum of rows of all gradient shards of the batch, wherever they are."""

    sums: Array
    """One row for each shard of this pass: float64 (shards, k)."""
    totals: Array
    """Takes the sum of the rows of all ranks along the tree: float64 (k,)."""
    synchronized: bool = True
    """Whether the totals are needed; else the rows are only complete, and `done` is to be told."""
    keep_state: Callable[[], None] | None = None
    """What to call once the totals are there, in each step."""

    def done(self) -> None:
        """Say that rows and totals are complete."""
        if self.keep_state is not None:
            self.keep_state()


@dataclass(frozen=True)
class BatchRows:
    """What a pass needs before it goes on: rows of all samples of the batch, wherever they are, in their order."""

    own: Array
    """The rows of the samples of this pass: (n, k)."""
    rows: Array
    """Takes those of all samples, of the same type: (samples of the batch, k)."""
    first: int
    """Place in the batch of the first sample of this pass."""


class BatchBackward(Protocol):
    """The second half of a pass that needs sums over all samples of the batch."""

    def begin(
        self, dy: Array, grads: Params, *, need_dx: bool = True
    ) -> tuple[Array | None, Callable[[Array | None], Array | None]]:
        """Write the gradient of each own parameter; return `sums` and `resume`, ``totals -> dx``.

        `sums`, float64 (leaves, k), has one row for each gradient shard of this pass. `totals`, float64 (k,), is the
        sum of the rows of all ranks along the tree. `sums` is None if none are needed: then `resume` takes None.
        dy may be overwritten, but must stay as it is until `resume` has been called. With `need_dx` false `resume`
        returns None.
        """


Resume = Callable[[Array], tuple[Array, BatchBackward]]
"""``totals -> (y, pass back)``."""


class BatchLayer(Layer):
    """A layer whose passes need sums over all samples of the batch, wherever they are.

    `begin`, then `resume` of what it returns, is a pass over the samples of one rank. `sums` may be filled only when
    the operations recorded so far are done, and `totals` after that: neither is read in Python before. Two passes of
    one layer, from `begin` forward to `resume` back, do not overlap.
    """

    @property
    @abstractmethod
    def synchronized(self) -> bool:
        """Whether a pass in training needs the sums of other ranks; False: those of its own leaves suffice."""

    @abstractmethod
    def collects(self, ctx: Context) -> bool:
        """Return whether a pass in the context's mode takes sums at all; if not, `forward` is the whole pass."""

    @abstractmethod
    def begin(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Resume]:
        """Return `sums` and `resume`.

        `sums`, float64 (leaves, k), has one row for each gradient shard of this pass. `resume`, ``totals -> (y, pass
        back)``, takes the sum of the rows of all ranks along the tree, float64 (k,), which must stay until the pass
        back is done; it is not read if the layer is not synchronized.
        """

    @abstractmethod
    def new_state(self, params: Params, sums: Array, totals: Array) -> Mapping[str, Array]:
        """Return what each shard makes of the parameters that are state: float64 (leaves, *shape) by full name."""

    @abstractmethod
    def forward_alone(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y and the pass back of a pass that takes no sums."""

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y and the pass back, where the samples of this pass are the whole batch."""
        if not self.collects(ctx):
            return self.forward_alone(params, x, ctx)
        sums, resume = self.begin(params, x, ctx)
        totals = fold_rows(sums)
        y, batch_backward = resume(totals)
        for name, value in self.new_state(params, sums, totals).items():
            if name in ctx.new_state:
                ctx.new_state[name][...] = _mean_of_shards(value, sums[:, 0])

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            back_sums, resume_back = batch_backward.begin(dy, grads, need_dx=need_dx)
            return resume_back(None if back_sums is None else fold_rows(back_sums))

        return y, backward


def _mean_of_shards(values: Array, counts: Array) -> Array:
    """Return the mean of `values`, one for each leaf, weighted by `counts`, added along the tree."""
    if len(values) == 1:
        first: Array = values[0]
        return first
    total = counts.sum()  # whole numbers: exact
    weighted = fold_rows(values * counts.reshape(-1, *[1] * (values.ndim - 1)))
    mean: Array = weighted / total if total else values.mean(axis=0)
    return mean


def without_parameters(pull: Pull) -> Backward:
    """Return the backward pass of a layer that has nothing to learn."""

    def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
        return pull(dy) if need_dx else None

    return backward
