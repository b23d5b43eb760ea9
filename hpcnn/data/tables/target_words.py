"""Whether targets in words suit a model, and what its outputs mean in words."""

from __future__ import annotations

from hpcnn.data.columns import listed
from hpcnn.data.tables.recipe import TargetRecipe
from hpcnn.data.tables.text import is_number
from hpcnn.errors import DataError, shortened


def check_classes(target: TargetRecipe, loss: str, *, labels: bool, outputs: int) -> None:
    """Raise DataError if a target is words, but a loss takes numbers, or a model has fewer outputs than classes.

    `labels` tells whether the loss takes numbers of classes, or they become rows of zeros with a one.
    """
    if target.kind != "words":
        return
    words, name = target.words, shortened(target.name)
    binary = outputs == 1 and loss.endswith("crossentropy") and not labels
    if not (labels or binary):
        numbers = [word for word in words if is_number(word)]
        odd = [word for word in words if word not in numbers]
        hint = f" If it is one of numbers, correct {listed(odd)}." if numbers and odd else ""
        raise DataError(
            f"the target {name!r} is words, {listed(words)}, but the loss {loss!r} takes numbers.{hint} For classes "
            "choose the loss 'sparse_categorical_crossentropy', or 'binary_crossentropy' for two of them."
        )
    if len(words) > (2 if binary else outputs):
        change = (
            f"Let its last layer have {len(words)} units, with softmax, and choose 'sparse_categorical_crossentropy'"
            if binary
            else f"Give its last layer {len(words)} units"
        )
        raise DataError(
            f"the target {name!r} has {len(words)} classes, {listed(words)}, but the model has {outputs} outputs. "
            f"{change}."
        )
