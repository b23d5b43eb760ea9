"""How the compiled core is found, follows its sources in a checkout, and is missed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from hpcnn.kernels import core
from tests.kernels.build import variants
from tests.require import missing

ROOT = Path(__file__).parents[2]
CORE = "hpcnn/kernels/core.abi3.so"
CMAKE = """\
cmake_minimum_required(VERSION 3.20)
project(other LANGUAGES C)
add_library(core MODULE core.c)
target_include_directories(core PRIVATE ${INCLUDE})
set_target_properties(core PROPERTIES PREFIX "" SUFFIX ".abi3.so")
execute_process(COMMAND ${CMAKE_COMMAND} -E sleep 0.3)
"""
SOURCE = """\
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
static PyObject *isa(PyObject *self, PyObject *none) { return PyUnicode_FromString("one"); }
static PyMethodDef methods[] = {{"isa", isa, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "core", "", -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_core(void) { return PyModule_Create(&definition); }
"""


def start(folder: Path, python: Path = Path(sys.executable), **environment: str) -> subprocess.Popen[str]:
    code = "from hpcnn.errors import HpcnnError\ntry:\n from hpcnn.kernels import core\n print(core.isa())\n"
    code += "except HpcnnError as error:\n print(error)"
    return subprocess.Popen(
        [python, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code: str, checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def load(folder: Path, python: Path = Path(sys.executable), **environment: str) -> str:
    """Return the instruction set of the core in `folder`, or the message that there is none."""
    output, errors = start(folder, python, **environment).communicate(timeout=120)
    assert "Traceback" not in errors, errors
    return output.strip()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An hpcnn without sources in C."""
    for path in ("__init__.py", "errors.py", "system/__init__.py", "system/search_path.py"):
        (tmp_path / "hpcnn" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "hpcnn" / path, tmp_path / "hpcnn" / path)
    shutil.copytree(
        ROOT / "hpcnn/kernels",
        tmp_path / "hpcnn/kernels",
        ignore=lambda _, names: [n for n in names if not n.endswith(".py")],
    )
    shutil.copy(core.__file__, tmp_path / CORE)
    return tmp_path


@pytest.fixture
def checkout(installed: Path) -> Path:
    """An hpcnn with a small core, which is not built yet."""
    if not shutil.which("cmake"):
        missing("there is no cmake")
    (installed / CORE).unlink()
    (installed / "pyproject.toml").touch()
    (installed / "hpcnn/kernels/CMakeLists.txt").write_text(CMAKE.replace("${INCLUDE}", sysconfig.get_path("include")))
    (installed / "hpcnn/kernels/core.c").write_text(SOURCE)
    return installed


def test_widest_instruction_set_is_used_unless_another_is_asked_for(installed: Path) -> None:
    assert load(installed, HPCNN_ISA="") == variants()[-1]
    for isa in variants():
        assert load(installed, HPCNN_ISA=isa) == isa


@pytest.mark.parametrize("name", ["sse9", "vax" * 100, "avx2 " if platform.machine() == "x86_64" else "avx2"])
def test_unknown_instruction_set_is_refused(installed: Path, name: str) -> None:
    message = load(installed, HPCNN_ISA=name)
    allowed = ", ".join(reversed(variants()))
    assert message == (
        f"HPCNN_ISA is '{name[:39]}', but on this machine it can be {allowed}. Without it, the widest of them is used."
    )


def test_missing_core_is_one_message_with_the_remedy(installed: Path) -> None:
    (installed / CORE).unlink()
    message = load(installed)
    assert message.startswith(f"There is no compiled core {installed / CORE} for this Python. Install hpcnn again")
    assert message.endswith(
        'Or set train.arithmetic = "numpy", another definition of the result, which needs no compiled core.'
    )


def test_core_of_another_machine_is_one_message_with_the_remedy(installed: Path) -> None:
    image = bytearray((installed / CORE).read_bytes())
    image[18] = {"x86_64": 183}.get(platform.machine(), 62)  # e_machine: AArch64, or x86-64
    (installed / CORE).unlink()
    (installed / CORE).write_bytes(image)
    message = load(installed)
    assert message.startswith(
        f"The compiled core {installed / CORE} can't be loaded, as if it were built for another machine: "
    )
    assert "Install hpcnn again on this machine" in message


def test_changed_source_is_built_once_by_processes_that_start_together(checkout: Path) -> None:
    assert load(checkout) == "one"
    source = checkout / "hpcnn/kernels/core.c"
    source.write_text(SOURCE.replace("one", "two"))
    ranks = [start(checkout) for _ in range(3)]
    outputs, errors = zip(*(rank.communicate(timeout=120) for rank in ranks), strict=True)
    assert set(outputs) == {"two\n"}
    assert sorted(map(len, map(str.splitlines, errors))) == [0, 0, 1], errors
    assert "".join(errors) == "hpcnn: compiling the core once; this takes some minutes\n"
    assert start(checkout).communicate(timeout=120) == ("two\n", "")
    assert sorted(path.name for path in source.parent.glob("*core*")) == ["core.abi3.so", "core.c"]


def test_ranks_compile_it_before_they_connect(checkout: Path) -> None:
    """So no watchdog takes the minutes for a rank that is stuck."""
    only_python = shutil.ignore_patterns("*.c", "*.h", "*.def", "*.so", "CMakeLists.txt", "__pycache__")
    shutil.copytree(ROOT / "hpcnn", checkout / "hpcnn", ignore=only_python, dirs_exist_ok=True)
    code = "from hpcnn.comm.connect import connect\nfrom hpcnn.kernels.files import MODULE\n"
    code += "assert not MODULE.exists()\nconnect()\nassert MODULE.exists()"
    done = run(code, checkout)
    assert done.stderr == "hpcnn: compiling the core once; this takes some minutes\n"
    assert done.returncode == 0


def test_source_that_does_not_compile_is_one_message(checkout: Path) -> None:
    (checkout / "hpcnn/kernels/core.c").write_text(SOURCE.replace("NULL}", "nil}"))
    message = load(checkout)
    assert message.startswith(
        f"The compiled core {checkout / CORE} is not built, and can't be built here: CMake failed."
    )
    assert "core.c:4" in message
    assert f"Run `pip install -e .` in {checkout}, with this Python." in message


def test_a_build_that_fails_is_not_tried_again(checkout: Path) -> None:
    (checkout / "hpcnn/kernels/core.c").write_text(SOURCE.replace("NULL}", "nil}"))
    code = "from hpcnn.errors import HpcnnError\nfrom hpcnn.kernels.loading import bring_up_to_date, load_core\n"
    code += "bring_up_to_date()\ntry:\n load_core()\nexcept HpcnnError as error:\n print(error)"
    done = run(code, checkout)
    assert done.stderr == "hpcnn: compiling the core once; this takes some minutes\n"
    assert "can't be built here: CMake failed." in done.stdout


def test_changed_source_without_cmake_is_one_message(checkout: Path) -> None:
    assert load(checkout) == "one"
    (checkout / "hpcnn/kernels/core.c").touch()
    alone = checkout / "python"  # CMake may lie beside this Python
    alone.symlink_to(Path(sys.executable).resolve())
    message = load(checkout, alone, PATH=str(checkout))
    assert message.startswith(
        f"The compiled core {checkout / CORE} is older than its sources, and can't be built here: "
        "CMake, and Ninja or Make, are not installed. Run `pip install -e .` in"
    )
