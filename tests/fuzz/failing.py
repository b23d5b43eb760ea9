"""A worker whose reader has a fault, to see that the fuzzer finds it: ``python -m tests.fuzz.failing FAULT``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from hpcnn.errors import DataError
from tests.fuzz import worker
from tests.fuzz.crafted import MARKER
from tests.fuzz.samples import Sample


def _takes_time() -> None:
    end = time.process_time() + worker.CPU_S + 0.1
    while time.process_time() < end:
        pass


def _refuses_too_late() -> None:
    try:
        np.empty(2 * worker.MEMORY_BYTES, np.uint8)
    except MemoryError:
        raise DataError("x.npy is too large") from None


def _names_itself() -> None:
    raise DataError(f"process {os.getpid()}")


def _raises(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "other error": (_raises(KeyError("key")), "KeyError: 'key'"),
    "hang": (lambda: time.sleep(600), "no end within 2 s"),
    "end of the process": (lambda: os._exit(3), "the process ended with 3"),
    "print": (lambda: print("hello"), "printed: hello"),
    "warning": (lambda: np.float32(1e30) * np.float32(1e30), "RuntimeWarning: overflow"),
    "time": (_takes_time, "took 2."),
    "memory": (lambda: np.empty(2 * worker.MEMORY_BYTES, np.uint8), "Unable to allocate"),
    "memory, and a message": (_refuses_too_late, "tried to take too much memory"),
    "no name": (_raises(DataError("damaged")), "does not name the file: damaged"),
    "process": (_names_itself, "does not name the file: process"),
    "long message": (_raises(DataError("x.npy" * 1000)), "a message of 5000 characters"),
    "code": (lambda: Path(MARKER).touch(), "it ran code"),
}
"""What the reader does, and words of what the fuzzer must say."""


def main() -> None:
    """Read cases by the fault that the command line names."""
    fail, _ = FAULTS[sys.argv[1]]

    def read(_kind: str, _sample: Sample, _folder: Path, _random: Random) -> None:
        fail()

    worker.main(read)


if __name__ == "__main__":
    main()
