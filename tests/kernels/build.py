"""Link the kernels of each instruction set, and their scalar references, into libraries for ctypes.

The kernels are the objects of the core itself, where it was built from these sources. HPCNN_TEST_CFLAGS adds flags,
such as those of a sanitizer (`make sanitize`): then, and for other compilers, kernels are compiled here. Objects are
kept, named by what they were made from.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hpcnn.kernels.build import BUILD
from hpcnn.kernels.files import MODULE
from tests.kernels.structures import KERNELS
from tests.require import missing

FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fPIC",
    "-fno-fast-math",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
    "-Werror",
]
ISA_FLAGS = {
    "scalar": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma"],
    "neon": [],
}
REFERENCES = sorted(Path(__file__).parent.glob("reference*.c"))
PORTABLE = sorted(Path(__file__).parent.glob("portable*.c"))
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
EXPORTS = Path(__file__).parent / "exports.c"
MORE_FLAGS = "HPCNN_TEST_CFLAGS"
_COMPILING_S = 1200
"""Compiling takes half a minute where nothing else is going on, and many times as long on a busy machine."""
_ELSEWHERE = ("module.c", "arguments.c", "numbers.c", "rows.c", "threads.c", "table.c", "dispatch.c")
"""The binding and its tables, which these libraries do without; beside them the files record*.c."""


def variants() -> list[str]:
    """Return the instruction sets that this machine runs, the narrowest first."""
    if platform.machine() in ("aarch64", "arm64"):
        return ["scalar", "neon"]
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return [isa for isa, needs in ISA_FLAGS.items() if isa != "neon" and {need[2:] for need in needs} <= flags]


def build_kernels(isa: str, folder: Path) -> Path:
    """Return the library of the kernels of `isa` for both types, and of what is the same for all."""
    exports = [(EXPORTS, f"_{bits}", _variant(isa, bits)) for bits in (32, 64)]
    ready = _objects_of_core(isa)
    return _link(f"kernels_{isa}", [*_kernels(isa, ready), *exports], folder, ready=ready)


def build_program(
    isa: str,
    folder: Path,
    *,
    flags: dict[str, list[str]] | None = None,
    compiler: Sequence[str] = (),
    core: Path | None = None,
) -> Path:
    """Return the program of portable.c for `isa`, made with more `flags` of some sources, and by another `compiler`.

    The kernels are those that `compiler` made for a core, if its folder is given.
    """
    flags = flags or {}
    ready = _objects(core, isa) if core else [] if compiler else _objects_of_core(isa)
    ready = [path for path in ready if path.stem not in flags]
    program = [(source, f"_{bits}", _variant(isa, bits)) for source in PORTABLE for bits in (32, 64)]
    jobs = [
        (source, suffix, [*own, *flags.get(source.name, [])])
        for source, suffix, own in [*_kernels(isa, ready), *program]
    ]
    return _link(f"portable_{isa}", jobs, folder, ready=ready, compiler=compiler, shared=False)


def _objects_of_core(isa: str) -> list[Path]:
    """Return the objects that the core was linked from; none if it was not built here, or flags are to be added."""
    from hpcnn.kernels import core  # brings it up to date

    folder = BUILD / f"core-{platform.machine()}"
    linked = folder / MODULE.name
    if os.environ.get(MORE_FLAGS) or not linked.exists() or linked.read_bytes() != Path(core.__file__).read_bytes():
        return []
    return _objects(folder, isa)


def _objects(core: Path, isa: str) -> list[Path]:
    """Return the objects of the kernels of `isa` in the folder in which CMake built a core."""
    found = sorted(core.glob(f"CMakeFiles/{isa}_*.dir/*.o"))
    assert found, core
    return found


def build_core_of_aarch64(folder: Path) -> Path:
    """Return the folder in which the core for AArch64 is built, once for all who need it."""
    if not all(map(shutil.which, (CROSS, EMULATOR, "cmake", "ninja"))):
        missing(
            f"there is no {CROSS}, {EMULATOR}, CMake or Ninja "
            "(Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user, cmake, ninja-build)"
        )
    made = folder / "core-aarch64"
    cross = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_C_COMPILER={CROSS}"]
    with _locked(folder):
        for command in (
            ["cmake", "-G", "Ninja", "-S", KERNELS, "-B", made, f"-DPython_EXECUTABLE={sys.executable}", *cross],
            ["cmake", "--build", made],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILING_S, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    return made


def _kernels(isa: str, ready: Sequence[Path]) -> list[tuple[Path, str, list[str]]]:
    """Return the sources of the kernels, without those of the `ready` objects, and of what all of them need."""
    jobs, done = [], {path.stem for path in ready}
    for source in sorted(KERNELS.glob("*.c")):
        if source.name in _ELSEWHERE or source.name.startswith("record"):
            continue
        if re.search(r"\bNAME\(", source.read_text()):
            jobs += [(source, f"_{bits}", _variant(isa, bits)) for bits in (32, 64) if source.name not in done]
        else:
            jobs.append((source, "", []))
    return jobs


def _variant(isa: str, bits: int) -> list[str]:
    return [*ISA_FLAGS[isa], f"-DISA={isa}", f"-DBITS={bits}"]


def build_reference(folder: Path, *defines: str) -> Path:
    """Return the library of the scalar references; `defines` can change a constant, which must then be noticed."""
    jobs = [
        (source, f"_{bits}", [f"-DBITS={bits}", "-DISA=reference", *defines])
        for source in REFERENCES
        for bits in (32, 64)
    ]
    return _link("reference", jobs, folder)


def _link(
    name: str,
    jobs: list[tuple[Path, str, list[str]]],
    folder: Path,
    *,
    ready: Sequence[Path] = (),
    compiler: Sequence[str] = (),
    shared: bool = True,
) -> Path:
    more = [] if compiler else shlex.split(os.environ.get(MORE_FLAGS, ""))
    command = list(compiler) or _compiler()
    jobs = [(source, suffix, [*flags, *more]) for source, suffix, flags in jobs]
    with _locked(folder), ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda job: _compile(command, *job, folder), jobs))
        made_of = " ".join(map(str, objects)).encode() + b"".join(path.read_bytes() for path in ready)
        digest = hashlib.sha256(made_of).hexdigest()[:16]
        made = folder / f"{name}-{digest}{'.so' if shared else ''}"
        if not made.exists():
            _run([*command, *more, *(["-shared"] if shared else []), *objects, *ready, "-lm"], made)
    return made


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Compile in one process at a time: those that test beside it want the same objects."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(compiler: list[str], source: Path, suffix: str, flags: list[str], folder: Path) -> Path:
    command = [*compiler, *FLAGS, *flags, f"-I{KERNELS}", f"-I{source.parent}", "-c", source]
    headers = sorted([*KERNELS.glob("*.h"), *KERNELS.glob("*.def"), *source.parent.glob("*.h")])
    made_of = [str(command).encode(), source.read_bytes(), *(each.read_bytes() for each in headers)]
    digest = hashlib.sha256(b"".join(made_of)).hexdigest()[:16]
    made = folder / f"{source.stem}{suffix}-{digest}.o"
    if not made.exists():
        _run(command, made)
    return made


def _run(command: list[str | Path], made: Path) -> None:
    """Run a command that writes `made`, which appears whole, whoever else makes it at the same time."""
    partial = made.with_suffix(f".{os.getpid()}")
    alone = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # a sanitizer's is not for cc
    done = subprocess.run(
        [*command, "-o", partial], capture_output=True, text=True, timeout=_COMPILING_S, check=False, env=alone
    )
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stderr}"
    partial.replace(made)


def _compiler() -> list[str]:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        missing("there is no C compiler")
    return shlex.split(compiler)
