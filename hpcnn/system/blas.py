"""The BLAS library under NumPy: its threads, and what its bits depend on. Importing this does not import NumPy."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpcnn.system.denormals import FlushDenormals

THREADS = "HPCNN_THREADS"
"""Environment variable: the number of threads per rank, or `AUTO`."""
AUTO = "auto"
"""As many threads as the rank's share of its host's cores."""
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS")


def use_one_thread() -> None:
    """Limit each call of BLAS to one thread. Call before NumPy is imported; afterwards it does nothing.

    The number of threads within BLAS changes the bits of a matrix product. So the number that the environment sets is
    moved to HPCNN_THREADS, unless that is set already, and hpcnn itself distributes products over its threads.
    """
    if "numpy" in sys.modules:
        return
    _save_threads()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit the loaded BLAS libraries within the block, as `use_one_thread` does for a whole process.

    Several threads may be in such blocks: the last to leave restores the number of threads.
    """
    _one_thread.enter()
    before: list[tuple[Any, int]] = []
    try:
        before = limit_thread()
        yield
    finally:
        for library, threads in before:
            library.dynlib.MKL_Set_Num_Threads_Local(threads)
        _one_thread.leave()


def limit_thread() -> list[tuple[Any, int]]:
    """Limit the BLAS libraries that have a limit per thread, for the calling thread: MKL, and OpenBLAS with OpenMP.

    Returns:
        each MKL, with the previous limit of this thread (0: none).
    """
    before = []
    for library in _loaded(len(sys.modules)):
        if library.internal_api == "mkl":
            before.append((library, library.dynlib.MKL_Set_Num_Threads_Local(1)))
        elif getattr(library, "threading_layer", "") == "openmp":
            library.set_num_threads(1)
    return before


@dataclass
class _OneThread:
    """What the blocks of `one_thread` in this process have changed, as long as any of them is active."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    blocks: int = 0
    changed: bool = False
    """Whether the limit is set; in a forked child it may be set without a block."""
    asked: str | None = None
    """The value of `THREADS` before the first block."""
    before: dict[str, tuple[Any, int]] = field(default_factory=dict)
    """Libraries by path, with their previous number of threads."""

    def enter(self) -> None:
        with self.lock:
            if not self.changed:
                self.asked = os.environ.get(THREADS)
            try:
                self._change()
            except BaseException:  # Ctrl-C, say
                if not self.blocks:
                    self._restore()
                raise
            self.blocks += 1

    def leave(self) -> None:
        with self.lock:
            self.blocks = max(0, self.blocks - 1)
            if self.changed and not self.blocks:
                self._restore()

    def forked(self) -> None:
        """Forget the blocks of the parent's threads in a forked child; its next block restores the numbers."""
        self.lock, self.blocks = threading.Lock(), 0

    def _change(self) -> None:
        if not self.changed:
            self.changed = True
            _save_threads()
        for library in _loaded(len(sys.modules)):
            if library.filepath not in self.before and library.internal_api != "mkl":
                self.before[library.filepath] = library, library.num_threads
                library.set_num_threads(1)

    def _restore(self) -> None:
        for library, threads in self.before.values():
            library.set_num_threads(threads)
        self.before.clear()
        if self.asked is None:
            os.environ.pop(THREADS, None)
        else:
            os.environ[THREADS] = self.asked
        self.changed = False


_one_thread = _OneThread()
os.register_at_fork(after_in_child=_one_thread.forked)


def _save_threads() -> None:
    """Save the number of threads that the environment sets for BLAS in `THREADS`."""
    asked = (os.environ.get(name, "").partition(",")[0].strip() for name in THREAD_VARIABLES)
    threads = next((number for number in asked if number.isdecimal() and int(number)), AUTO)
    if not os.environ.get(THREADS):
        os.environ[THREADS] = threads


def fingerprint() -> dict[str, Any]:
    """Return what the bits depend on besides the job: NumPy, BLAS with its kernel and threads, and the processor."""
    facts, denormals = dict(_built_with()), "zero" if _flushes() else "kept"
    for library in _loaded(len(sys.modules))[:1]:
        kernel = getattr(library, "architecture", None)  # OpenBLAS and BLIS tell which one they chose for the processor
        facts |= ({"kernel": kernel} if kernel else {}) | {"threads": library.num_threads}
    return facts | {"denormals": denormals}


@lru_cache(maxsize=1)
def _built_with() -> dict[str, Any]:
    """Return what no process can change: NumPy, the BLAS that it was built with, and the processor."""
    import numpy as np

    config: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    blas = config.get("Build Dependencies", {}).get("blas", {})
    name = f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
    return {"numpy": np.__version__, "blas": name, "processor": _processor()}


@lru_cache(maxsize=1)
def _flushes() -> bool:
    return FlushDenormals().active


def _processor() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    return os.uname().machine


@lru_cache(maxsize=1)
def _loaded(modules: int) -> tuple[Any, ...]:
    """Return the loaded BLAS libraries: NumPy and SciPy may have one each.

    The search is repeated only when there are more `modules`: it takes as long as a small training step.
    """
    from threadpoolctl import ThreadpoolController

    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)
