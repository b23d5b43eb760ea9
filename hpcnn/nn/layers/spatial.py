"""What layers over positions share: samples of shape (positions..., channels), with one to three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcnn.errors import ModelError
from hpcnn.nn.layer import Layer, Shape

MOST_STEPS = 2**20
"""The longest kernel, window, stride, dilation and padding along an axis that the compiled core takes."""
_SHAPES = "(length, channels), (height, width, channels) or (depth, height, width, channels)"


def axes_remedy(input_shape: Shape, axes: int) -> str:
    """Return what to do where samples of `input_shape` do not have so many axes.

    >>> axes_remedy((8, 8), 3)
    'Put a reshape layer before it, or, if it is the first layer, set model.input_shape = [8, 8, 1].'
    """
    if len(input_shape) != axes - 1:
        return "Put a reshape layer before it."
    shape = [*input_shape, 1]
    return f"Put a reshape layer before it, or, if it is the first layer, set model.input_shape = {shape}."


def spatial_axes(layer: Layer, input_shape: Shape) -> Shape:
    """Return the spatial axes of a sample.

    Raises:
        ModelError: there are none, or more than three.
    """
    if not 2 <= len(input_shape) <= 4:
        raise ModelError(
            f"{layer.title} needs samples of shape {_SHAPES}, but they have shape {input_shape}. "
            f"{axes_remedy(input_shape, 2)}"
        )
    return input_shape[:-1]


def numbers(value: Any) -> Any:
    """Return lists as tuples, so that a layer stays hashable: a job file has lists.

    >>> numbers([[1, 2], [0, 3]]), numbers(2)
    (((1, 2), (0, 3)), 2)
    """
    return tuple(numbers(entry) for entry in value) if isinstance(value, Sequence) else value


def check_numbers(layer: Layer, what: str, value: Any, least: int) -> None:
    """Check a number, or one for each spatial axis.

    Raises:
        ModelError: it is anything else, or below `least`.
    """
    entries = value if isinstance(value, tuple) else (value,)
    if not 1 <= len(entries) <= 3 or any(not _is_whole(entry, least) for entry in entries):
        raise ModelError(
            f"{layer.title}: {what} must be an integer from {least} to {MOST_STEPS}, or a list with one for each "
            f"spatial axis (1 to 3), but is {_shown(value)}"
        )


def for_each_axis(layer: Layer, what: str, value: int | Sequence[int], axes: Shape) -> tuple[int, ...]:
    """Return a setting with one number for each spatial axis.

    Raises:
        ModelError: it is a list for another number of axes.
    """
    if isinstance(value, int):
        return (value,) * len(axes)
    if len(value) != len(axes):
        raise ModelError(
            f"{layer.title}: {what} has {len(value)} numbers, {_shown(value)}, but samples have {len(axes)} spatial "
            f"axes, {axes}. Give one number for each, or one for all."
        )
    return tuple(value)


def check_pairs(layer: Layer, what: str, value: Any) -> None:
    """Check a number, or numbers or pairs of numbers for spatial axes, none below 0.

    Raises:
        ModelError: it is anything else.
    """
    entries = value if isinstance(value, tuple) else (value,)
    pairs = [entry if isinstance(entry, tuple) else (entry, entry) for entry in entries]
    if not 1 <= len(pairs) <= 3 or any(
        len(pair) != 2 or any(not _is_whole(each, 0) for each in pair) for pair in pairs
    ):
        raise ModelError(
            f"{layer.title}: {what} must be an integer from 0 to {MOST_STEPS}, or a list with one such number, or a "
            f"pair [before, after], for each spatial axis, but is {_shown(value)}"
        )


def pairs_for_each_axis(layer: Layer, what: str, value: Any, axes: Shape) -> list[tuple[int, int]]:
    """Return a setting with one pair (before, after) for each spatial axis; as in Keras, (a, b) is one for one axis.

    Raises:
        ModelError: it is a list for another number of axes.
    """
    if isinstance(value, int):
        return [(value, value)] * len(axes)
    if len(axes) == 1 and len(value) == 2 and all(isinstance(entry, int) for entry in value):
        return [(value[0], value[1])]
    if len(value) != len(axes):
        raise ModelError(
            f"{layer.title}: {what} has {len(value)} entries, {_shown(value)}, but samples have {len(axes)} spatial "
            f"axes, {axes}. Give one number or pair for each, or one number for all."
        )
    return [entry if isinstance(entry, tuple) else (entry, entry) for entry in value]


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_STEPS


def _shown(value: Any) -> str:
    return str(
        [list(each) if isinstance(each, tuple) else each for each in value] if isinstance(value, tuple) else value
    )


def without_softmax(before: str | None) -> str | None:
    """Return what the entries went through last, where they no longer are the same row of a softmax."""
    return None if before == "softmax" else before
