"""What the outputs of a trained model mean: the names of values, or the classes and their probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.data.tables.recipe import TargetRecipe
from hpcnn.errors import DataError
from hpcnn.nn.loss import BoundLoss
from hpcnn.runs.inference import TrainedModel
from hpcnn.training.metrics import is_multilabel

_MATRIX = "confusion_matrix"


@dataclass(frozen=True)
class Answer:
    """What the outputs of one sample, (units,), mean."""

    target: str
    """What is predicted."""
    names: tuple[str, ...]
    """The classes in order, or what each output is the value of."""
    classes: bool
    worded: bool = False
    """Whether classes have words; else they are numbers from 0."""

    def probabilities(self, outputs: Array) -> Array:
        """Return the probability of each class, (n, classes): of one output, that of the second class."""
        return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs

    def labels(self, outputs: Array) -> Array:
        """Return the most probable class of each sample, (n,): words if there are some, else numbers."""
        places = self.probabilities(outputs).argmax(axis=1)
        return np.asarray(np.array(self.names, np.str_)[places] if self.worded else places)

    @property
    def header(self) -> list[str]:
        """The names of the columns of `rows`."""
        return [self.target, *(f"{self.target}={name}" for name in self.names)] if self.classes else [*self.names]

    def rows(self, outputs: Array) -> list[list[str]]:
        """Return a table of outputs (n, units): the class and the probability of each, or the values."""
        if not self.classes:
            return [[str(value) for value in row] for row in outputs]
        pairs = zip(self.labels(outputs), self.probabilities(outputs), strict=True)
        return [[str(label), *(str(value) for value in row)] for label, row in pairs]


def answers_of(trained: TrainedModel) -> dict[str, Answer]:
    """Return what the outputs of a model mean: by the name of each, or by "" of a single one.

    Raises:
        DataError: outputs are no row of numbers a sample.
    """
    network, loss, start = trained.spec.network, trained.spec.loss, 0
    targets = trained.recipe.targets if trained.recipe else []
    if isinstance(loss, BoundLoss):
        labels, one_hot = loss.target_kind == "labels", trained.job.data.one_hot
        return {"": _answer(targets, network.output_shape, network.ending, loss.loss.name, labels or one_hot)}
    found = {}
    for part in loss.parts:
        size = int(np.prod(part.target_shape, dtype=np.int64))
        own, output = targets[start : start + size], part.output
        found[part.name] = _answer(own, output.shape, output.ending, part.bound.loss.name, part.labels, part.name)
        start += size
    return found


def words_of_matrices(trained: TrainedModel, values: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Return the classes in words that the rows and columns of each confusion matrix among `values` stand for."""
    matrices = [key for key in values if key.endswith(_MATRIX)]
    try:
        answers = answers_of(trained) if matrices else {}
    except DataError:  # classes of pixels: numbers
        return {}
    prefixes = {f"{name}_{_MATRIX}" if name else _MATRIX: answer for name, answer in answers.items()}
    return {key: prefixes[key].names for key in matrices if key in prefixes and prefixes[key].worded}


def _answer(
    targets: Sequence[TargetRecipe],
    shape: tuple[int, ...],
    ending: str | None,
    loss: str,
    labels: bool,
    name: str = "",
) -> Answer:
    if len(shape) != 1:
        raise DataError(
            f"the outputs have shape {shape} a sample, but a table takes one row of numbers. Write them to a .npy file."
        )
    units, known = shape[0], tuple(target.name for target in targets)
    many = is_multilabel(loss=loss, ending=ending, outputs=units, labels=labels, one_hot=False)
    if (labels or loss.endswith("crossentropy")) and not many:
        words = known if len(known) == units > 1 else tuple(targets[0].words) if len(targets) == 1 else ()
        count = max(2, units)
        names = tuple(words[place] if place < len(words) else str(place) for place in range(count))
        return Answer(known[0] if len(known) == 1 else name or "class", names, classes=True, worded=bool(words))
    if len(known) == units:
        return Answer(name, known, classes=False)
    stem = name or "output"
    return Answer(name, (stem,) if units == 1 else tuple(f"{stem}_{place}" for place in range(units)), classes=False)
