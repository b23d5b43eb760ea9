"""The start of a script: connect the ranks, and register process sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcnn.comm.tensors.process_sets import add_process_set
from hpcnn.comm.tensors.world import connect_ranks
from hpcnn.errors import CommunicatorError


def init(comm: Any = None, process_sets: Sequence[Any] | None = None) -> None:
    """Connect this process with the other ranks that the launcher started; later calls do nothing.

    From then on an error on one rank ends the job on all of them.

    Args:
        comm: must be None: the ranks are those of the launcher.
        process_sets: groups of ranks to register, as by `add_process_set`.
    """
    if comm is not None:
        raise CommunicatorError(
            f"init(comm={comm!r}): the ranks are all that the launcher started. Leave comm out, and define "
            "subsets of them by add_process_set()."
        )
    connect_ranks()
    if process_sets is not None and process_sets != "dynamic":
        for each in process_sets:
            add_process_set(each)
