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

THREADS = "HPCNN_THREADS"
"""Environment variable: on how many threads each rank computes, or `AUTO`."""
AUTO = "auto"
"""As many threads as the rank has cores of its node for itself."""
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS")


def use_one_thread() -> None:
    """Let each call of BLAS run on one thread. Call before NumPy is imported; afterwards it does nothing.

    The number of threads within BLAS changes the bits of a matrix product. So the number that the environment asks for
    moves to HPCNN_THREADS, unless that is set already, and hpcnn itself deals products to so many threads.
    """
    if "numpy" in sys.modules:
        return
    asked = (os.environ.get(name, "").partition(",")[0].strip() for name in THREAD_VARIABLES)
    threads = next((number for number in asked if number.isdecimal() and int(number)), AUTO)
    if not os.environ.get(THREADS):
        os.environ[THREADS] = threads
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
