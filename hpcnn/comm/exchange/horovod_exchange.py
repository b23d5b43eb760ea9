"""Sums by Horovod's tensor operations: equal on all ranks, and right to rounding, but not the bits of the tree."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.collectives import agree
from hpcnn.comm.exchange.allreduce_base import AllreduceBase
from hpcnn.comm.exchange.plan import check_shards
from hpcnn.comm.launcher import CHOICE
from hpcnn.comm.mpi_info import library_text
from hpcnn.comm.protocol import Array, Communicator, Contribution
from hpcnn.core.activity import OTHER
from hpcnn.errors import EXIT_FAILURE, CommunicatorError, MissingExtraError, PeerError

_BUILD = "Build it for what is installed: hpcnn horovod build"
_ELSE = 'or let hpcnn add the gradients itself: keras.comm = "mpi"'
_CYCLE_TIME = "HOROVOD_CYCLE_TIME"
_CYCLE_MS = "0.2"
"""How often Horovod looks for work, in ms. Its own 1 ms is as long as a whole step of a small network."""
_MOST_TEXT = 8192
"""No MPI describes itself in more bytes."""


class HorovodExchange(AllreduceBase):
    """A `ReplicatedExchange` whose sums Horovod makes, after `connect_horovod`; arguments as of `AllreduceBase`."""

    def __init__(self, rank: int, size: int, shards: int, length: int, dtype: DTypeLike, stats_length: int) -> None:
        super().__init__(rank, size, shards, length, dtype, stats_length)
        first = self.contributions[0]
        # Two sums: one takes but one type, and float32 can't count beyond 16 million samples.
        self._sum_vector, self._sum_stats = _Sum(first.vector, "hpcnn.vector"), _Sum(first.stats, "hpcnn.stats")

    def _add_ranks(self, own: Contribution) -> None:
        self.vector = self._sum_vector()  # another array after each step
        np.copyto(self.stats, self._sum_stats())


class _Sum:
    """The sum of one array over all ranks, by one tensor operation that reads the array in place."""

    def __init__(self, array: Array, name: str) -> None:
        import tensorflow as tf
        from horovod import tensorflow as hvd

        self._hvd, self._host, self._name, self._failure = hvd, tf.device("/CPU:0"), name, tf.errors.OpError
        # The tensor is the array's memory: what is written into the array later, the next operation reads.
        self._tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__()) if array.size else None
        self._empty = array

    def __call__(self) -> Array:
        if self._tensor is None:
            return self._empty
        try:
            with self._host:
                total = self._hvd.allreduce(self._tensor, op=self._hvd.Sum, name=self._name)
        except self._failure as error:
            raise PeerError(f"Horovod could not add the gradients: {error.message}", EXIT_FAILURE) from error
        return np.asarray(total)  # without a copy


def horovod_exchange(
    comm: Communicator, shards: int, length: int, dtype: DTypeLike, stats_length: int
) -> HorovodExchange:
    """Return an exchange over all ranks of `comm` that Horovod sums. Collective.

    Raises:
        MissingExtraError: there is no TensorFlow.
        CommunicatorError: there are more ranks than shards; Horovod is not there, or does not fit.
    """
    check_shards(shards, comm.size)
    connect_horovod(comm)
    return HorovodExchange(comm.rank, comm.size, shards, length, dtype, stats_length)


def connect_horovod(comm: Communicator) -> Any:
    """Start Horovod on the ranks of `comm`, and return ``horovod.tensorflow``. Collective; again is no harm.

    Raises:
        MissingExtraError: there is no TensorFlow.
        CommunicatorError: Horovod is not there, or built for another TensorFlow or MPI than this one's.
    """
    library = agree(comm, _find_library)
    hvd = agree(comm, lambda: _load(library))
    os.environ.setdefault(_CYCLE_TIME, _CYCLE_MS)
    with comm.activity.during(OTHER):
        hvd.init()  # not init(comm): a communicator of another MPI would crash it

    def check() -> None:
        if (hvd.size(), hvd.rank()) != (comm.size, comm.rank):
            raise CommunicatorError(
                f"Horovod takes this for rank {hvd.rank()} of {hvd.size()}, but it is rank {comm.rank} of {comm.size}: "
                f"it was built for another MPI than mpi4py uses. {_BUILD}; {_ELSE}"
            )

    agree(comm, check)
    return hvd


def _find_library() -> Path:
    """Return Horovod's library for TensorFlow, after all checks that can be made before it is loaded."""
    if os.environ.get(CHOICE) == "serial":
        raise CommunicatorError(f"{CHOICE}=serial runs without MPI, but Horovod needs it. Unset {CHOICE}, {_ELSE}")
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError("tensorflow", "keras", "Horovod")
    found = importlib.util.find_spec("horovod")
    folders = (found and found.submodule_search_locations) or ()
    library = next((file for folder in folders for file in Path(folder, "tensorflow").glob("mpi_lib*.so")), None)
    if library is None:
        raise CommunicatorError(f"Horovod is not installed. {_BUILD}; {_ELSE}")
    import tensorflow as tf

    built_for = _built_for(library)
    if built_for != tf.__version__:
        raise CommunicatorError(
            f"Horovod was built for TensorFlow {built_for}, but {tf.__version__} is installed. {_BUILD}; {_ELSE}"
        )
    asked = {match.decode() for match in re.findall(rb"libmpi[\w-]*\.so\.\d+", library.read_bytes())}
    loaded = _loaded_mpi()
    if asked and loaded and not any(name.startswith(tuple(asked)) for name in loaded):
        raise _other_mpi(", ".join(sorted(asked)), ", ".join(loaded))
    return library


def _built_for(library: Path) -> str:
    """Return the TensorFlow that Horovod was built for, by what its build has noted."""
    try:
        noted = json.loads((library.parents[1] / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "an unknown version"
    return str(noted.get("tensorflow", "an unknown version"))


def _loaded_mpi() -> list[str]:
    """Return the file names of the MPI libraries in this process."""
    files = {Path(line.split()[-1]).name for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    return sorted(name for name in files if re.match(r"libmpi[\w-]*\.so", name))


def _load(library: Path) -> Any:
    """Import Horovod, and check that it calls the MPI that mpi4py calls."""
    import tensorflow as tf

    try:
        from horovod import tensorflow as hvd
    except (ImportError, OSError, tf.errors.OpError) as error:
        raise CommunicatorError(f"Horovod can't be loaded: {error}. {_BUILD}; {_ELSE}") from None
    if "mpi4py.MPI" in sys.modules:
        from mpi4py import MPI

        seen, own = _version_seen_by(library), library_text()
        if seen != own:
            raise _other_mpi(seen.splitlines()[0], own.splitlines()[0])
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            raise CommunicatorError(
                f"Horovod calls MPI from a thread of its own, which this MPI does not allow. Use another, {_ELSE}"
            )
    return hvd


def _version_seen_by(library: Path) -> str:
    """Return what MPI says of itself to Horovod."""
    text, length = ctypes.create_string_buffer(_MOST_TEXT), ctypes.c_int()
    ctypes.CDLL(str(library)).MPI_Get_library_version(text, ctypes.byref(length))
    return text.value.decode(errors="replace")


def _other_mpi(of_horovod: str, of_mpi4py: str) -> CommunicatorError:
    return CommunicatorError(
        f"Horovod was built for the MPI of {of_horovod}, but mpi4py uses {of_mpi4py}: every rank would be alone. "
        f"{_BUILD}; {_ELSE}"
    )
