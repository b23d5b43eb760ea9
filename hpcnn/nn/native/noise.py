"""Random draws by the numbers of sample and entry."""

from __future__ import annotations

from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.draws import DROPOUT_STREAM, stream_of
from hpcnn.nn.native.base import NativeBase, real_type
from hpcnn.nn.workspace import Array, Workspace


class NativeNoise(NativeBase):
    """See `Arithmetic`."""

    def draws(self, ctx: Workspace) -> int:
        """Return the number of the last draw."""
        return self._draws

    def draw_from(self, ctx: Workspace, draws: int) -> None:
        """Count from that number on."""
        self._draws = draws

    def dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Draw by the numbers of sample and entry; the pass back draws again, and keeps no mask."""
        self._draws += 1
        stream = stream_of(DROPOUT_STREAM, self._draws)
        x = self._plain(x, real_type(x))
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.dropout(x, y, rate, self._seed, stream, self._place)

        def pull(dy: Array) -> Array:
            dy = self._own(dy, x.dtype)
            self._do.dropout(dy, dy, rate, self._seed, stream, self._place)
            return dy

        return y, pull

    def spatial_dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Draw by the numbers of sample and channel; the pass back draws again."""
        self._draws += 1
        stream = stream_of(DROPOUT_STREAM, self._draws)
        x = self._plain(x, real_type(x))
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.spatial_dropout(x, y, rate, self._seed, stream, self._place)

        def pull(dy: Array) -> Array:
            dy = self._own(dy, x.dtype)
            self._do.spatial_dropout(dy, dy, rate, self._seed, stream, self._place)
            return dy

        return y, pull

    def gaussian_noise(self, ctx: Workspace, owner: object, x: Array, stddev: float) -> Array:
        """Draw by the numbers of sample and entry."""
        self._draws += 1
        stream = stream_of(DROPOUT_STREAM, self._draws)
        x = self._plain(x, real_type(x))
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.gaussian_noise(x, y, stddev, self._seed, stream, self._place)
        return y
