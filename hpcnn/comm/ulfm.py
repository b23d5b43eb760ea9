"""Recovery from the death of ranks: revoke communicators, shrink the world, and agree on who is left.

It needs ULFM (Bland et al., 2013, https://doi.org/10.1177/1094342013488238): an MPI that reports the death of a process
as an error, instead of ending the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hpcnn.comm.launcher import outlive_each_other
from hpcnn.comm.mpi_info import library_name

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")
_NOTICED_S = 2.0
"""Within this time MPI reports a death that made a call fail."""


def recovery_obstacle() -> str:
    """Return why this MPI could not continue without ranks that died; empty if it could."""
    from mpi4py import MPI

    library = library_name()
    if not library.startswith("Open MPI") or MPI.Get_version() < (3, 1) or not hasattr(MPI.Comm, "Shrink"):
        return f"the MPI is {library}, which ends all ranks when one dies"
    if not outlive_each_other():
        return f"the MPI is {library}, started without --with-ft ulfm"
    return ""


def loss_check(communicator: MPI.Comm) -> Callable[[], None]:
    """Return a function that raises an error if a rank of `communicator` is known to have died; without ULFM, a no-op.

    Call it after persistent requests: once a death was noticed in another call, perhaps on another thread, Open MPI
    5.0.11 lets requests with the dead rank succeed, step after step, without receiving anything.
    """
    if not outlive_each_other():
        return lambda: None
    from mpi4py import MPI

    def look() -> None:
        failed = communicator.Get_failed()
        count = failed.size
        failed.Free()
        if count:
            raise MPI.Exception(MPI.ERR_PROC_FAILED)

    return look


def call_checked(communicator: MPI.Comm, call: Callable[[], T]) -> T:
    """Return the result of a collective call of `communicator`; raise an error if a rank of it is known to have died.

    Open MPI 5.0.11 may let a call with a dead rank succeed without filling its buffers: objects unpickled from them may
    be garbage, and fail in any way.
    """
    look = loss_check(communicator)
    try:
        result = call()
    except Exception as error:
        if outlive_each_other() and not type(error).__module__.startswith("mpi4py"):
            deadline = time.monotonic() + _NOTICED_S
            while time.monotonic() < deadline:
                look()
                time.sleep(0.05)
        raise
    look()
    return result


def revoke(communicators: Sequence[MPI.Comm]) -> None:
    """Make every pending call on one of `communicators` fail, on all ranks."""
    for communicator in communicators:
        communicator.Revoke()


def shrink(
    world: MPI.Intracomm, progress: Any, join: Callable[[MPI.Intracomm], None], opened: Callable[[], Sequence[MPI.Comm]]
) -> MPI.Intracomm:
    """Return a new world of the surviving ranks of `world`, which all of them have joined.

    Args:
        world: a communicator that all survivors have revoked.
        progress: how far this rank is, as any comparable value. The new rank 0 is one with the greatest, and the
            others follow in their previous order.
        join: called with the new world; its collectives may fail if another rank dies.
        opened: returns what `join` has opened so far.
    """
    from mpi4py import MPI

    while True:
        world = MPI.Intracomm(world.Shrink())
        made: list[MPI.Comm] = [world]
        joined = False
        try:
            everyone = call_checked(world, lambda: world.allgather(progress))  # noqa: B023 - called at once
            farthest = _place_of_largest(everyone)
            ordered = MPI.Intracomm(world.Split(0, key=(world.rank - farthest) % world.size))
            made.append(ordered)
            join(ordered)
            joined = True
        except MPI.Exception:
            revoke([*made, *opened()])
        if _agree(world, joined):
            return ordered
        revoke([*made, *opened()])


def _place_of_largest(values: Sequence[Any]) -> int:
    return max(range(len(values)), key=lambda place: (values[place], -place))


def _agree(world: MPI.Intracomm, value: bool) -> bool:
    """Return whether `value` is true on all ranks and all are alive: the same answer on each."""
    from mpi4py import MPI

    try:
        return bool(world.Agree(int(value)))
    except MPI.Exception:
        return False
