"""How often targets name each class, in training and in validation data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.rows import Chunks, OneHotRows, Rows
from hpcnn.data.samples import Splits
from hpcnn.data.source import Source
from hpcnn.nn.loss import BoundLoss
from hpcnn.tools.data.columns import fields_behind
from hpcnn.tools.data.facts import VALIDATION, ClassFacts
from hpcnn.tools.data.measure import SampledReduction, chosen_rows, flat_rows
from hpcnn.training.backend import ModelSpec

MOST_CLASSES = 1000
"""More different targets than this are no classes."""
Counts = NDArray[np.int64]


def classes_of(
    spec: ModelSpec | None,
    splits: Splits | None,
    source: Source,
    parts: Sequence[tuple[str, Rows, Rows]],
    most_rows: int,
    letters: str = "",
) -> list[ClassFacts]:
    """Return the classes with their counts; none where targets are values, or those of several outputs.

    They are those of the model, or, where it could not be built, those that whole numbers or words of the targets
    name. Of a text they are the `letters` that occur, the most frequent first.
    """
    if spec is None or splits is None:
        return _by_targets(source, parts, most_rows, letters)
    if not isinstance(spec.loss, BoundLoss):
        return []
    loss, outputs = spec.loss.loss, spec.network.output_shape[-1]
    one_hot = isinstance(splits.train.y, OneHotRows)
    if loss.target_kind != "labels" and not one_hot and not loss.name.endswith("crossentropy"):
        return []
    if loss.target_kind == "any" or max(2, outputs) > MOST_CLASSES:
        return []
    train = _counts(splits.train.y, outputs, labels=loss.target_kind == "labels")
    held = None
    if splits.validation is not None:
        held = _counts(splits.validation.y, outputs, labels=loss.target_kind == "labels")
    known = (splits.recipe.words() if splits.recipe else ()) or tuple(map(_letter, letters))
    names = [known[place] if place < len(known) else str(place) for place in range(len(train))]
    found = _facts(names, train, held)
    if not letters:
        return found
    return sorted((one for one in found if one.training or one.validation), key=lambda one: -one.training)


def _letter(letter: str) -> str:
    return letter if letter.isprintable() and not letter.isspace() else repr(letter)


def _counts(y: Rows, outputs: int, *, labels: bool) -> Counts:
    """Return how many targets name each class. Of rows of probabilities, those that are above one half count."""
    if isinstance(y, OneHotRows):
        y, labels = y.labels, True
    chunks, classes = Chunks(y, np.int64 if labels else np.float64), max(2, outputs)

    def leaf(i: int) -> NDArray[np.float64]:
        values = chunks[i]
        if labels:
            known = values[(values >= 0) & (values < classes)]
        elif outputs == 1:
            known = (values > 0.5).astype(np.int64).reshape(-1)
        else:
            return np.asarray((values.reshape(-1, outputs) > 0.5).sum(axis=0), np.float64)
        return np.bincount(known.reshape(-1), minlength=classes).astype(np.float64)

    return np.rint(SampledReduction().sum(len(chunks), leaf)).astype(np.int64)


def _by_targets(
    source: Source, parts: Sequence[tuple[str, Rows, Rows]], most_rows: int, letters: str
) -> list[ClassFacts]:
    y = parts[0][2]
    fields = fields_behind(y)
    words = fields[0].words if fields and fields[0].kind == "words" else ()
    if math.prod(y.shape[1:]) != 1 or not (words or y.dtype.kind in "biu") or letters:
        return []
    found = {}
    for name, _, rows in parts:
        values = flat_rows(rows, chosen_rows(rows, most_rows))
        found[name] = values[np.isfinite(values)].astype(np.int64)
    distinct = np.unique(np.concatenate(list(found.values())))
    if len(distinct) > MOST_CLASSES:
        return []
    names = [words[label] if 0 <= label < len(words) else str(label) for label in distinct]
    counts = [np.array([np.count_nonzero(values == label) for label in distinct]) for values in found.values()]
    return _facts(names, counts[0], counts[1] if VALIDATION in found else None)


def _facts(names: Sequence[str], train: Counts, held: Counts | None) -> list[ClassFacts]:
    return [
        ClassFacts(name=name, training=int(train[place]), validation=None if held is None else int(held[place]))
        for place, name in enumerate(names)
    ]
