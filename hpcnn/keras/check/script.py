"""Read a script, and find the changes that it needs for Keras 3 and hpcnn."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

from hpcnn.errors import DataError
from hpcnn.keras.check.calls import call_edits
from hpcnn.keras.check.edits import Change, Edit, changes, span
from hpcnn.keras.check.imports import import_edits, missing, only_in_tensorflow, renamed
from hpcnn.keras.check.scope import Script, root, standard
from hpcnn.keras.check.sessions import session_edits
from hpcnn.keras.check.tables import GONE


def read(path: Path) -> str:
    """Return the text of a script.

    Raises:
        DataError: it can't be read, or is no script.
    """
    if path.suffix == ".ipynb":
        raise DataError(f"{str(path)!r} is a notebook: make a script of it first, jupyter nbconvert --to script")
    try:
        with tokenize.open(path) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"can't read {str(path)!r} ({error.strerror})") from None
    except (SyntaxError, UnicodeDecodeError):
        raise DataError(f"{str(path)!r} is no text: give a Python script") from None


def check(source: str, name: str) -> list[Change]:
    """Return the changes that a script needs, in the order of its lines.

    Raises:
        DataError: it is no Python.
    """
    try:
        script = Script(source, ast.parse(source))
        return changes(script.lines, list(_edits(script)))
    except SyntaxError as error:
        where = f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        where = str(error)
    raise DataError(f"{name!r} is no Python ({where}): give a script that Python 3 reads")


def _edits(script: Script) -> Iterator[Edit]:
    yield from session_edits(script)
    moved: set[str] = set()
    for node in _outermost(script.tree):
        full = script.scope.full(node)
        if full is not None:
            if only_in_tensorflow(full):
                moved.add(root(node))
            yield from _name_edits(node, full, script)
    for each in ast.walk(script.tree):
        if isinstance(each, ast.Import | ast.ImportFrom):
            yield from import_edits(each, moved)
        elif isinstance(each, ast.Call):
            yield from call_edits(each, script)
        elif isinstance(each, ast.Attribute) and each.attr == "lr":
            yield from _rate_edits(each)


def _outermost(node: ast.AST) -> Iterator[ast.Attribute | ast.Name]:
    """Yield complete names and chains of attributes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Attribute | ast.Name):
            yield child
            if isinstance(child, ast.Attribute) and not root(child):
                yield from _outermost(child)
        else:
            yield from _outermost(child)


def _name_edits(node: ast.Attribute | ast.Name, full: str, script: Script) -> Iterator[Edit]:
    """Yield the edits where a name is used, except those that its import already makes."""
    imported = script.scope.names[root(node)]
    if full == imported and standard(full) != "horovod":
        return
    name = standard(full)
    if why := missing(full):
        if not missing(imported):
            yield Edit(*span(node), None, why)
    elif imported == "horovod" and name.split(".")[0] == "hvd":
        yield Edit(*span(node), f"hpcnn.keras{name.removeprefix('hvd')}")
    elif advice := next((why for old, why in GONE.items() if name == old or name.startswith(f"{old}.")), ""):
        yield Edit(*span(node), None, advice)
    elif (new := renamed(full)) != full and renamed(imported) == imported and new.startswith(f"{imported}."):
        yield Edit(*span(node), root(node) + new.removeprefix(imported))


def _rate_edits(node: ast.Attribute) -> Iterator[Edit]:
    """Yield the new name of an optimizer's learning rate: Keras 3 accepts an assignment to `lr`, but ignores it."""
    owner = node.value
    if (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")) in ("optimizer", "opt"):
        (line, column) = span(node)[1]
        yield Edit((line, column - 2), (line, column), "learning_rate", "Keras 3 takes .lr, and does nothing with it")
