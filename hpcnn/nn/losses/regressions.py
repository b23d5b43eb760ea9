"""Losses of numbers: the mean of a function of output and target over a sample's outputs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.loss import EPSILON, Loss, Terms, mean_rows, sample_rows, sample_values, scratch_like
from hpcnn.nn.workspace import Array, Workspace


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean of (output - target)^2 over a sample's outputs."""

    name: ClassVar[str] = "mse"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        error = np.subtract(outputs, targets, out=scratch_like(outputs, ctx, "error"))
        rows = sample_rows(error)
        terms = np.vecdot(rows, rows, out=sample_values(outputs, ctx))
        np.divide(terms, rows.shape[1], out=terms)
        return terms, lambda: np.multiply(error, 2 / rows.shape[1], out=error)


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Mean of |output - target| over a sample's outputs; the gradient at 0 is 0."""

    name: ClassVar[str] = "mae"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        error = np.subtract(outputs, targets, out=scratch_like(outputs, ctx, "error"))
        terms = mean_rows(np.abs(error, out=scratch_like(outputs, ctx, "work")), ctx)

        def backward() -> Array:
            np.sign(error, out=error)
            return np.divide(error, sample_rows(error).shape[1], out=error)

        return terms, backward


@dataclass(frozen=True)
class Huber(Loss):
    """Mean over a sample's outputs of e^2 / 2 for |e| <= delta, of delta (|e| - delta / 2) beyond (Huber, 1964)."""

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ModelError(f"the loss 'huber' needs a delta above 0, but it is {self.delta}")

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        error = np.subtract(outputs, targets, out=scratch_like(outputs, ctx, "error"))
        clipped = np.clip(error, -self.delta, self.delta, out=scratch_like(outputs, ctx, "clipped"))
        # Both branches are clipped x (error - clipped / 2).
        work = np.multiply(clipped, 0.5, out=scratch_like(outputs, ctx, "work"))
        np.subtract(error, work, out=work)
        np.multiply(work, clipped, out=work)
        terms = mean_rows(work, ctx)
        return terms, lambda: np.divide(clipped, sample_rows(clipped).shape[1], out=clipped)


@dataclass(frozen=True)
class _Entrywise(Loss):
    """Base of the losses that are the mean over a sample's outputs of a function of output and target."""

    @abstractmethod
    def _terms(self, y: Array, t: Array, term: Array, slope: Array, work: Array) -> None:
        """Write the function and its derivative with respect to y; `work` is spare."""

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        term, slope, work = (scratch_like(outputs, ctx, use) for use in ("term", "slope", "work"))
        self._terms(outputs, targets, term, slope, work)
        return mean_rows(term, ctx), lambda: np.divide(slope, sample_rows(slope).shape[1], out=slope)


@dataclass(frozen=True)
class MeanAbsolutePercentageError(_Entrywise):
    """Mean of 100 |output - target| / |target| over a sample's outputs; targets nearer to 0 than 1e-7 count as 1e-7."""

    name: ClassVar[str] = "mape"

    def _terms(self, y: Array, t: Array, term: Array, slope: Array, work: Array) -> None:
        np.maximum(np.abs(t, out=work), EPSILON, out=work)
        np.divide(100, work, out=work)
        np.subtract(y, t, out=term)
        np.multiply(np.sign(term, out=slope), work, out=slope)
        np.multiply(term, slope, out=term)


@dataclass(frozen=True)
class MeanSquaredLogarithmicError(_Entrywise):
    """Mean of (log(1 + output) - log(1 + target))^2 over a sample's outputs; what is below 1e-7 counts as 1e-7."""

    name: ClassVar[str] = "msle"

    def _terms(self, y: Array, t: Array, term: Array, slope: Array, work: Array) -> None:
        np.log1p(np.maximum(t, EPSILON, out=work), out=work)
        np.maximum(y, EPSILON, out=slope)
        np.subtract(np.log1p(slope, out=term), work, out=term)
        np.divide(2, np.add(slope, 1, out=slope), out=slope)
        np.multiply(slope, np.greater_equal(y, EPSILON, out=work), out=slope)
        np.multiply(slope, term, out=slope)
        np.square(term, out=term)


@dataclass(frozen=True)
class LogCosh(_Entrywise):
    """Mean of log(cosh(output - target)) over a sample's outputs: about e^2 / 2, and |e| - log(2) for large errors."""

    name: ClassVar[str] = "log_cosh"

    def _terms(self, y: Array, t: Array, term: Array, slope: Array, work: Array) -> None:
        np.subtract(y, t, out=work)
        np.tanh(work, out=slope)
        np.abs(work, out=work)
        np.expm1(np.multiply(work, -2, out=term), out=term)
        np.log1p(np.multiply(term, 0.5, out=term), out=term)
        np.add(term, work, out=term)


@dataclass(frozen=True)
class Poisson(_Entrywise):
    """Mean of output - target log(output + 1e-7) over a sample's outputs: counts, and how many are expected."""

    name: ClassVar[str] = "poisson"

    def _terms(self, y: Array, t: Array, term: Array, slope: Array, work: Array) -> None:
        np.add(y, EPSILON, out=work)
        np.subtract(1, np.divide(t, work, out=slope), out=slope)
        np.multiply(np.log(work, out=work), t, out=work)
        np.subtract(y, work, out=term)


@dataclass(frozen=True)
class Hinge(_Entrywise):
    """Mean of max(0, 1 - t output) over a sample's outputs, where t is 1 for targets above 0 and -1 for others."""

    name: ClassVar[str] = "hinge"

    def _terms(self, y: Array, t: Array, term: Array, slope: Array, work: Array) -> None:
        np.subtract(1, np.multiply(np.greater(t, 0, out=slope), 2, out=slope), out=slope)
        np.add(np.multiply(slope, y, out=term), 1, out=term)
        np.multiply(slope, np.greater(term, 0, out=work), out=slope)
        np.maximum(term, 0, out=term)
