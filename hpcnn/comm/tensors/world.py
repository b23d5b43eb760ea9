"""The ranks of a script: connected by `init`, left at its end; an error on one of them ends all."""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from hpcnn.comm.connect import connect
from hpcnn.comm.failure import FailureGuard
from hpcnn.comm.launcher import detect_launch
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.tensors.groups import group_of_all
from hpcnn.comm.tensors.tensor_group import TensorGroup
from hpcnn.errors import CommunicatorError, HpcnnError


@dataclass
class _World:
    """The connected ranks. MPI can start only once in a process, so they stay connected until it ends."""

    comm: Communicator
    group: TensorGroup
    cross_rank: int
    cross_size: int
    homogeneous: bool
    active: bool = True
    """Whether `init` was called more recently than `shutdown`."""


_world: _World | None = None
_cause: list[HpcnnError] = []
"""The last error raised within a framework, which may have wrapped it."""


def connect_ranks() -> None:
    """Connect this process with the other ranks, if it is not connected yet."""
    global _world
    if _world is None:
        _world = _connect()
    _world.active = True


def _connect() -> _World:
    guard = FailureGuard()
    comm = connect()
    if comm.size > 1:
        _guard(guard, comm)
    places = comm.allgather((comm.local_rank, comm.local_size))
    alike = [rank for rank, (local_rank, _) in enumerate(places) if local_rank == comm.local_rank]
    world = _World(
        comm, group_of_all(comm), alike.index(comm.rank), len(alike), len({local_size for _, local_size in places}) == 1
    )
    atexit.register(_leave, world.group)
    return world


def _guard(guard: FailureGuard, comm: Communicator) -> None:
    """Make an error that the script does not catch end the job."""
    guard.comm = comm
    guard.install()
    _catch_errors(guard)


def _catch_errors(guard: FailureGuard) -> None:
    """Have an error that ends this process reported once, and the other ranks ended."""

    def failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        atexit.unregister(_leave)
        code = guard.fail(_cause[-1] if _cause and str(_cause[-1]) in str(error) else error)
        atexit._run_exitfuncs()  # MPI_Finalize among others; Python itself would always exit with code 1
        os._exit(code)

    sys.excepthook = failed


def _leave(group: TensorGroup) -> None:
    """Meet the other ranks at the end of the script: one that still trains could wait for this one forever."""
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    group.leave()


def remember(error: HpcnnError) -> None:
    """Keep an error that is raised within a framework, which may wrap it in another."""
    _cause[:] = [error]


def shutdown() -> None:
    """Stop working with the other ranks; `init` may be called again."""
    if _world is not None:
        _world.active = False


def is_initialized() -> bool:
    """Return whether `init` was called more recently than `shutdown`."""
    return _world is not None and _world.active


def world() -> _World:
    """Return the ranks.

    Raises:
        CommunicatorError: `init` was not called.
    """
    if _world is None or not _world.active:
        if _world is None and detect_launch().size > 1:
            _catch_errors(FailureGuard())
        raise CommunicatorError("the ranks are not connected: call init() first")
    return _world


def rank() -> int:
    """Return the number of this rank among all."""
    return world().comm.rank


def size() -> int:
    """Return the number of ranks."""
    return world().comm.size


def local_rank() -> int:
    """Return the number of this rank among those of its host."""
    return world().comm.local_rank


def local_size() -> int:
    """Return the number of ranks on this host."""
    return world().comm.local_size


def cross_rank() -> int:
    """Return the number of this rank's host among those that have a rank of the same local number."""
    return world().cross_rank


def cross_size() -> int:
    """Return how many hosts have a rank of the same local number as this one."""
    return world().cross_size


def is_homogeneous() -> bool:
    """Return whether all hosts have the same number of ranks."""
    return world().homogeneous


def mpi_threads_supported() -> bool:
    """Return whether several threads of this process may call MPI at once."""
    world()
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and mpi.Is_initialized() and bool(mpi.Query_thread() == mpi.THREAD_MULTIPLE)


def mpi_enabled() -> bool:
    """Return whether the ranks are connected by MPI; not so for one that no launcher started."""
    world()
    return "mpi4py.MPI" in sys.modules


def mpi_built() -> bool:
    """Return whether mpi4py is installed."""
    return importlib.util.find_spec("mpi4py") is not None


def nccl_built() -> int:
    """Return 0: gradients are exchanged by shared memory and MPI."""
    return 0


def not_built() -> bool:
    """Return false: this library is not used."""
    return False


ccl_built = cuda_built = ddl_built = gloo_built = gloo_enabled = rocm_built = not_built
