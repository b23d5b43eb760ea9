"""Build the compiled module in a checkout, beside its sources. For pip, and where a source has changed."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hpcnn.kernels.files import FOLDER, MODULE, built, newest_source

BUILD = FOLDER.parents[1] / "build"
GLIBC = 28
"""What ziglang builds for: glibc 2.28 of 2018, or any later."""


class BuildError(Exception):
    """The module can't be built; the text says why."""


def build_in_place(*, on_import: bool = False) -> None:
    """Build the module if it is older than a source. One process of the machine builds, and the others wait for it."""
    try:
        BUILD.mkdir(exist_ok=True)
        with _locked(BUILD / "core.lock"):
            newest = newest_source()
            if newest <= built():
                return
            _replace(_compile(BUILD / f"core-{platform.machine()}", on_import), newest)
    except OSError as error:
        raise BuildError(f"{error.strerror or error}: {error.filename or BUILD}.") from error


def compiler() -> str | None:
    """Return the C compiler as CC names it: None if CMake will find one, or that of the package ziglang."""
    if os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang"))):
        return None
    if not importlib.util.find_spec("ziglang"):
        raise BuildError("there is no C compiler (cc, gcc, clang), and the package ziglang is not installed.")
    return zig()


def zig() -> str:
    """Return the compiler of ziglang, for any processor like this one and any Linux with glibc 2.28 or later."""
    libc = f"gnu.2.{GLIBC}" if platform.libc_ver()[0] == "glibc" else "musl"
    return f"{sys.executable} -m ziglang cc -target {platform.machine()}-linux-{libc}"


def _compile(folder: Path, on_import: bool) -> Path:
    """Return the module that CMake makes in `folder`; an import says so, once it has found what compiles."""
    ours = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    cmake, ninja = program_that_runs("cmake", ours), program_that_runs("ninja", ours)
    tool = ninja or shutil.which("make")
    if not cmake or not tool:
        raise BuildError("CMake, and Ninja or Make, are not installed.")
    cc = compiler()
    if on_import:
        print("hpcnn: compiling the core once; this takes some minutes", file=sys.stderr, flush=True)
    environment = os.environ | ({"CC": cc} if cc else {})
    command = [cmake, "-S", str(FOLDER), "-B", str(folder), "-G", "Ninja" if ninja else "Unix Makefiles"]
    command += [f"-DCMAKE_MAKE_PROGRAM={tool}", f"-DPython_EXECUTABLE={sys.executable}", "-DCMAKE_BUILD_TYPE=Release"]
    if _run(command, environment)[0]:  # as when the folder was made by a CMake or a compiler that are gone
        shutil.rmtree(folder, ignore_errors=True)
        _check(_run(command, environment))
    _check(_run([cmake, "--build", str(folder), "--parallel", str(os.cpu_count() or 1)], environment))
    return folder / MODULE.name


def program_that_runs(name: str, path: str) -> str | None:
    """Return the first program on a path that starts: those of packages are scripts that pip's isolation breaks."""
    found = (shutil.which(name, path=folder) for folder in path.split(os.pathsep))
    return next((one for one in found if one and _starts(one)), None)


def _starts(program: str) -> bool:
    try:
        return _run([program, "--version"], dict(os.environ))[0] == 0
    except OSError:  # its interpreter is gone
        return False


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def _check(done: tuple[int, str]) -> None:
    code, output = done
    if code:
        raise BuildError(f"CMake failed.\n{output.strip()[-4000:]}\n")


def _replace(made: Path, newest: int) -> None:
    """Put the module in its place, whole, with the time of its sources: one that changed meanwhile is younger."""
    partial = MODULE.with_name(f".{MODULE.name}.{platform.node()}.{os.getpid()}")
    try:
        shutil.copyfile(made, partial)
        partial.chmod(0o755)
        os.utime(partial, ns=(newest, newest))
        partial.replace(MODULE)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock of the file system: it ends with its process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
