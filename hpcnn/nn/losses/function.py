"""A loss that a function of the user computes, in the library whose tensors it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hpcnn.nn.loss import Loss, TargetKind, Terms
from hpcnn.nn.workspace import Array, Workspace


@dataclass(frozen=True)
class FunctionOfValues(Loss):
    """Stands for the function in the job; a backend calls it."""

    name: ClassVar[str] = "function"
    function: str
    """Its name."""

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """Fail: NumPy mode has no gradients of the function, so that such jobs are refused."""
        raise AssertionError(f"the loss {self.function!r} is not for arrays")


@dataclass(frozen=True)
class FunctionOfLabels(FunctionOfValues):
    """The same for integer labels."""

    target_kind: ClassVar[TargetKind] = "labels"
