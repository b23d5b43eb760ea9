"""Weights of samples: how much each counts in the loss and in the metrics."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.data.checks import check_finite
from hpcnn.data.chunks import is_decoded
from hpcnn.data.reduction import Reduction
from hpcnn.data.rows import ArrayRows, CastRows, Chunks, ReshapedRows, Rows, materialize
from hpcnn.data.source import Source
from hpcnn.data.tables.rows import fields_of
from hpcnn.data.target_checks import count_bad, value_range
from hpcnn.errors import DataError


def checked_weights(weights: Rows, samples: int, what: str, dtype: DTypeLike, reduction: Reduction) -> Rows:
    """Return the weights of samples as rows of shape () and type `dtype`. Collective where `reduction` is.

    `what` names the samples, as "the training data".

    Raises:
        DataError: they are not one number for each of so many samples, or one is negative or not finite.
    """
    if any(field.kind not in ("number", "boolean") for field in fields_of(weights)):
        raise DataError(f"weights of {what} are words or dates, but a weight is a number of at least 0.")
    if weights.shape not in ((samples,), (samples, 1)):
        raise DataError(
            f"weights of {what} have shape {weights.shape}, but {samples} samples need {(samples,)}: one weight each."
        )
    weights = ReshapedRows(weights, ()) if len(weights.shape) > 1 else weights
    check_finite(weights, f"weights of {what}", dtype, reduction)
    count, row = count_bad(Chunks(weights, np.float64), lambda values: values < 0, reduction)
    if count:
        raise DataError(
            f"weights of {what}: {count} are negative, the first in row {row}, counted from 0. A weight is a number "
            "of at least 0; a sample of weight 0 does not count."
        )
    if is_decoded(weights):  # one number a sample: not worth reading in each epoch
        weights = ArrayRows(np.concatenate(list(map(np.copy, Chunks(weights, dtype)))))
    found = materialize(weights, dtype)
    return found if found.dtype == dtype else CastRows(found, dtype)


def check_some_weight(weights: Rows, what: str, reduction: Reduction) -> None:
    """Raise DataError if no sample counts: all weights are 0."""
    if value_range(Chunks(weights, np.float64), reduction)[1] == 0:
        raise DataError(f"all weights of {what} are 0, so that no sample counts. Give some samples a weight above 0.")


def weights_of(source: Source, what: str, dtype: DTypeLike, reduction: Reduction) -> Rows | None:
    """Return the weights of samples that are all used, of which some count; None if they have none."""
    if source.weights is None:
        return None
    weights = checked_weights(source.weights, source.x.shape[0], what, dtype, reduction)
    check_some_weight(weights, what, reduction)
    return weights
