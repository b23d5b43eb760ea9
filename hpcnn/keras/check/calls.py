"""Calls of methods and classes whose arguments have other names now, or files of another ending."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hpcnn.keras.check.edits import Edit, span
from hpcnn.keras.check.imports import renamed
from hpcnn.keras.check.scope import Script, standard
from hpcnn.keras.check.tables import KEYWORD_NOTES, METHOD_KEYWORDS, METHODS, NAME_KEYWORDS

_WHOLE_MODELS = {"save", "load_model", "save_model", "ModelCheckpoint", "BestModelCheckpoint"}
_OLD_ENDINGS = (".h5", ".hdf5")


def call_edits(call: ast.Call, script: Script) -> Iterator[Edit]:
    """Yield what to change in a call."""
    function = call.func
    own = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    full = script.scope.full(function)
    if isinstance(function, ast.Attribute) and full is None:
        yield from _renamed_method(function)
        yield from _keywords(call, METHOD_KEYWORDS.get(own, {}))
        if own == "compile":
            yield from _metrics(call)
    name = standard(renamed(full)) if full else ""
    yield from _keywords(call, _keywords_of(name))
    yield from _files(call, name.rpartition(".")[2] or own, script)


def _keywords_of(name: str) -> dict[str, str | None]:
    module, _, _ = name.rpartition(".")
    return NAME_KEYWORDS.get(name) or NAME_KEYWORDS.get(f"{module}.", {})


def _renamed_method(function: ast.Attribute) -> Iterator[Edit]:
    if function.attr in METHODS:
        _, (line, column) = span(function)
        yield Edit((line, column - len(function.attr)), (line, column), METHODS[function.attr])


def _keywords(call: ast.Call, changed: dict[str, str | None]) -> Iterator[Edit]:
    """Rename keywords, and take out those that are gone, each run of them with its commas."""
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


def _files(call: ast.Call, function: str, script: Script) -> Iterator[Edit]:
    """Give files of models the endings that Keras 3 asks for."""
    path = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "filepath"), None)
    if path is None:
        return
    weights_only = any(
        k.arg == "save_weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True
        for k in call.keywords
    )
    if function == "save_weights" or (weights_only and function in _WHOLE_MODELS):
        ending = ".weights.h5"
    elif function in _WHOLE_MODELS:
        ending = ".keras"
    else:
        return
    for node in _texts(path, script, set()):
        old = next((old for old in _OLD_ENDINGS if _text(node).endswith(old)), "")
        (line, column), (last, end) = span(node)
        if not old or _text(node).endswith(".weights.h5") or line != last:
            continue
        place = script.lines[line - 1].rindex(old.encode(), column, end)
        yield Edit((line, place), (line, place + len(old)), ending, "Keras 3 writes models as .keras files")


def _text(node: ast.AST) -> str:
    """Return the end of a text, which may be one with values in it."""
    if isinstance(node, ast.JoinedStr):
        return _text(node.values[-1]) if node.values else ""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _texts(node: ast.AST, script: Script, seen: set[str]) -> Iterator[ast.expr]:
    """Yield the texts that a path is made of: in the call, in what its names are set to, in defaults of options."""
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
