"""A checkpoint that all ranks write together, each its part of the one file."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from hpcnn.comm.protocol import Communicator
from hpcnn.core import faults
from hpcnn.storage.checkpoint import PendingCheckpoint
from hpcnn.storage.draft import Draft, Share
from hpcnn.storage.part import Part
from hpcnn.storage.tensor_file import in_file_order
from hpcnn.system.atomic import atomic_path

FEWEST_HOSTS = 2
"""On fewer, rank 0 writes everything: ranks of one host would wait for each other, since Linux does one write to a file
at a time."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def save_together(
    comm: Communicator,
    content: PendingCheckpoint,
    path: Path,
    *,
    also: Sequence[Path],
    beat: Callable[[], None],
    prepare: Callable[[], None],
) -> str:
    """Write a checkpoint to `path` atomically; return why that failed, empty for success. Collective.

    On several hosts each rank writes and hashes what it takes of the arrays that are spread over the ranks, and syncs
    it; rank 0 writes the others and the header, and then the file gets its names. On one host, or if a rank can't open
    the file that rank 0 has made, or finds another one in its place, as in a folder of its own host, rank 0 writes
    everything.

    Args:
        comm: all ranks.
        content: what to write.
        path: the file.
        also: more names of it; see `atomic_path`.
        beat: called after each chunk.
        prepare: called first, on rank 0; its OSError too is the reason of a failure.

    Returns:
        the reason on rank 0; what other ranks know of it.
    """
    try:
        with ExitStack() as stack:
            _save(comm, stack, content, path, also, beat, prepare)
        if comm.rank == 0:
            faults.written(path)
    except OSError as error:
        return reason(error)
    return ""


def reason(error: OSError) -> str:
    """Return in words what an error is."""
    return error.strerror or str(error)


def _save(
    comm: Communicator,
    stack: ExitStack,
    content: PendingCheckpoint,
    path: Path,
    also: Sequence[Path],
    beat: Callable[[], None],
    prepare: Callable[[], None],
) -> None:
    """Write the file, which gets its names as `stack` is closed. OSError: on all ranks alike."""
    draft, header, trouble = None, b"", ""
    if comm.rank == 0:
        try:
            prepare()
            header = content.header()
            draft = Draft.create(stack.enter_context(atomic_path(path, also, synced=True)), header, content.size_bytes)
        except OSError as error:
            trouble = reason(error)
    draft, trouble, beside = comm.broadcast((draft, trouble, comm.local_size - 1))
    if draft is None:
        raise OSError(trouble)
    part = _write(comm, draft, content, _kept(comm.size, beside, content), beat)
    if part.error is not None:
        raise part.error
    if comm.rank == 0:
        draft.complete(header, part)
        beat()


def _write(comm: Communicator, draft: Draft, content: PendingCheckpoint, kept: float, beat: Callable[[], None]) -> Part:
    """Write this rank's part; return what all have written. Collective."""
    root, alone = comm.rank == 0, comm.hosts < FEWEST_HOSTS or not content.spread_bytes
    descriptor, failure, part = None, None, Part()
    try:
        with ExitStack() as stack:
            if root or not alone:
                try:
                    descriptor = stack.enter_context(draft.opened())
                except OSError as error:
                    failure = error
            shared = not alone and comm.allreduce(failure is None, lambda left, right: left and right)
            writes, share = root or shared, Share(root, shared, kept)
            part = draft.write(descriptor if writes else None, in_file_order(content.arrays), share, beat)
            part.error = part.error or (failure if root else None)
            if writes and part.error is None:
                faults.writing(draft.path)
    except OSError as error:  # of the fault, or of closing the file
        part.error = part.error or error
    if part.error is not None and not root and part.error.errno not in _FULL:
        part.error = OSError(f"{reason(part.error)} on {comm.host}")
    comm.barrier(spin=False)  # the others hash on the cores that this rank leaves idle
    return comm.allreduce(part, Part.merge)


def _kept(ranks: int, beside: int, content: PendingCheckpoint) -> float:
    """Return which part of its share rank 0 keeps, so that it writes no more than the ranks of its host if it can.

    It alone writes what every rank has. To ranks of other hosts it leaves nothing: a slow network takes longer to send
    it than rank 0 takes to write it.
    """
    share, alone = content.spread_bytes / ranks, content.size_bytes - content.spread_bytes
    return max(0.0, 1 - alone * beside / (beside + 1) / share) if share else 1.0
