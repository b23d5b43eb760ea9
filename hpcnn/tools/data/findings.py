"""What looks wrong in data: each finding says what was found, and what to do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.formatting import counted
from hpcnn.data.columns import listed
from hpcnn.data.samples import Splits
from hpcnn.data.source import Source
from hpcnn.job.schema import Job
from hpcnn.tools.data.columns import entry_names, fields_behind
from hpcnn.tools.data.facts import TRAINING, VALIDATION, ClassFacts, Finding
from hpcnn.tools.data.measure import Measured, Moments
from hpcnn.tools.report.values import figure

LEAK = 0.999
"""Correlation of an input with a target beyond which one gives the other away."""
LARGE = 100.0
"""Range or size of inputs beyond which they should be scaled."""
UNEVEN = 10.0
"""The largest class is so many times the smallest."""
_FEW_SAMPLES = 5


@dataclass(frozen=True, eq=False)
class Evidence:
    """What findings are made from."""

    job: Job
    source: Source
    is_text: bool
    """Whether the numbers stand for characters."""
    measured: Mapping[str, Measured]
    """By part."""
    splits: Splits | None
    classes: Sequence[ClassFacts]
    problem: str
    """Why a training would end at once; empty if it would not."""
    notes: tuple[str, ...]
    """What a training would warn of."""
    counts: Mapping[str, int]
    """Samples of each part."""
    network: Moments | None
    """Of the inputs that the network gets."""
    scales_itself: bool
    """Whether its first layer takes numbers of any size, as an embedding does."""

    @property
    def train(self) -> Measured:
        """What was measured over the training data."""
        return self.measured[TRAINING]

    @property
    def names(self) -> list[str]:
        """Of the entries of the inputs."""
        found = self.source.feature_names if self.source.columns is None else self.source.columns.inputs
        return entry_names(self.source.x, found)

    @property
    def numbers(self) -> NDArray[np.bool_]:
        """Which entries of the inputs are numbers, and not places of more than two words."""
        fields = fields_behind(self.source.x)
        return np.array(
            [field.kind != "words" or len(field.words) == 2 for field in fields] or [True] * len(self.train.x.count)
        )


def findings_of(evidence: Evidence) -> list[Finding]:
    """Return all findings, the worst first."""
    found = [Finding("error", f"the training would end at once: {evidence.problem}")] if evidence.problem else []
    found += [Finding("warning", note) for note in evidence.notes]
    for check in (_not_finite, _leaks, _duplicates, _constant, _unscaled, _classes, _validation):
        found += check(evidence)
    order = ("error", "warning", "note")
    return sorted(found, key=lambda one: order.index(one.level))


def _not_finite(evidence: Evidence) -> Iterator[Finding]:
    refused = evidence.splits is None
    for part, measured in evidence.measured.items():
        for what, moments in (("inputs", measured.x), ("targets", measured.y)):
            for kind, counts in (("missing (NaN)", moments.missing), ("infinite", moments.infinite)):
                bad, places = int(counts.sum()), np.flatnonzero(counts)
                if not bad:
                    continue
                known = what == "inputs" and len(evidence.names) == len(counts)
                where = f", in {listed([evidence.names[place] for place in places])}" if known else ""
                advice = " Fill or drop them; of tables, data.missing fills them." if refused else ""
                yield Finding(
                    "warning" if refused else "note",
                    f"{kind} in the {what} of the {part} data: {counted(bad, 'value')}{where}.{advice}",
                )


def _leaks(evidence: Evidence) -> Iterator[Finding]:
    train = evidence.train
    if train.correlation is None or train.identical is None or train.looked_at < _FEW_SAMPLES:
        return
    if evidence.is_text or evidence.job.data.window is not None:  # of windows the past of a target is an input
        return
    spread = train.x.low < train.x.high
    for target in range(train.correlation.shape[1]):
        name = _target_name(evidence, target)
        same = train.identical[:, target] & spread
        for place in np.flatnonzero((np.abs(train.correlation[:, target]) > LEAK) & evidence.numbers & spread | same):
            how = "is the target" if same[place] else "gives the target away"
            more = "" if same[place] else f" (correlation {train.correlation[place, target]:.5f})"
            yield Finding(
                "warning",
                f"input {evidence.names[place]!r} {how} {name}{more}. If it is not known when the model is used, leave "
                "it out (tables: data.exclude).",
            )


def _target_name(evidence: Evidence, place: int) -> str:
    columns = evidence.source.columns
    names = columns.targets if columns and columns.targets else None
    return repr(names[place]) if names else str(place)


def _duplicates(evidence: Evidence) -> Iterator[Finding]:
    train = evidence.train
    sampled = " that were looked at" if train.looked_at < evidence.counts[TRAINING] else ""
    seen = dict(zip(train.hashes, train.target_hashes, strict=True))
    held = evidence.measured.get(VALIDATION)
    if held is not None:
        again = sum(one in seen for one in held.hashes)
        if again:
            yield Finding(
                "warning",
                f"{again:,} of {counted(held.looked_at, 'validation sample')} have the inputs of a training "
                f"sample{sampled}: validation shows how well the model remembers them. Remove duplicates, or keep what "
                "belongs together on one side of the split.",
            )
    repeated = sum(count - 1 for count in Counter(train.hashes).values())
    if not repeated:
        return
    pairs = set(zip(train.hashes, train.target_hashes, strict=True))
    unlike = len(pairs) - len(seen)
    other = f"; {unlike:,} of them have another target, which no model can learn" if unlike else ""
    yield Finding("note", f"{counted(repeated, 'training sample')}{sampled} repeat the inputs of another{other}.")


def _constant(evidence: Evidence) -> Iterator[Finding]:
    train = evidence.train
    places = np.flatnonzero(train.x.constant)
    if train.looked_at > 1 and len(places):
        if len(places) == len(train.x.count):
            yield Finding("warning", "all inputs are constant: there is nothing to learn from.")
        else:
            image = len(evidence.source.x.shape) > 2
            said = (
                f"{len(places):,} of {len(train.x.count):,} entries of a sample"
                if image
                else counted(len(places), "input")
            )
            yield Finding(
                "note" if image else "warning",
                f"constant in the training data: {said}, {listed([evidence.names[place] for place in places])}. They "
                f"tell the model nothing{'' if image else ': leave them out (tables: data.exclude)'}.",
            )
    for place in np.flatnonzero(train.y.constant) if train.looked_at > 1 and not evidence.classes else ():
        if len(train.y.count) == np.prod(evidence.source.y.shape[1:], dtype=int):
            yield Finding("warning", f"target {_target_name(evidence, int(place))} is constant in the training data.")


def _unscaled(evidence: Evidence) -> Iterator[Finding]:
    moments, splits = evidence.network, evidence.splits
    if moments is None or splits is None or evidence.job.data.scale != "none" or evidence.scales_itself:
        return
    size = np.where(moments.count > 0, np.maximum(np.abs(moments.low), np.abs(moments.high)), 0.0)
    places = np.flatnonzero(size > LARGE)
    if not len(places):
        return
    worst = places[int(np.argmax(size[places]))]
    names = entry_names(splits.train.x, splits.train.feature_names)
    single = len(names) == len(size)
    which = f"{len(places):,} of {len(size):,} inputs" if single else "inputs"
    of = f"{names[worst]!r}: " if single else ""
    yield Finding(
        "warning",
        f"{which} have values beyond {LARGE:g} ({of}{figure(float(moments.low[worst]))} to "
        f'{figure(float(moments.high[worst]))}), and data.scale is "none": networks learn badly from large inputs. Set '
        'data.scale = "standardize" or "minmax".',
    )


def _classes(evidence: Evidence) -> Iterator[Finding]:
    classes = evidence.classes
    if not classes or evidence.is_text:
        return
    told = any("no sample of the training data is of class" in note for note in evidence.notes)
    absent = [one.name for one in classes if not one.training]
    if absent and not told:
        yield Finding("warning", f"no training sample is of class {listed(absent)}: the model can't learn it.")
    held = [one.name for one in classes if one.validation == 0 and one.training]
    if held:
        yield Finding(
            "warning",
            f"no validation sample is of class {listed(held)}: validation says nothing of it. Hold out more samples, "
            "or others.",
        )
    present = [one for one in classes if one.training]
    if len(present) < 2:
        yield Finding("warning", "all training samples are of one class.")
        return
    few, many = (choice(present, key=lambda one: one.training) for choice in (min, max))
    if many.training > UNEVEN * few.training:
        weighted = getattr(evidence.job.loss, "class_weights", "none") != "none"
        one_each = math.prod(evidence.source.y.shape[1:]) == 1
        balance = ' Consider loss.class_weights = "balanced", and f1 beside accuracy.'
        advice = balance if one_each and not weighted else ""
        yield Finding(
            "note" if weighted else "warning",
            f"classes are imbalanced: {many.training:,} of class {many.name!r}, {few.training:,} of class "
            f"{few.name!r}.{advice}",
        )


def _validation(evidence: Evidence) -> Iterator[Finding]:
    if VALIDATION not in evidence.measured:
        yield Finding("note", "there are no validation data. Set data.validation_fraction, or name a validation file.")
