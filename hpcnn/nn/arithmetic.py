"""What computes the passes of layers and losses: one class for each arithmetic, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hpcnn.nn.axis_maps import AxisMaps
from hpcnn.nn.geometry import Geometry
from hpcnn.nn.pool_windows import Windows
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


class RmsNormBackward(Protocol):
    """The second half of a normalisation by the root mean square."""

    def __call__(self, dy: Array, scale: Grad, /, *, need_dx: bool) -> Array | None:
        """Write the gradient of the scale, and return that of x, if it is needed; dy may be overwritten."""


class BatchNormBackward(Protocol):
    """The second half of a batch normalisation."""

    def sums(self, dy: Array, gamma: Grad, beta: Grad, /, *, need_dx: bool) -> Array:
        """Write the gradients of gamma and beta; return the sums of dy and dy normal, float64 (leaves, 2 features).

        The sums are not computed where neither a gradient nor that of x is needed.
        """

    def dx(self, dy: Array, sums: Array, /) -> Array:
        """Return the gradient of x from the sums of all samples, (1, 2 features), or of each leaf's own."""


class PreluBackward(Protocol):
    """The second half of a rectifier whose slope is learnt."""

    def __call__(self, dy: Array, alpha: Grad, /, *, need_dx: bool) -> Array | None:
        """Write the gradient of alpha, and return that of x, if it is needed; dy may be overwritten."""


class KernelBackward(Protocol):
    """The second half of what has a kernel alone."""

    def __call__(self, dy: Array, kernel: Grad, /, *, need_dx: bool) -> Array | None:
        """Write the gradient of the kernel, and return that of x, if it is needed; dy may be overwritten."""


class AttentionBackward(Protocol):
    """The second half of an attention."""

    def __call__(self, dout: Array, /) -> tuple[Array, Array, Array]:
        """Return the gradients of q, k and v, each in its shape, in scratch."""


class TableBackward(Protocol):
    """The second half of what takes rows of a table, or adds one."""

    def __call__(self, dy: Array, table: Grad, /) -> None:
        """Write the gradient of the table."""


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

    def convolution(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        kernel: Array,
        bias: Array | None,
        activation: str,
        shape: Geometry,
    ) -> tuple[Array, DenseBackward]:
        """Return activation(convolution + bias), (n, d, h, w, filters), for x (n, d, h, w, channels).

        The kernel is (d, h, w, channels of a group, filters); its gradient may be of another shape of as many numbers.
        """

    def transposed_convolution(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        kernel: Array,
        bias: Array | None,
        activation: str,
        shape: Geometry,
    ) -> tuple[Array, DenseBackward]:
        """Return activation(transposed convolution + bias), where `shape` is that of the convolution.

        x has the shape of its outputs, the result that of its inputs; the kernel is (d, h, w, filters, channels of x).
        """

    def activation(self, ctx: Workspace, owner: object, name: str, x: Array) -> tuple[Array, Pull]:
        """Return the activation of x, in its shape."""

    def dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Return x with a share of its entries zeroed, and the others scaled by 1 / (1 - rate)."""

    def layer_norm(
        self, ctx: Workspace, owner: object, x: Array, gamma: Array | None, beta: Array | None, epsilon: float
    ) -> tuple[Array, NormBackward]:
        """Return gamma (x - mean) / sqrt(variance + epsilon) + beta over each row of x (rows, features)."""

    def rms_norm(
        self, ctx: Workspace, owner: object, x: Array, scale: Array, epsilon: float
    ) -> tuple[Array, RmsNormBackward]:
        """Return scale x / sqrt(mean of x^2 + epsilon) over each row of x (rows, features)."""

    def group_norm(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        groups: int,
        gamma: Array | None,
        beta: Array | None,
        epsilon: float,
    ) -> tuple[Array, NormBackward]:
        """Return gamma (x - mean) / sqrt(variance + epsilon) + beta over each group of features of each sample.

        x is (samples, positions, features); features of a group lie next to each other.
        """

    def batch_sums(self, ctx: Workspace, owner: object, x: Array, shift: Array) -> Array:
        """Return rows, sums of x - shift and of its square for each gradient shard: float64 (leaves, 1 + 2 features).

        x is (rows, features).
        """

    def batch_norm(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        sums: Array,
        shift: Array,
        gamma: Array | None,
        beta: Array | None,
        epsilon: float,
    ) -> tuple[Array, BatchNormBackward]:
        """Return gamma (x - mean) / sqrt(variance + epsilon) + beta, with mean and variance of each column of x.

        `sums` are those of all samples, (1, 1 + 2 features), or each leaf's own; `shift` is that of the sums.
        """

    def fixed_norm(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        mean: Array,
        variance: Array,
        gamma: Array | None,
        beta: Array | None,
        epsilon: float,
    ) -> tuple[Array, NormBackward]:
        """Return the same with a mean and variance that do not depend on x."""

    def draws(self, ctx: Workspace) -> Any:
        """Return what random draws the pass has come to."""

    def draw_from(self, ctx: Workspace, draws: Any) -> None:
        """Repeat random draws of the pass, from those on that `draws` returned."""

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

    def max_pooling(self, ctx: Workspace, owner: object, x: Array, windows: Windows) -> tuple[Array, Pull]:
        """Return the largest entry of each window of x (n, a, b, c, channels); the first of equals has the gradient."""

    def average_pooling(self, ctx: Workspace, owner: object, x: Array, windows: Windows) -> tuple[Array, Pull]:
        """Return the mean of each window of x (n, a, b, c, channels)."""

    def map_axes(self, ctx: Workspace, owner: object, x: Array, maps: AxisMaps) -> tuple[Array, Pull]:
        """Return what maps make of the axes of x, one after the other; x itself if there are none."""

    def permute(self, ctx: Workspace, owner: object, x: Array, axes: Sequence[int]) -> tuple[Array, Pull]:
        """Return x with its axes in another order; that of the samples stays the first."""

    def put(self, x: Array, axis: int, start: int, out: Array) -> Array:
        """Copy x to the places from `start` on of an axis of `out`, and return that."""

    def part(self, x: Array, axis: int, start: int, out: Array) -> Array:
        """Copy the places from `start` on of an axis of x to `out`, and return that."""

    def multiply(self, x1: Array, x2: Array, out: Array) -> Array:
        """Write x1 x2 to `out`, and return that."""

    def maximum(self, x1: Array, x2: Array, out: Array) -> Array:
        """Write the larger of x1 and x2 to `out`, and return that."""

    def maximum_backward(self, x1: Array, x2: Array, dy: Array, dx1: Array | None, dx2: Array | None) -> None:
        """Write dy to dx1 where x1 is the larger or equal, to dx2 where x2 is, 0 elsewhere; neither is dy."""

    def scaled(self, x: Array, factor: float, out: Array) -> Array:
        """Write x factor to `out`, and return that."""

    def prelu(self, ctx: Workspace, owner: object, x: Array, alpha: Array) -> tuple[Array, PreluBackward]:
        """Return x where x > 0, alpha x elsewhere; alpha has a sample's axes, of length 1 where they share it."""

    def leaky_relu(self, ctx: Workspace, owner: object, x: Array, slope: float) -> tuple[Array, Pull]:
        """Return x where x > 0, slope x elsewhere."""

    def spatial_dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Return x with a share of each sample's channels zeroed, and the others scaled by 1 / (1 - rate)."""

    def gaussian_noise(self, ctx: Workspace, owner: object, x: Array, stddev: float) -> Array:
        """Return x + stddev times standard normal numbers."""

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

    def spectral_convolution(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array
    ) -> tuple[Array, KernelBackward]:
        """Return y (n, length, filters): for each of the lowest frequencies the product with a complex matrix.

        x is (n, length, channels), the kernel (modes, 2, channels, filters), with real and imaginary parts.
        """

    def zeros(self, ctx: Workspace, owner: object, x: Array) -> Array:
        """Return zeros like x, which may be overwritten."""

    def contrast(self, scores: Array, first: int, side: int, weight: float, logs: Array, terms: Array) -> None:
        """Write log(sum(exp(row))) of each row of `scores` to ``logs[:, side]``, and add what it loses to `terms`.

        That is weight (log - the score of the row's own column, first + row), in float64; `terms` are overwritten where
        `side` is 0. `logs` is float64 (rows, 2).
        """

    def contrast_gradient(
        self, scores: Array, logs: Array, first: int, side: int, own_weight: float, other_weight: float
    ) -> Array:
        """Overwrite `scores` by the gradient of the sum of all samples' losses, and return them.

        `logs`, float64 (columns, 2), are those of all samples. An entry's loss counts `own_weight` in its row, and
        `other_weight` in its column.
        """

    def loss(
        self, ctx: Workspace, loss: HeadedLoss, logits: Array, targets: Array, weights: Array | None
    ) -> tuple[Array, Array, Callable[[], Array]]:
        """Return the weighted loss of each sample (n,), the outputs, and ``() -> gradient of their sum``."""

    def total(self, ctx: Workspace, terms: Array) -> float:
        """Return the sum of the losses of samples."""
