"""What computes the passes of layers and losses: one class for each arithmetic, behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hpcnn.nn.workspace import Array, Workspace

Pull = Callable[[Array], Array]
"""``dy -> dx``; dy may be overwritten, and may be what is returned."""
Grad = Any
"""Where the gradient of a parameter is to be written, as the backward pass was given it; None: it is not wanted.

An array; or, where an arithmetic takes several sums of shards at once, a tuple with one for each.
"""


class DenseBackward(Protocol):
    """The second half of a product."""

    def __call__(self, dy: Array, kernel: Grad, bias: Grad, /, *, need_dx: bool) -> Array | None:
        """Write the gradients of kernel and bias, and return that of x, if it is needed; dy may be overwritten."""


class NormBackward(Protocol):
    """The second half of a layer normalisation."""

    def __call__(self, dy: Array, gamma: Grad, beta: Grad, /, *, need_dx: bool) -> Array | None:
        """Write the gradients of gamma and beta, and return that of x, if it is needed; dy may be overwritten."""


class AttentionBackward(Protocol):
    """The second half of an attention."""

    def __call__(self, dout: Array, /) -> tuple[Array, Array, Array]:
        """Return the gradients of q, k and v, each in its shape, in scratch."""


class TableBackward(Protocol):
    """The second half of what takes rows of a table, or adds one."""

    def __call__(self, dy: Array, table: Grad, /) -> None:
        """Write the gradient of the table."""


class HeadedLoss(Protocol):
    """A loss behind a head; see `hpcnn.nn.loss.BoundLoss`."""

    @property
    def loss(self) -> Any:
        """The loss itself, with its settings."""

    @property
    def head(self) -> str:
        """The activation that makes the outputs."""

    def terms(
        self, logits: Array, targets: Array, weights: Array | None, ctx: Workspace
    ) -> tuple[Array, Array, Callable[[], Array]]:
        """Compute it in NumPy."""


class Arithmetic(Protocol):
    """Computes in a caller's workspace. `owner` names the memory that results stay in until the owner's next pass."""

    def dense(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array, bias: Array | None, activation: str
    ) -> tuple[Array, DenseBackward]:
        """Return activation(x kernel + bias), shape (rows, units), for x (rows, features)."""

    def activation(self, ctx: Workspace, owner: object, name: str, x: Array) -> tuple[Array, Pull]:
        """Return the activation of x, in its shape."""

    def dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Return x with a share of its entries zeroed, and the others scaled by 1 / (1 - rate)."""

    def layer_norm(
        self, ctx: Workspace, owner: object, x: Array, gamma: Array | None, beta: Array | None, epsilon: float
    ) -> tuple[Array, NormBackward]:
        """Return gamma (x - mean) / sqrt(variance + epsilon) + beta over each row of x (rows, features)."""

    def add(self, x1: Array, x2: Array, out: Array) -> Array:
        """Write x1 + x2 to `out`, and return that."""

    def copy(self, x: Array, out: Array) -> Array:
        """Copy x to `out`, and return that."""

    def attention(
        self, ctx: Workspace, owner: object, q: Array, k: Array, v: Array, mask: Array | None, *, causal: bool
    ) -> tuple[Array, AttentionBackward]:
        """Return softmax(q k^T / sqrt(dim)) v for each sample and head, shape (n, queries, heads, value_dim).

        Args:
            ctx: gives scratch.
            owner: names it.
            q: (n, queries, heads, dim).
            k: (n, keys, kv_heads, dim); heads / kv_heads heads of q next to each other share one.
            v: (n, keys, kv_heads, value_dim).
            mask: (n, keys): where it is 0, a key has probability 0; if none is left, so have all.
            causal: whether query i sees the keys up to i alone.
        """

    def embedding(
        self, ctx: Workspace, owner: object, ids: Array, table: Array, title: str
    ) -> tuple[Array, TableBackward]:
        """Return rows of `table` (entries, columns) by `ids` (rows,), which are whole numbers of any type.

        Raises:
            DataError: an id is none of the table's; `title` is its layer's. What is recorded gives NaN instead.
        """

    def add_table(self, ctx: Workspace, owner: object, x: Array, table: Array) -> tuple[Array, TableBackward]:
        """Return x + table, for x (n, *shape) and a table of that shape."""

    def not_zero(self, ctx: Workspace, owner: object, x: Array) -> Array:
        """Return 1 where x is not 0, else 0."""

    def zeros(self, ctx: Workspace, owner: object, x: Array) -> Array:
        """Return zeros like x, which may be overwritten."""

    def loss(
        self, ctx: Workspace, loss: HeadedLoss, logits: Array, targets: Array, weights: Array | None
    ) -> tuple[Array, Array, Callable[[], Array]]:
        """Return the weighted loss of each sample (n,), the outputs, and ``() -> gradient of their sum``."""

    def total(self, ctx: Workspace, terms: Array) -> float:
        """Return the sum of the losses of samples."""
