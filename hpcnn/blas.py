"""The BLAS library under NumPy: its threads, and the facts that decide its bits. Importing this imports no NumPy."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcnn.denormals import FlushDenormals

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def use_one_thread() -> None:
    """Let BLAS run on one thread, unless the environment asks for another number. Call before NumPy is imported.

    One thread a rank is what a machine full of ranks wants, and it keeps a run on one rank and a run on many alike:
    the number of threads can change the bits of a matrix product.
    """
    if "numpy" in sys.modules or any(os.environ.get(name) for name in THREAD_VARIABLES):
        return
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


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
    """Ask the OpenBLAS that is loaded for its kernel and threads; its functions have several spellings."""
    with suppress(OSError):
        maps = Path("/proc/self/maps").read_text()
        for path in dict.fromkeys(re.findall(r"(/.*openblas.*)", maps)):
            library = ctypes.CDLL(path)
            for prefix in ("scipy_openblas", "openblas"):
                for suffix in ("64_", ""):
                    kernel = getattr(library, f"{prefix}_get_corename{suffix}", None)
                    threads = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
                    if kernel is None or threads is None:
                        continue
                    kernel.restype = ctypes.c_char_p
                    return {"kernel": kernel().decode(), "threads": threads()}
    return {}
