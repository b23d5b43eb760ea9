"""Denormal numbers are flushed to zero: processors compute with them up to a hundred times slower.

They are common: Adam's moments decay into them wherever a gradient stays zero, as behind dead units. TensorFlow flushes
them too. The switch is a bit of the thread's floating-point environment, which the C library reads and writes (C11,
7.6.4).
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from types import TracebackType

# Machine -> (place of the control word in C's fenv_t as glibc and musl lay it out, bits that flush).
_CONTROL = {
    "x86_64": (28, 0x8040),  # MXCSR: flush to zero, denormals are zero
    "aarch64": (0, 1 << 24),  # FPCR: FZ
}
_ENVIRONMENT_BYTES = 64


class FlushDenormals(threading.local):
    """A context in which results and operands below the normal range count as zero, in this thread.

    With ``flush=False`` one in which they do not, whatever is around it: they are IEEE 754's own. On an unknown machine
    or C library it changes nothing, and `active` is false. Not reentrant; threads may share one, since each restores
    its own environment.

    >>> import numpy as np
    >>> smallest = np.full(4, 1e-38, np.float32)
    >>> with FlushDenormals() as flush:
    ...     halves = smallest * np.float32(0.1)
    >>> bool(halves.any()) != flush.active
    True
    """

    def __init__(self, *, flush: bool = True) -> None:
        place, bits = _CONTROL.get(platform.machine(), (0, 0))
        library = ctypes.CDLL(None)  # the C library is part of the process
        known = bool(bits) and platform.system() == "Linux"
        self.active = known and hasattr(library, "fegetenv") and hasattr(library, "fesetenv")
        self._before = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
        if not self.active:
            return
        self._get, self._set = library.fegetenv, library.fesetenv
        self._get(self._before)
        flushing = bytearray(self._before.raw)
        word = int.from_bytes(flushing[place : place + 4], "little")
        flushing[place : place + 4] = (word | bits if flush else word & ~bits).to_bytes(4, "little")
        self._flushing = ctypes.create_string_buffer(bytes(flushing), _ENVIRONMENT_BYTES)

    def __enter__(self) -> FlushDenormals:
        if self.active:
            self._get(self._before)
            self._set(self._flushing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            self._set(self._before)


def flushing() -> bool:
    """Return whether denormal numbers count as zero in this thread."""
    return sys.float_info.min / 2 == 0
