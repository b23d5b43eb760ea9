"""Training samples that change from epoch to epoch; a sample depends on seed, epoch and its number alone."""

from __future__ import annotations

import numpy as np

from hpcnn.data.image_changes import Draws, Placement, Uniform, bilinear, change_values, cut_out, nearest
from hpcnn.data.rows import Array, Buffer, OneHotRows, Rows
from hpcnn.data.sampler import Indices
from hpcnn.data.samples import Samples
from hpcnn.errors import JobError
from hpcnn.job.augment import Augment


class Taken:
    """Rows of another table as they were taken, in memory that is used again."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.block = max(16, Buffer(rows.shape[1:], np.float64).block)
        self._buffers: dict[np.dtype[np.generic], Buffer] = {}

    def __call__(self, indices: Indices, dtype: np.dtype[np.generic]) -> Array:
        """Return rows, cast to `dtype`, valid until the next call."""
        if dtype not in self._buffers:
            self._buffers[dtype] = Buffer(self.rows.shape[1:], dtype)
        taken = self._buffers[dtype].rows(len(indices))
        self.rows.take(indices, taken)
        return taken


class ChangedImages:
    """Images, (height, width) or (height, width, channels), with changes of place and values."""

    def __init__(self, rows: Rows, draws: Draws) -> None:
        self.rows, self.shape, self.dtype = rows, rows.shape, np.dtype(np.float64)
        self._draws, self._taken = draws, Taken(rows)
        self._image = (*rows.shape[1:], 1)[:3]

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        uniform = self._draws.uniform(indices)
        changes = list(zip(out.reshape(len(out), *self._image), uniform, self._draws.placements(uniform), strict=True))
        for start in range(0, len(indices), self._taken.block):
            images = self._taken(indices[start : start + self._taken.block], out.dtype)
            some = changes[start : start + len(images)]
            for image, change in zip(images.reshape(-1, *self._image), some, strict=True):
                self._change(image, *change)

    def _change(self, image: Array, target: Array, uniform: Uniform, placement: Placement) -> None:
        """Write a changed image to `target`."""
        settings = self._draws.settings
        placement.crop(image, target)
        if placement.turn is not None or settings.contrast or settings.brightness:
            values = target.astype(np.float64)
            if placement.turn is not None:
                values = bilinear(values, placement)
            change_values(values, uniform, settings)
            np.copyto(target, values, casting="unsafe")
        if settings.cutout:
            cut_out(target, uniform, settings.cutout)


class MovedTargets:
    """Targets for each pixel, (height, width, ...), whose places change as those of the images do."""

    def __init__(self, rows: Rows, draws: Draws, fill: float) -> None:
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype
        self._draws, self._taken, self._fill = draws, Taken(rows), fill
        self._labels = rows.dtype.kind in "biu"

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        changes = list(zip(out, self._draws.placements(self._draws.uniform(indices)), strict=True))
        for start in range(0, len(indices), self._taken.block):
            images = self._taken(indices[start : start + self._taken.block], out.dtype)
            for image, change in zip(images, changes[start : start + len(images)], strict=True):
                self._move(image, *change)

    def _move(self, image: Array, target: Array, placement: Placement) -> None:
        placement.crop(image, target, self._fill)
        if placement.turn is None:
            return
        if self._labels:
            target[...] = nearest(target.copy(), placement, self._fill)
        else:
            values = target.astype(np.float64).reshape(*target.shape[:2], -1)
            np.copyto(target, bilinear(values, placement).reshape(target.shape), casting="unsafe")


class MixedRows:
    """Rows mixed with other rows of the same table: share x row + (1 - share) x other row."""

    def __init__(self, rows: Rows, draws: Draws) -> None:
        self.rows, self.shape, self.dtype = rows, rows.shape, np.dtype(np.float64)
        self._draws, self._own, self._other = draws, Taken(rows), Taken(rows)

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        partners, shares = self._draws.partners(indices), self._draws.shares(indices)
        shares = shares.reshape(-1, *(1,) * (len(self.shape) - 1))
        for start in range(0, len(indices), self._own.block):
            part = slice(start, start + self._own.block)
            mixed = self._own(indices[part], out.dtype) * shares[part]
            mixed += self._other(partners[part], out.dtype) * (1 - shares[part])
            np.copyto(out[part], mixed, casting="unsafe")


class Augmentation:
    """The training samples with the changes of `[data.augment]`.

    Args:
        settings: which changes there are.
        samples: with targets as the loss wants them.
        seed: `train.seed`.
        mixes: whether the targets are numbers that can be mixed, not labels.
        outside: the class of pixels outside of a mask.

    Raises:
        JobError: the samples are no images, the targets can't follow, or can't be mixed.
    """

    def __init__(self, settings: Augment, samples: Samples, seed: int, *, mixes: bool, outside: int = 0) -> None:
        x, y, size = samples.x, samples.y, samples.x_shape[:2]
        if len(samples.x_shape) not in (2, 3):
            raise JobError(
                f"data.augment changes images, but a sample has shape {samples.x_shape}, not (height, width) or "
                "(height, width, channels). Remove it, or give images."
            )
        if settings.crop_padding >= min(size):
            raise JobError(
                f"data.augment.crop_padding = {settings.crop_padding} could move all of an image of {size[0]} x "
                f"{size[1]} pixels out of sight. Choose at most {min(size) - 1}."
            )
        if settings.mixup and not mixes:
            raise JobError(
                f"data.augment.mixup = {settings.mixup:g} mixes the targets of two samples, but the loss takes integer "
                'labels. Set data.one_hot = true with the loss "categorical_crossentropy", or mixup = 0.'
            )
        self._draws = Draws(settings, (size[0], size[1]), len(samples), seed)
        moves = settings.flip != "none" or settings.crop_padding or settings.shift or settings.rotate
        self.x: Rows = ChangedImages(x, self._draws)
        self.y = self._moved(y, size, outside) if moves and len(y.shape) > 2 else y
        if settings.mixup:
            self.x, self.y = MixedRows(self.x, self._draws), MixedRows(self.y, self._draws)

    def _moved(self, y: Rows, size: tuple[int, ...], outside: int) -> Rows:
        if y.shape[1:3] != size:
            raise JobError(
                f"data.augment moves the pixels of images of {size[0]} x {size[1]}, but targets of shape "
                f"{y.shape[1:]} a sample can't follow. Give targets of the size of the images, or leave out flip, "
                "crop_padding, shift and rotate."
            )
        if isinstance(y, OneHotRows):
            return OneHotRows(MovedTargets(y.labels, self._draws, outside), y.classes)
        return MovedTargets(y, self._draws, outside if y.dtype.kind in "iu" else 0)

    def start_epoch(self, epoch: int) -> None:
        """Change the samples as that epoch does from now on."""
        self._draws.start_epoch(epoch)
