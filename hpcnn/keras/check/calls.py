"""Calls whose arguments have been renamed or removed, or whose files need another suffix."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from hpcnn.keras.check.edits import Edit, span
from hpcnn.keras.check.imports import renamed
from hpcnn.keras.check.scope import Script, standard
from hpcnn.keras.check.tables import KEYWORD_NOTES, METHOD_KEYWORDS, METHODS, NAME_KEYWORDS

_SAVES = {"save", "save_model", "save_weights", "ModelCheckpoint", "BestModelCheckpoint"}
_LOADS = {"load_model", "load_weights"}
_OLD_ENDINGS = (".h5", ".hdf5")


def call_edits(call: ast.Call, script: Script) -> Iterator[Edit]:
    """Yield what to change in a call."""
    function = call.func
    full = script.scope.full(function)
    if isinstance(function, ast.Attribute) and full is None:
        yield from _renamed_method(function)
        yield from _keywords(call, METHOD_KEYWORDS.get(function.attr, {}))
        if function.attr == "compile":
            yield from _metrics(call)
    name = standard(renamed(full)) if full else ""
    yield from _keywords(call, _keywords_of(name))
    yield from _files(call, script)


def _keywords_of(name: str) -> dict[str, str | None]:
    module, _, _ = name.rpartition(".")
    return NAME_KEYWORDS.get(name) or NAME_KEYWORDS.get(f"{module}.", {})


def _renamed_method(function: ast.Attribute) -> Iterator[Edit]:
    if function.attr in METHODS:
        _, (line, column) = span(function)
        yield Edit((line, column - len(function.attr)), (line, column), METHODS[function.attr])


def _keywords(call: ast.Call, changed: dict[str, str | None]) -> Iterator[Edit]:
    """Rename keywords, and remove those that no longer exist, with their commas."""
    arguments: list[ast.expr | ast.keyword] = sorted([*call.args, *call.keywords], key=lambda each: span(each)[0])
    gone = []
    for argument in arguments:
        keyword = argument.arg if isinstance(argument, ast.keyword) else None
        gone.append(keyword is not None and changed.get(keyword, "") is None)
        if keyword is not None and changed.get(keyword):
            line, column = span(argument)[0]
            yield Edit((line, column), (line, column + len(keyword)), changed[keyword])
    first = 0
    while True in gone[first:]:
        first = gone.index(True, first)
        last = next((n for n in range(first, len(gone)) if not gone[n]), len(gone)) - 1
        start, end = span(arguments[first])[0], span(arguments[last])[1]
        if last + 1 < len(arguments):
            end = span(arguments[last + 1])[0]
        elif first:
            start = span(arguments[first - 1])[1]
        notes = [KEYWORD_NOTES.get(str(each.arg), "") for each in arguments[first : last + 1] if hasattr(each, "arg")]
        yield Edit(start, end, "", "; ".join(filter(None, notes)))
        first = last + 1


def _metrics(call: ast.Call) -> Iterator[Edit]:
    for keyword in call.keywords:
        if keyword.arg in ("metrics", "weighted_metrics"):
            for node in ast.walk(keyword.value):
                if isinstance(node, ast.Constant) and node.value == "acc":
                    yield Edit(*span(node), '"accuracy"')


def _files(call: ast.Call, script: Script) -> Iterator[Edit]:
    """Change the suffixes of model files to those that Keras 3 requires, except for those only loaded."""
    function, ending = _function_of_keras(call, script), _saved_ending(call, script)
    if ending is None and function not in _LOADS:
        return
    for node, old in _old_files(call, script):
        new = ending or _saved_files(script).get(_pattern(node))
        (line, column), (last, end) = span(node)
        if new is None or line != last:
            continue
        place = script.lines[line - 1].rindex(old.encode(), column, end)
        yield Edit((line, place), (line, place + len(old)), new, "Keras 3 writes models as .keras files")


def _function_of_keras(call: ast.Call, script: Script) -> str:
    """Return the name of a function or class of Keras or hpcnn, or of any object's method; "" for others."""
    full = script.scope.full(call.func)
    if full is not None:
        module, *_, name = standard(renamed(full)).split(".")
        return name if module in ("keras", "hvd") else ""
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _saved_ending(call: ast.Call, script: Script) -> str | None:
    """Return the suffix of the file that a call saves; None if it saves no Keras file."""
    function = _function_of_keras(call, script)
    if function not in _SAVES:
        return None
    weights_only = any(
        k.arg == "save_weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True
        for k in call.keywords
    )
    return ".weights.h5" if function == "save_weights" or weights_only else ".keras"


@lru_cache(maxsize=1)
def _saved_files(script: Script) -> dict[str, str]:
    """Return the new suffix of each file that the script saves with an old one, by its pattern."""
    calls = (node for node in ast.walk(script.tree) if isinstance(node, ast.Call))
    endings = ((call, _saved_ending(call, script)) for call in calls)
    return {_pattern(node): ending for call, ending in endings if ending for node, _ in _old_files(call, script)}


def _old_files(call: ast.Call, script: Script) -> Iterator[tuple[ast.expr, str]]:
    """Yield the strings with an old suffix in a call's path, and that suffix."""
    paths = call.args[1:] if _function_of_keras(call, script) == "save_model" else call.args  # that has the model first
    path = paths[0] if paths else next((k.value for k in call.keywords if k.arg == "filepath"), None)
    for node in _texts(path, script, set()) if path is not None else ():
        old = next((old for old in _OLD_ENDINGS if _text(node).endswith(old)), "")
        if old and not _text(node).endswith(".weights.h5"):
            yield node, old


def _pattern(node: ast.AST) -> str:
    """Return a string with {} for each value in it, whether formatted by `format` or not."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) for part in node.values)
    return re.sub(r"\{[^{}]*\}", "{}", _text(node)) if isinstance(node, ast.Constant) else "{}"


def _text(node: ast.AST) -> str:
    """Return the end of a string, which may be an f-string."""
    if isinstance(node, ast.JoinedStr):
        return _text(node.values[-1]) if node.values else ""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _texts(node: ast.AST, script: Script, seen: set[str]) -> Iterator[ast.expr]:
    """Yield the strings that a path consists of: in the call, in assignments to its names, in defaults of options."""
    if isinstance(node, ast.Constant | ast.JoinedStr):
        yield node
        return
    key = node.id if isinstance(node, ast.Name) else f".{node.attr}" if isinstance(node, ast.Attribute) else ""
    if key and key not in seen:
        seen.add(key)
        for value in script.values.get(key, ()):
            yield from _texts(value, script, seen)
    for child in ast.iter_child_nodes(node):
        yield from _texts(child, script, seen)
