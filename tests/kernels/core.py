"""Call the kernels of one instruction set, or their references, with NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.core.tree import leaf_steps
from tests.kernels.structures import STRUCTURES

_ALIGNMENT = 64
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_SCRATCH = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)


class Core:
    """The kernels of one library: `core.run("add", np.float32, size, size=size, x1=x1, x2=x2, y=y)`."""

    def __init__(self, isa: str, library: Path):
        self.isa = isa
        self.library = ctypes.CDLL(str(library))

    def run(self, operation: str, dtype: DTypeLike, tasks: int | tuple[int, int], **fields: Any) -> None:
        """Do the first tasks of an operation, or those of a range. Its structure has zeros but for `fields`.

        A field is a number, an array, a list of arrays or structures, or a structure.
        """
        begin, end = (0, tasks) if isinstance(tasks, int) else tasks
        kept: list[Any] = []
        structure = make(operation, kept, **fields)
        name = f"{operation}_{{}}{self.isa}_{np.dtype(dtype).itemsize * 8}"
        scratch = self._scratch(name.replace(f"{operation}_{{}}", f"{operation}_scratch_"), structure)
        self.function(KERNEL, name.format(""))(ctypes.byref(structure), begin, end, scratch.ctypes.data)

    def _scratch(self, name: str, structure: ctypes.Structure) -> NDArray[np.uint8]:
        """Return the memory that a kernel asks for, full of NaN: it must not read what it has not written."""
        try:
            size_of = self.function(_SCRATCH, name)
        except AttributeError:
            return aligned(0)
        return aligned(size_of(ctypes.byref(structure)))

    def function(self, kind: type[ctypes._CFuncPtr], name: str) -> ctypes._CFuncPtr:
        """Return a function by its name: that of a kernel by the pointer of exports.c, a reference as it is."""
        try:
            return kind(ctypes.c_void_p.in_dll(self.library, f"at_{name}").value)
        except ValueError:
            return kind((name, self.library))


def aligned(size: int) -> NDArray[np.uint8]:
    """Return `size` bytes, all 0xFF, that begin at a multiple of 64."""
    memory = np.full(size + _ALIGNMENT, 0xFF, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]


def make(name: str, kept: list[Any], **fields: Any) -> ctypes.Structure:
    """Return a structure of operations.h; `kept` takes what it points to."""
    structure = STRUCTURES[name]()
    kept.append(structure)
    for field, value in fields.items():
        assert hasattr(structure, field), f"struct {name} has no {field}"
        within = isinstance(value, dict(structure._fields_)[field])  # a structure within this one
        setattr(structure, field, value if within else _value(value, kept))
    return structure


def _value(value: Any, kept: list[Any]) -> Any:
    kept.append(value)
    if isinstance(value, np.ndarray):
        return value.ctypes.data
    if isinstance(value, ctypes.Structure):
        return ctypes.addressof(value)
    if isinstance(value, list) and isinstance(value[0], ctypes.Structure):
        kept.append((type(value[0]) * len(value))(*value))
        return ctypes.addressof(kept[-1])
    if isinstance(value, list):
        kept.append((ctypes.c_void_p * len(value))(*(array.ctypes.data for array in value)))
        return ctypes.addressof(kept[-1])
    return value


def make_shards(groups: Sequence[Sequence[int]], kept: list[Any]) -> ctypes.Structure:
    """Return the shards of groups whose leaves have so many rows, each summed along its canonical tree."""
    sizes = [rows for group in groups for rows in group]
    folds = [len(step.fold) for group in groups for step in leaf_steps((0, len(group)))]
    tops = np.cumsum(1 - np.array(folds)) + np.array(folds)  # with the sums that the latest is added to
    return make(
        "shards",
        kept,
        rows=sum(sizes),
        groups=len(groups),
        group_leaf=np.cumsum([0, *map(len, groups)], dtype=np.int64),
        leaf_row=np.cumsum([0, *sizes], dtype=np.int64),
        folds=np.array(folds, np.int64),
        depth=int(tops.max()),
    )
