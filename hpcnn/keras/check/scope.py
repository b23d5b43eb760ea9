"""The full names behind a script's own names: `K.set_session` is `keras.backend.set_session`."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cached_property

_SPELLINGS = (
    (re.compile(r"^tensorflow\.(compat\.v[12]\.|python\.)?keras\b"), "keras"),
    (re.compile(r"^tensorflow\.(optimizers|losses|metrics|initializers)\b"), r"keras.\1"),
    (re.compile(r"^(horovod\.tensorflow\.keras|horovod\.tensorflow|horovod\.keras|hpcnn\.keras)\b"), "hvd"),
)


def standard(name: str) -> str:
    """Return a full name in the form of the tables."""
    for pattern, replacement in _SPELLINGS:
        name = pattern.sub(replacement, name)
    return name


@dataclass
class Scope:
    """The names that a script gives to modules and their contents."""

    names: dict[str, str] = field(default_factory=dict)
    """Its own name, and the full name as written in the import."""
    imports: dict[str, tuple[ast.Import | ast.ImportFrom, ast.alias]] = field(default_factory=dict)
    """Its own name, and where it was imported."""

    @classmethod
    def of(cls, tree: ast.Module) -> Scope:
        """Read the imports of a script, and assignments such as ``keras = tf.keras``."""
        scope = cls()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    own = alias.asname or alias.name.partition(".")[0]
                    scope.names[own] = alias.name if alias.asname else own
                    scope.imports[own] = node, alias
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    scope.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    scope.imports[alias.asname or alias.name] = node, alias
        for node in tree.body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                full = scope.full(node.value)
                if full is not None and not isinstance(node.value, ast.Call):
                    scope.names.setdefault(node.targets[0].id, full)
        return scope

    def full(self, node: ast.AST) -> str | None:
        """Return the full name of a chain of attributes, if it begins with an import."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.names:
            return None
        return ".".join([self.names[node.id], *reversed(parts)])

    def own_name(self, *full: str) -> str | None:
        """Return the script's name of the first of these modules that it imports."""
        return next((own for name in full for own, known in self.names.items() if standard(known) == name), None)


def root(node: ast.AST) -> str:
    """Return the name that a chain of attributes begins with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


@dataclass(frozen=True)
class Script:
    """A parsed script."""

    source: str
    tree: ast.Module

    @cached_property
    def scope(self) -> Scope:
        """Its names."""
        return Scope.of(self.tree)

    @cached_property
    def values(self) -> dict[str, list[ast.expr]]:
        """The values assigned to each name, and by ``.name`` the default of each argparse option."""
        found: dict[str, list[ast.expr]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, []).append(node.value)
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                defaults = [keyword.value for keyword in node.keywords if keyword.arg == "default"]
                for flag in node.args:
                    if isinstance(flag, ast.Constant) and isinstance(flag.value, str):
                        found.setdefault("." + flag.value.lstrip("-").replace("-", "_"), []).extend(defaults)
        return found

    @cached_property
    def lines(self) -> list[bytes]:
        """Its lines as bytes, in which `ast` counts columns."""
        return [line.encode() for line in self.source.split("\n")]
