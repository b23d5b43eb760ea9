"""What computes the passes of layers and losses: one class for each arithmetic, behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Cell:
    """What a recurrent layer does at each step.

    Kinds: ``simple_rnn``, ``lstm``, and ``gru_before`` or ``gru_after``, by where its reset gate acts: at the product.
    """

    kind: str
    activation: str
    recurrent_activation: str
    backwards: bool = False
    """Whether it goes from the last step to the first."""

    @property
    def gates(self) -> int:
        """How many times its units a kernel is wide."""
        return {"simple_rnn": 1, "lstm": 4}.get(self.kind, 3)


class RecurrentBackward(Protocol):
    """The second half of a recurrent pass."""

    def __call__(
        self, dy: Array, kernel: Grad, recurrent_kernel: Grad, bias: Grad, /, *, need_dx: bool
    ) -> Array | None:
        """Write the gradients of the parameters, and return that of x, if it is needed; dy is left alone."""


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

    def recurrent(
        self,
        ctx: Workspace,
        owner: object,
        cell: Cell,
        x: Array,
        kernel: Array,
        recurrent_kernel: Array,
        bias: Array | None,
        y: Array,
    ) -> RecurrentBackward:
        """Go through all steps of x (n, steps, features), from outputs of 0 on.

        `y` takes the output of each step at its place, (n, steps, units), or that of the last alone, (n, units). It may
        be a view; its last axis must be contiguous.
        """

    def combine(self, name: str, a: Array, b: Array | None, out: Array) -> Array:
        """Write `add`, `average` or `multiply` of a and b, or `halve` of a, to `out`, and return that."""

    def add(self, x1: Array, x2: Array, out: Array) -> Array:
        """Write x1 + x2 to `out`, and return that."""

    def copy(self, x: Array, out: Array) -> Array:
        """Copy x to `out`, and return that."""

    def loss(
        self, ctx: Workspace, loss: HeadedLoss, logits: Array, targets: Array, weights: Array | None
    ) -> tuple[Array, Array, Callable[[], Array]]:
        """Return the weighted loss of each sample (n,), the outputs, and ``() -> gradient of their sum``."""

    def total(self, ctx: Workspace, terms: Array) -> float:
        """Return the sum of the losses of samples."""
