"""Session settings of TensorFlow 1, translated to TensorFlow 2."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hpcnn.keras.check.edits import Edit, span
from hpcnn.keras.check.scope import Script, root, standard
from hpcnn.keras.check.tables import CONFIGURATION, SESSION

_THREADS = {"intra_op_parallelism_threads", "inter_op_parallelism_threads"}


def session_edits(script: Script) -> Iterator[Edit]:
    """Yield replacements for statements that create or set a session."""
    configurations = {
        target.id
        for node in ast.walk(script.tree)
        if isinstance(node, ast.Assign) and _calls(node.value, script) in CONFIGURATION
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for body in _bodies(script.tree):
        for statement in body:
            new = _instead(statement, configurations, script)
            if new is not None:
                text = ("\n" + " " * statement.col_offset).join(new)
                yield Edit(*span(statement), text or ("" if len(body) > 1 else "pass"))


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                yield body


def _instead(statement: ast.stmt, configurations: set[str], script: Script) -> list[str] | None:
    """Return the lines that replace a statement; None: it stays."""
    if not isinstance(statement, ast.Assign | ast.Expr):
        return None
    called = _calls(statement.value, script)
    if called in SESSION:
        return []
    tensorflow, hvd = script.scope.own_name("tensorflow") or "tf", script.scope.own_name("hvd") or "hvd"
    if called in CONFIGURATION:
        return [f'gpus = {tensorflow}.config.list_physical_devices("GPU")']
    if not isinstance(statement, ast.Assign) or not isinstance(target := statement.targets[0], ast.Attribute):
        return None
    if root(target) not in configurations:
        return None
    if target.attr == "allow_growth":
        return ["for gpu in gpus:", f"    {tensorflow}.config.experimental.set_memory_growth(gpu, True)"]
    if target.attr == "visible_device_list":
        return ["if gpus:", f'    {tensorflow}.config.set_visible_devices(gpus[{hvd}.local_rank()], "GPU")']
    if target.attr in _THREADS:
        return [f"{tensorflow}.config.threading.set_{target.attr}({ast.unparse(statement.value)})"]
    return []


def _calls(value: ast.expr, script: Script) -> str:
    """Return the standard name of what an expression calls."""
    return standard(script.scope.full(value.func) or "") if isinstance(value, ast.Call) else ""
