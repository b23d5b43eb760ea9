"""The BLAS library under NumPy: its threads, and what its bits depend on. Importing this does not import NumPy."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from hpcnn.system.denormals import FlushDenormals

THREADS = "HPCNN_THREADS"
"""Environment variable: the number of threads per rank, or `AUTO`."""
AUTO = "auto"
"""As many threads as the rank's share of its host's cores."""
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS")


def use_one_thread() -> None:
    """Let each call of BLAS run on one thread. Call before NumPy is imported; afterwards it does nothing.

    The number of threads within BLAS changes the bits of a matrix product. So the number that the environment asks for
    moves to HPCNN_THREADS, unless that is set already, and hpcnn itself deals products to so many threads.
    """
    if "numpy" in sys.modules:
        return
    _keep_asked()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Do within the block what `use_one_thread` does for a whole process, for an OpenBLAS that is loaded already.

    Several threads may be in such blocks: only the last to leave gives BLAS back the number of threads of before.
    """
    _one_thread.enter()
    try:
        yield
    finally:
        _one_thread.leave()


@dataclass
class _OneThread:
    """What blocks of `one_thread` have changed, for as long as any of them lasts: BLAS's threads are the process's."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    blocks: int = 0
    changed: bool = False
    """Whether things are as blocks want them; in a child process, after a fork, they may be so without a block."""
    asked: str | None = None
    """What the environment asked for before the first block."""
    before: dict[str, tuple[_OpenBlas, int]] = field(default_factory=dict)
    """Libraries by path, with their threads before."""

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
        """Forget, in a child process, the blocks of threads that it has not; the next block undoes what they did."""
        self.lock, self.blocks = threading.Lock(), 0

    def _change(self) -> None:
        if not self.changed:
            self.changed = True
            _keep_asked()
        for library in _libraries_of(len(sys.modules)):
            if library.path not in self.before:
                self.before[library.path] = library, library.threads()
                library.use(1)

    def _restore(self) -> None:
        for library, threads in self.before.values():
            library.use(threads)
        self.before.clear()
        if self.asked is None:
            os.environ.pop(THREADS, None)
        else:
            os.environ[THREADS] = self.asked
        self.changed = False


_one_thread = _OneThread()
os.register_at_fork(after_in_child=_one_thread.forked)


def _keep_asked() -> None:
    """Keep for hpcnn itself the number of threads that the environment asks BLAS for."""
    asked = (os.environ.get(name, "").partition(",")[0].strip() for name in THREAD_VARIABLES)
    threads = next((number for number in asked if number.isdecimal() and int(number)), AUTO)
    if not os.environ.get(THREADS):
        os.environ[THREADS] = threads


def fingerprint() -> dict[str, Any]:
    """Return what, beside the job, decides the bits: NumPy, BLAS with its kernel and threads, and the processor."""
    import numpy as np

    config: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    blas = config.get("Build Dependencies", {}).get("blas", {})
    facts = {
        "numpy": np.__version__,
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "processor": _processor(),
    }
    return facts | _openblas() | {"denormals": "zero" if FlushDenormals().active else "kept"}


def _processor() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    return os.uname().machine


def _openblas() -> dict[str, Any]:
    """Ask the first OpenBLAS that is loaded for its kernel and threads."""
    library = next(_openblas_libraries(), None)
    return {} if library is None else {"kernel": library.kernel().decode(), "threads": library.threads()}


@dataclass(frozen=True)
class _OpenBlas:
    """One OpenBLAS that is loaded: NumPy and SciPy may have one each."""

    path: str
    kernel: Callable[[], bytes]
    threads: Callable[[], int]
    use: Callable[[int], object]
    """Sets the number of threads."""


@lru_cache(maxsize=1)
def _libraries_of(modules: int) -> tuple[_OpenBlas, ...]:
    """Search anew only when there are more modules: that takes milliseconds, as long as a small step of training."""
    return tuple(_openblas_libraries())


def _openblas_libraries() -> Iterator[_OpenBlas]:
    """Yield the OpenBLAS libraries that are loaded; their functions have several spellings."""
    maps = ""
    with suppress(OSError):
        maps = Path("/proc/self/maps").read_text()
    for path in dict.fromkeys(re.findall(r"(/.*openblas.*\.(?:so[.\d]*|dylib))$", maps, re.MULTILINE)):
        with suppress(OSError):  # what bears the name and is no library hides no other
            library = ctypes.CDLL(path)
            for prefix, suffix in product(("scipy_openblas", "openblas"), ("64_", "")):
                names = (f"{prefix}_{what}{suffix}" for what in ("get_corename", "get_num_threads", "set_num_threads"))
                kernel, threads, use = (getattr(library, name, None) for name in names)
                if kernel is not None and threads is not None and use is not None:
                    kernel.restype, use.restype = ctypes.c_char_p, None
                    yield _OpenBlas(path, kernel, threads, use)
                    break
