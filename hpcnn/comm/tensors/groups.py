"""Groups of ranks in a user's program: all of them, or a subset that makes its own calls."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnn.comm.mpi import MpiCommunicator
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.tensors.byte_collectives import MpiByteCollectives, SerialByteCollectives
from hpcnn.comm.tensors.tensor_group import TensorGroup


def group_of_all(comm: Communicator) -> TensorGroup:
    """Return the group of all ranks, which `hpcnn.comm.connect.connect` has connected. Collective."""
    if isinstance(comm, SerialCommunicator):
        return TensorGroup(comm, SerialByteCollectives(), [0])
    from mpi4py import MPI

    return TensorGroup(comm, MpiByteCollectives(MPI.COMM_WORLD.Dup()), range(comm.size))


def group_of(ranks: Sequence[int], everyone: TensorGroup) -> TensorGroup:
    """Return the group of some ranks. Collective among them; others must not call it."""
    if isinstance(everyone.comm, SerialCommunicator):
        return TensorGroup(SerialCommunicator(), SerialByteCollectives(), ranks)
    from mpi4py import MPI

    world = MPI.COMM_WORLD.Create_group(MPI.COMM_WORLD.Get_group().Incl(list(ranks)))
    part = MpiCommunicator(world)
    part.activity = everyone.comm.activity
    return TensorGroup(part, MpiByteCollectives(world.Dup()), ranks)


def channel_of(group: TensorGroup) -> Communicator:
    """Return another communicator of the ranks of a group, whose exchanges may run beside its calls. Collective."""
    if isinstance(group.comm, SerialCommunicator):
        return SerialCommunicator()
    from mpi4py import MPI

    channel = MpiCommunicator(MPI.COMM_WORLD.Create_group(MPI.COMM_WORLD.Get_group().Incl(list(group.members)), tag=1))
    channel.activity = group.comm.activity
    return channel
