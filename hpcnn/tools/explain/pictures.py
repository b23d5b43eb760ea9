"""Explanations as PNG: images with attribution maps, bars for tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnn.errors import DataError
from hpcnn.tools.explain.gradients import Attribution
from hpcnn.tools.explain.inputs import ExplainedRows
from hpcnn.tools.explain.outputs import names_of, ranked
from hpcnn.tools.explain.permutation import Importance
from hpcnn.tools.pictures import new_figure, save_figure

Array = NDArray[np.float64]
Shape = tuple[int, ...]
MOST_SAMPLES = 32
"""Most samples per picture."""
ACROSS = 8
"""Images side by side."""
MOST_BARS = 20
SIGNED, UNSIGNED = "RdBu_r", "magma"
"""Colours: red speaks for the class and blue against it; or brighter is more."""


def image_shape(input_shape: Shape, given: Shape | None) -> Shape | None:
    """Return the shape (height, width) or (height, width, colours) that inputs are to be drawn in; None: no image.

    >>> image_shape((8, 8), None), image_shape((28, 28, 1), None), image_shape((64,), None), image_shape((64,), (8, 8))
    ((8, 8), (28, 28), None, (8, 8))
    """
    if given is not None:
        if math.prod(given) != math.prod(input_shape):
            text = "x".join(map(str, given))
            raise DataError(f"--shape {text} has {math.prod(given)} numbers, but a sample has {math.prod(input_shape)}")
        return given
    shape = input_shape[:2] if input_shape[2:] == (1,) else input_shape
    return shape if min(shape, default=0) > 1 and (len(shape) == 2 or shape[2:] in ((3,), (4,))) else None


def shape_hint(input_shape: Shape) -> str:
    """Return a hint if the inputs may be images."""
    side = math.isqrt(math.prod(input_shape))
    if len(input_shape) == 1 and side > 3 and side * side == input_shape[0]:
        return f"if these are images, draw them as such by --shape {side}x{side}"
    return ""


def draw_images(
    title: str, chosen: ExplainedRows, x: Array, found: Sequence[Attribution], shape: Shape, path: Path
) -> None:
    """Draw each sample above its attributions, each with its own colour scale."""
    count = min(len(found), MOST_SAMPLES)
    across, blocks = min(count, ACROSS), -(-count // ACROSS)
    signed = not math.isnan(found[0].baseline_output)
    figure = new_figure(max(6.0, 1.3 * across), 2.9 * blocks + 0.8)
    axes = figure.subplots(2 * blocks, across, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for place, each in enumerate(found[:count]):
        block, column = divmod(place, ACROSS)
        above, below = axes[2 * block, column], axes[2 * block + 1, column]
        above.imshow(_visible(x[place].reshape(shape)), cmap="gray")
        above.set_title(f"row {chosen.numbers[place]}: {each.target}\n({each.output:.3g})", fontsize=9)
        values = _flat_colours(each.values.reshape(shape), signed=signed)
        largest = float(np.abs(values).max()) or 1.0
        below.imshow(values, cmap=SIGNED if signed else UNSIGNED, vmin=-largest if signed else 0.0, vmax=largest)
    meaning = "red speaks for that output, blue against it" if signed else "the brighter, the more it matters"
    figure.suptitle(
        f"{title}\nabove: row, output explained, its value; below: {meaning}", fontsize=10, parse_math=False
    )
    save_figure(path, figure)


def _visible(image: Array) -> Array:
    """Return an image with its values in [0, 1]."""
    low, high = float(image.min()), float(image.max())
    return np.asarray((image - low) / (high - low if high > low else 1.0))


def _flat_colours(values: Array, *, signed: bool) -> Array:
    """Return one value per pixel: the sum over its channels, or the largest."""
    if values.ndim == 2:
        return values
    return np.asarray(values.sum(axis=-1) if signed else values.max(axis=-1))


def draw_bars(title: str, chosen: ExplainedRows, found: Sequence[Attribution], path: Path) -> None:
    """Draw a panel per sample: bars of the inputs with the largest mean attributions, in the same order."""
    shown = found[:ACROSS]
    values = np.stack([each.values.reshape(-1) for each in shown])
    most = np.argsort(-np.abs(values).mean(axis=0), kind="stable")[:MOST_BARS]
    names, places = [names_of(chosen.names, chosen.shape)[place] for place in most], range(len(most))
    across = min(4, len(shown))
    lines = -(-len(shown) // across)
    figure = new_figure(2.0 + 2.2 * across, lines * (0.9 + 0.2 * len(most)) + 0.7)
    axes = figure.subplots(lines, across, squeeze=False, sharey=True)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    signed = not math.isnan(found[0].baseline_output)
    for place, (axis, each) in enumerate(zip(axes.flat, shown, strict=False)):
        bars = values[place, most]
        axis.barh(places, bars, color=np.where(bars > 0, "tab:red", "tab:blue") if signed else "0.4")
        axis.axvline(0, color="0.3", linewidth=0.8)
        axis.set_title(f"row {chosen.numbers[place]}: {each.target} ({each.output:.3g})", fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0, 0].set_yticks(places, names, parse_math=False)
    axes[0, 0].invert_yaxis()  # of all: they share it
    meaning = "; red speaks for that output, blue against it" if signed else ""
    figure.suptitle(f"{title}\nrow, output explained, its value{meaning}", fontsize=10, parse_math=False)
    save_figure(path, figure)


def draw_importance(title: str, chosen: ExplainedRows, importance: Importance, shape: Shape | None, path: Path) -> None:
    """Draw the importance of each feature: as an image where inputs are images, else as bars with their spread."""
    mean, spread = importance.mean, importance.spread
    label = f"{importance.score} gets worse by"
    if shape is not None:
        figure = new_figure(6, 5)
        axes = figure.subplots()
        values = _flat_colours(mean.reshape(shape), signed=True)
        figure.colorbar(
            axes.imshow(values, cmap=UNSIGNED, vmin=0, vmax=max(0.0, float(values.max())) or 1.0), ax=axes, label=label
        )
    else:
        order = ranked(importance)[:MOST_BARS]
        names, places = names_of(chosen.names, chosen.shape), range(len(order))
        figure = new_figure(7, 1.3 + 0.28 * len(order))
        axes = figure.subplots()
        axes.barh(places, mean[order], xerr=spread[order], color="tab:blue", ecolor="0.4")
        axes.set_yticks(places, [names[place] for place in order], parse_math=False)
        axes.invert_yaxis()
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set_xlabel(label)
    figure.suptitle(title, fontsize=10, parse_math=False)
    save_figure(path, figure)
