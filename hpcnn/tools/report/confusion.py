"""The confusion matrix: as a table that is coloured, or the most frequent mistakes where there are many classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from hpcnn.core.formatting import counted, percent
from hpcnn.tools.html import Child, section, table, tag
from hpcnn.tools.report.record import RunRecord, layers_of, mapping
from hpcnn.tools.report.values import figure

_MOST_SHOWN = 24
"""Of classes, in a table that is still read."""
_MISTAKES = 8
_FAINTEST = 0.3
"""Of the colour of a mistake."""
_HOW = 'The job has no such metric. Add "confusion_matrix" to its train.metrics: it changes no weight.'

Matrix = Sequence[Sequence[float]]


def confusion(run: RunRecord) -> Element | None:
    """Return the section on a run's confusion matrix; None for a job that is not about classes."""
    found = run.confusion()
    if found is None:
        return section("Confusion matrix", note=_HOW) if _has_classes(run) else None
    samples, epoch, matrix = found
    count, right = sum(map(sum, matrix)), sum(row[place] for place, row in enumerate(matrix))
    note = (
        f"{figure(int(right))} of {figure(int(count))} {samples} samples are right after epoch {epoch:,}"
        f"{f' ({percent(right / count)})' if count else ''}. Rows: the true class. Columns: the predicted one."
    )
    grid = _grid(matrix) if len(matrix) <= _MOST_SHOWN else None
    return section("Confusion matrix", tag("div", grid, _mistakes(matrix), class_="matrix"), note=note)


def _has_classes(run: RunRecord) -> bool:
    """Return whether the job may have the metric: one class a sample is true."""
    from hpcnn.training.metrics import is_multilabel  # NumPy comes with it

    loss, data = (mapping(run.settings.get(name)) for name in ("loss", "data"))
    name, one_hot = str(loss.get("name")), data.get("one_hot") is True
    if not (one_hot or name.endswith("crossentropy")):
        return False
    layers = layers_of(run.settings)
    units = [layer["units"] for layer in layers if "units" in layer]
    endings = [layer["activation"] for layer in layers if "activation" in layer]
    return not is_multilabel(
        loss=name,
        ending=str(endings[-1]) if endings else None,
        outputs=1 if units[-1:] == [1] else 2,  # or more
        labels=name.startswith("sparse_"),
        one_hot=one_hot,
    )


def _grid(matrix: Matrix) -> Element:
    head: list[Child] = ["", *(str(place) for place in range(len(matrix)))]
    rows: list[list[Child]] = [
        [str(true), *(_cell(true, predicted, count, sum(row)) for predicted, count in enumerate(row))]
        for true, row in enumerate(matrix)
    ]
    return table(head, rows, caption="Samples by true and predicted class", class_="confusion")


def _cell(true: int, predicted: int, count: float, of: float) -> Element:
    share = count / of if of else 0.0
    if not count:
        return tag("td", "·", class_="zero")
    kind = "right" if true == predicted else "wrong"
    # Mistakes are few: their colours grow faster, or none would be seen.
    strength = share if true == predicted else max(_FAINTEST, math.sqrt(share))
    title = f"true {true}, predicted {predicted}: {percent(share)} of the samples of class {true}"
    return tag("td", figure(int(count)), class_=kind, style=f"--strength:{100 * strength:.0f}%", title=title)


def _mistakes(matrix: Matrix) -> Element:
    wrong = [
        (count, true, predicted)
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    if not wrong:
        return tag("p", "No mistakes.", class_="note")
    wrong.sort(key=lambda one: (-one[0], one[1], one[2]))
    rows: list[list[Child]] = [
        [f"{true} taken for {predicted}", figure(int(count)), percent(count / sum(matrix[true]))]
        for count, true, predicted in wrong[:_MISTAKES]
    ]
    more = f"Most frequent mistakes ({counted(len(wrong), 'kind')})"
    return table(["", "samples", "of the class"], rows, caption=more, class_="figures")
