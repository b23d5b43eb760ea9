"""Targets of several outputs: a row a sample, of the targets of one output after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcnn.data.joined import PartRows
from hpcnn.data.reduction import SERIAL, Reduction
from hpcnn.data.rows import JoinedRows, ReshapedRows
from hpcnn.data.samples import Samples
from hpcnn.data.targets import Kind, prepare_samples
from hpcnn.errors import DataError


@dataclass(frozen=True)
class TargetPart:
    """What the targets of one of several outputs have to be like; see `prepare_targets`."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    """Of the targets of one sample."""
    output_shape: tuple[int, ...]
    loss_name: str
    ignore_class: int | None = None

    @property
    def size(self) -> int:
        """How many numbers of a row it takes."""
        return math.prod(self.shape)


def prepare_rows(samples: Samples, parts: Sequence[TargetPart], what: str, reduction: Reduction = SERIAL) -> Samples:
    """Return the samples with rows of targets as the losses of the outputs want them.

    Raises:
        DataError: a row is not as long as the targets of all outputs, or those of an output do not suit its loss.
    """
    sizes = [part.size for part in parts]
    given = math.prod(samples.y.shape[1:])
    if given != sum(sizes):
        each = ", ".join(f"{part.size} of {part.name!r}" for part in parts)
        raise DataError(
            f"{what} have {given} numbers a sample (shape {samples.y.shape[1:]}), but the outputs take {sum(sizes)}: "
            f"{each}, in this order. A label is one number, other targets are as many as the outputs."
        )
    rows, start = [], 0
    flat = ReshapedRows(samples.y, (given,))
    for part in parts:
        own = replace(samples, y=PartRows(flat, start, part.shape))
        own = prepare_samples(
            own,
            kind=part.kind,
            one_hot=False,
            output_shape=part.output_shape,
            loss_name=part.loss_name,
            ignore_class=part.ignore_class,
            what=f"{what} for {part.name!r}",
            reduction=reduction,
        )
        rows.append(own.y)
        start += part.size
    return replace(samples, y=JoinedRows(rows))
