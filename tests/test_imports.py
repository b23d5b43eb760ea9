"""Who may import whom, what importing hpcnn may cost, and that each package exports what it says."""

from __future__ import annotations

import ast
import importlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hpcnn"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {
        "",
        "activity",
        "atomic",
        "blas",
        "control_groups",
        "cores",
        "denormals",
        "errors",
        "faults",
        "free_memory",
        "memory",
        "output",
        "run_paths",
        "search_path",
        "surroundings",
        "tree",
    },
    {"job", "comm", "optim", "data", "nn", "storage"},
    {"training"},
    {"failure"},
    {"keras", "slurm", "tools"},
    {"__main__", "backends", "bench", "cancel", "checkpoints", "command", "evaluate", "horovod", "logs", "predict"}
    | {"api", "doctor", "explain", "export", "keras_check", "lr_find", "report", "status", "submit", "sweep", "train"},
]
"""Rooms of the package, from the ground up; the empty name is `hpcnn/__init__.py`. A room sees those below it."""

DOORS = {("data", "job"), ("nn", "job"), ("optim", "job"), ("tools", "slurm")}
"""Rooms of one floor that may see each other: the job file's types belong to whoever builds from them, and the files
of a run, with its attempts, to whoever shows them."""

OFFERS = {PACKAGE / "__init__.py"}
"""What `import hpcnn` offers comes from every floor, and is imported when it is asked for."""

ONE_FLOOR = [FLOORS[0], FLOORS[-1]]
"""Floors of single modules, which may see each other."""

LIGHT_LIMIT_S = 0.1


@dataclass(frozen=True)
class Import:
    """One import statement: the full name of what it asks for, and where it stands."""

    file: Path
    line: int
    name: str
    at_start: bool
    """Whether it runs when the module is imported."""

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line} imports {self.name}"


def room_of(module: str) -> str:
    return [*module.split("."), ""][1]


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path) -> Iterator[Import]:
    yield from _imports(file, ast.parse(file.read_text(encoding="utf-8")), at_start=True)


def _imports(file: Path, node: ast.AST, *, at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, at_start)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno}: relative import"
            assert child.module
            for alias in child.names:
                # `from hpcnn import nn` asks for a room, `from hpcnn import __version__` for a name.
                inner = child.module == "hpcnn" and not alias.name.startswith("__")
                yield Import(file, child.lineno, f"hpcnn.{alias.name}" if inner else child.module, at_start)
        else:
            typing_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or typing_only
            yield from _imports(file, child, at_start=at_start and not later)


ALL_IMPORTS = [one for file in FILES for one in imports_of(file)]


def allowed(importer: str, imported: str) -> bool:
    floors = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    if importer == imported or (importer, imported) in DOORS or floors[imported] < floors[importer]:
        return True
    return any({importer, imported} <= rooms for rooms in ONE_FLOOR)


def test_every_room_has_its_floor() -> None:
    known = set().union(*FLOORS)
    assert {room_of(module_of(file)) for file in FILES} <= known


@pytest.mark.parametrize(
    ("importer", "imported", "may"),
    [
        ("nn", "errors", True),
        ("nn", "job", True),
        ("nn", "nn", True),
        ("nn", "comm", False),
        ("optim", "comm", False),
        ("comm", "nn", False),
        ("job", "data", False),
        ("errors", "tree", True),
        ("errors", "job", False),
        ("training", "comm", True),
        ("training", "train", False),
        ("train", "training", True),
        ("tools", "keras", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, may: bool) -> None:
    assert allowed(importer, imported) is may


def test_imports_point_down() -> None:
    inner = [one for one in ALL_IMPORTS if one.name.split(".")[0] == "hpcnn" and one.file not in OFFERS]
    assert len(inner) > 50
    assert [str(one) for one in inner if not allowed(room_of(module_of(one.file)), room_of(one.name))] == []


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("mpi4py", {"comm"}),
        ("tensorflow", {"comm", "keras"}),
        ("keras", {"keras"}),
        ("horovod", {"comm", "keras"}),
        ("h5py", {"data"}),
        ("pyarrow", {"data"}),
        ("sklearn", {"data"}),
        ("matplotlib", {"tools", "training"}),
        ("tensorboard", {"training"}),
        ("mlflow", {"training"}),
        ("wandb", {"training"}),
        ("onnx", {"tools"}),
    ],
)
def test_heavy_packages_stay_in_functions_of_their_room(package: str, rooms: set[str]) -> None:
    found = [one for one in ALL_IMPORTS if one.name.split(".")[0] == package]
    assert [str(one) for one in found if one.at_start or room_of(module_of(one.file)) not in rooms] == []


def test_mpi4py_is_found_by_the_walk() -> None:
    assert [one for one in ALL_IMPORTS if one.name == "mpi4py"]


def test_where_an_import_runs(tmp_path: Path) -> None:
    source = """
import a
if TYPE_CHECKING:
    import b
def f():
    import c
class C:
    import d
try:
    import e
except E:
    import f
"""
    (tmp_path / "x.py").write_text(source, encoding="utf-8")
    assert {one.name: one.at_start for one in imports_of(tmp_path / "x.py")} == {
        **dict.fromkeys("adef", True),
        **dict.fromkeys("bc", False),
    }


def seconds(statement: str) -> float:
    """Return how much of a processor a fresh Python takes to run `statement`: a busy machine makes that no longer."""
    code = f"import time; start = time.process_time(); {statement}; print(time.process_time() - start)"
    return float(
        subprocess.run([sys.executable, "-c", code], stdout=-1, check=True, timeout=120, env=os.environ).stdout
    )


@pytest.mark.parametrize("module", ["hpcnn", "hpcnn.bench", "hpcnn.train"])
def test_import_is_light(module: str) -> None:
    # Alternating pairs: what slows the machine for a while slows both of a pair.
    extra = [seconds(f"import numpy, {module}") - seconds("import numpy") for _ in range(7)]
    assert statistics.median(extra) < LIGHT_LIMIT_S


@pytest.mark.parametrize("module", ["hpcnn", "hpcnn.bench", "hpcnn.train", "hpcnn.job", "hpcnn.errors"])
def test_import_brings_in_nothing_heavy(module: str) -> None:
    heavy = "mpi4py", "rich", "msgspec", "safetensors", "h5py", "pyarrow", "sklearn", "matplotlib", "tensorflow"
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []


@pytest.mark.parametrize("file", [file for file in FILES if file.name == "__init__.py"], ids=module_of)
def test_packages_export_what_they_say(file: Path) -> None:
    package = importlib.import_module(module_of(file))
    exported = getattr(package, "__all__", None)
    if exported is None:
        return
    assert list(exported) == sorted(exported)
    assert [name for name in exported if not hasattr(package, name)] == []
    tree = ast.parse(file.read_text(encoding="utf-8"))
    brought_in = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert brought_in - {"annotations", "TYPE_CHECKING", "Any"} <= set(exported)
