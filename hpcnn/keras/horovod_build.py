"""Build Horovod for this environment, and cache the wheel.

The flags and headers make Horovod 0.28.1, its last release, work with TensorFlow 2.13 to 2.21 on Linux, on the CPU.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcnn.errors import CommunicatorError, shortened
from hpcnn.keras.horovod_environment import Environment, last_line, search_path

VERSION = "0.28.1"
CACHE = "HPCNN_CACHE"
"""Environment variable: hpcnn's cache folder, instead of ~/.cache/hpcnn."""

_TOOLS = ("setuptools>=70,<81", "wheel", "packaging", "cmake>=3.18,<4")
_NEEDED = ("cloudpickle", "packaging", "psutil", "pyyaml")
"""The packages that Horovod imports."""
_FLAGS = {
    "HOROVOD_WITH_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_PYTORCH": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITH_MPI": "1",
    "HOROVOD_WITHOUT_GLOO": "1",
}
_XLA_HEADERS = (
    "tf2xla/xla_op_kernel.h",
    "tf2xla/xla_op_registry.h",
    "xla/client/xla_builder.h",
    "xla/service/custom_call_target_registry.h",
    "xla/service/hlo.pb.h",
    "xla/shape.h",
    "xla/xla_data.pb.h",
)
"""Headers below `tensorflow/compiler` that Horovod includes for code that is only compiled with GPU operations."""
_MOVED = "xla/client/xla_builder.h"
"""The header that TensorFlow 2.19 moved. The others include headers that its wheels lack."""
_BESIDE_PYTHON = r"\$ORIGIN/../../../.."
"""The path from the library in site-packages to the `lib` of its environment, where the wheels of MPICH and Open MPI
install MPI, so that a cached wheel works in other environments."""
_SAY_EVERY_S = 10.0
_MOST_JOBS = 8

Say = Callable[[str], None]
"""Reports progress to the user."""


@dataclass(frozen=True)
class Options:
    """The options of a build."""

    nccl: bool = False
    """Whether sums on GPUs use NCCL."""
    jobs: int = 0
    """The number of concurrent compilers; 0: one per core."""
    rebuild: bool = False
    """Whether to build even if a wheel is cached."""


def cache_folder() -> Path:
    """Return the folder of cached wheels."""
    if CACHE in os.environ:
        return Path(os.environ[CACHE], "horovod")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "hpcnn", "horovod")


def build_wheel(environment: Environment, options: Options, say: Say) -> Path:
    """Return a wheel of Horovod for `environment`: a cached one, or a new one.

    Raises:
        CommunicatorError: it can't be built; the message names the log.
    """
    if options.nccl and _headers_moved(environment):
        raise CommunicatorError(
            f"Horovod {VERSION} can't be built with NCCL for TensorFlow {environment.tensorflow}: its wheels lack "
            "headers that GPU operations need. Use TensorFlow 2.18 or older, or leave out --nccl."
        )
    folder = cache_folder() / (environment.key + "_nccl" * options.nccl)
    kept = sorted(folder.glob("horovod-*.whl"))
    if kept and not options.rebuild:
        say(f"takes the wheel that was kept: {kept[-1]}")
        return kept[-1]
    if importlib.util.find_spec("pip") is None:
        raise CommunicatorError(f"building Horovod needs pip, which {sys.executable} has not: python -m ensurepip")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommunicatorError(f"can't keep a wheel in {folder}: {error.strerror}. Set {CACHE}=FOLDER") from None
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return _build(environment, options, Path(scratch), folder, say)


def install_wheel(wheel: Path, say: Say) -> None:
    """Install `wheel` into this environment, replacing any other Horovod."""
    say("installs it")
    log = wheel.parent / "install.log"
    log.unlink(missing_ok=True)
    _run("pip install", _pip("install", "--force-reinstall", "--no-deps", wheel), log, dict(os.environ), say)
    _run("pip install", _pip("install", *_NEEDED), log, dict(os.environ), say)


def _build(environment: Environment, options: Options, scratch: Path, folder: Path, say: Say) -> Path:
    log, tools, built = folder / "build.log", scratch / "tools", scratch / "wheel"
    log.unlink(missing_ok=True)
    say("fetches what the build needs: CMake, setuptools")
    _run("pip install", _pip("install", "--target", tools, *_TOOLS), log, dict(os.environ), say)
    headers = _empty_headers(scratch) if _headers_moved(environment) else None
    jobs = options.jobs or min(len(os.sched_getaffinity(0)), _MOST_JOBS)
    say(f"builds Horovod {VERSION} with {jobs} job{'s' * (jobs != 1)}; on two idle cores that takes two minutes")
    # --no-cache-dir: pip's cache would reuse a wheel that was built for another TensorFlow.
    options_of_pip = "-v", "--no-cache-dir", "--no-build-isolation", "--no-deps", "--no-binary", "horovod"
    command = _pip("wheel", *options_of_pip, "--wheel-dir", built, f"horovod=={VERSION}")
    _run("the build of Horovod", command, log, build_environment(tools, headers, jobs, nccl=options.nccl), say)
    (wheel,) = built.glob("horovod-*.whl")
    kept = folder / wheel.name
    wheel.replace(kept)
    say(f"keeps the wheel: {kept}")
    return kept


def _headers_moved(environment: Environment) -> bool:
    return not (environment.include / "tensorflow" / "compiler" / _MOVED).exists()


def _empty_headers(scratch: Path) -> Path:
    """Return an include folder with empty XLA headers of TensorFlow: no code for CPUs uses them."""
    include = scratch / "include"
    for name in _XLA_HEADERS:
        header = include / "tensorflow" / "compiler" / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.touch()
    return include


def build_environment(tools: Path, headers: Path | None, jobs: int, *, nccl: bool) -> dict[str, str]:
    """Return the environment variables of a build, including the user's compiler flags."""
    user = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MFLAGS")}
    compiler = [user.get("CXXFLAGS", ""), "-DOMPI_SKIP_MPICXX", f"-I{headers}" if headers else ""]
    linker = [user.get("LDFLAGS", ""), "-s", f"-Wl,-rpath,{_BESIDE_PYTHON}"]
    own = {
        "CXXFLAGS": " ".join(filter(None, compiler)),
        "LDFLAGS": " ".join(filter(None, linker)),
        "MAKEFLAGS": f"-j{jobs}",
        "PATH": f"{tools / 'bin'}{os.pathsep}{search_path()}",
        "PYTHONPATH": str(tools),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return user | _FLAGS | ({"HOROVOD_GPU_OPERATIONS": "NCCL"} if nccl else {}) | own


def _pip(command: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", command, *map(str, arguments)]


def _run(what: str, command: Sequence[str], log: Path, environment: dict[str, str], say: Say) -> None:
    """Run `command` with its output appended to `log`, and report progress periodically."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            _wait(process, log, say)
        finally:
            process.kill()  # after an interruption; else it has ended
            process.wait()
    if process.returncode != 0:
        raise CommunicatorError(f"{what} failed: {_cause(log)}. All of its output is in {log}")


def _wait(process: subprocess.Popen[bytes], log: Path, say: Say) -> None:
    said = time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        if time.monotonic() - said >= _SAY_EVERY_S:
            said = time.monotonic()
            done = re.findall(r"\[ *(\d+)%\]", log.read_text(encoding="utf-8", errors="replace"))
            say(f"compiled: {done[-1]} %" if done else f"still at it; {log} grows")


def _cause(log: Path) -> str:
    """Return the line of a log that names the error: the first one of a compiler, or else the last line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    errors = re.findall(r"^.*(?:\berror: |CMake Error|ERROR: ).*$", text, re.MULTILINE)
    return shortened(errors[0].strip()) if errors else last_line(text)
