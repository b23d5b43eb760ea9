"""Import statements of names that have moved or been removed."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

import hpcnn.keras
from hpcnn.keras.check.edits import Edit, span
from hpcnn.keras.check.scope import standard
from hpcnn.keras.check.tables import GONE, ONLY_IN_TENSORFLOW, PRIVATE, RENAMED, SESSION, STILL_IN_BACKEND

_PARTS_OF_HOROVOD = {"compression", "functions", "mpi_ops"}
"""Modules of Horovod whose names its packages also export."""

New = str | None
"""The new full name; None: it is removed; the same name: it stays."""


def missing(full: str) -> str:
    """Return advice about a name of Horovod that hpcnn does not have; otherwise an empty string."""
    name = standard(full)
    first, *rest = name.split(".")
    if first == "horovod":
        return str(hpcnn.keras.unsupported(rest[0])) if rest else ""
    if first != "hvd" or not (rest := [part for part in rest if part not in _PARTS_OF_HOROVOD]):
        return ""
    if rest[0] == "callbacks":
        from hpcnn.keras.callbacks import __all__ as callbacks

        known = len(rest) == 1 or rest[1] in callbacks
        return "" if known else f"hpcnn.keras.callbacks has no {rest[1]!r}"
    return "" if rest[0] in (*hpcnn.keras.__all__, "*") else str(hpcnn.keras.unsupported(rest[0]))


def renamed(full: str) -> str:
    """Return the new full name of an object, which may be the same."""
    if f"{full}.".startswith(f"{PRIVATE}."):
        full = f"tensorflow.keras{full.removeprefix(PRIVATE)}"
    name = standard(full)
    for old, new in RENAMED.items():
        if name == old or name.startswith(f"{old}."):
            moved = new + name.removeprefix(old)
            return f"tensorflow.{moved}" if full.startswith("tensorflow.") and moved.startswith("keras.") else moved
    return full


def only_in_tensorflow(full: str) -> bool:
    """Return whether a name of `keras` now exists only in `tensorflow.keras`."""
    if not full.startswith(ONLY_IN_TENSORFLOW) or full in SESSION or full in GONE:
        return False
    return not full.startswith("keras.backend.") or full.split(".")[2] not in STILL_IN_BACKEND


def import_edits(node: ast.Import | ast.ImportFrom, moved: Collection[str]) -> Iterator[Edit]:
    """Yield what to change in an import statement.

    Args:
        node: the statement.
        moved: the script's own names of modules that must come from TensorFlow.
    """
    module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    if isinstance(node, ast.ImportFrom) and (node.level or node.module is None):
        return
    new: list[tuple[ast.alias, str]] = []
    same = True
    for alias in node.names:
        full = module + alias.name
        if why := missing(full):
            yield Edit(*span(node), None, why)
        elif standard(full) in GONE:
            yield Edit(*span(node), None, GONE[standard(full)])
        target = _target(full, alias, moved)
        same = same and target == full
        if target is not None:
            new.append((alias, target))
    if not same:
        lines = _imports(new) if isinstance(node, ast.Import) else _from_imports(new)
        yield Edit(*span(node), ("\n" + " " * node.col_offset).join(lines))


def _target(full: str, alias: ast.alias, moved: Collection[str]) -> New:
    name = standard(full)
    if name.split(".")[0] == "hvd" and not missing(full):
        return ".".join(["hpcnn", "keras", *(part for part in name.split(".")[1:] if part not in _PARTS_OF_HOROVOD)])
    if full == "horovod" or name in SESSION:
        return None
    own = alias.asname or (full.partition(".")[0] if full == alias.name else alias.name)
    if only_in_tensorflow(full) or own in moved:
        return f"tensorflow.{full}"
    return renamed(full)


def _imports(new: list[tuple[ast.alias, str]]) -> Iterator[str]:
    for alias, target in new:
        if alias.asname:
            yield f"import {target} as {alias.asname}"
        elif target.startswith("tensorflow.") and not alias.name.startswith("tensorflow"):
            yield "from tensorflow import keras"
        else:
            yield f"import {target}"


def _from_imports(new: list[tuple[ast.alias, str]]) -> Iterator[str]:
    by_module: dict[str, list[str]] = {}
    for alias, target in new:
        module, _, name = target.rpartition(".")
        own = alias.asname or alias.name
        by_module.setdefault(module, []).append(name if own == name else f"{name} as {own}")
    for module, names in by_module.items():
        yield f"from {module} import {', '.join(names)}"
