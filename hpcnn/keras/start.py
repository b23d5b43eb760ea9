"""The start of a script: the ranks are connected, and the process sets that it names are registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcnn.errors import CommunicatorError
from hpcnn.keras.process_sets import add_process_set
from hpcnn.keras.world import join


def init(comm: Any = None, process_sets: Sequence[Any] | None = None) -> None:
    """Connect this process with the other ranks that the launcher started. Calls after the first do nothing.

    From then on a script that fails on one rank ends the job on all of them.

    Args:
        comm: must be left out: the ranks are those of the launcher.
        process_sets: groups of ranks to register, as by `add_process_set`.
    """
    if comm is not None:
        raise CommunicatorError(
            f"init(comm={comm!r}): the ranks are all that the launcher started. Leave comm out, and name "
            "a part of them by add_process_set()."
        )
    join()
    if process_sets is not None and process_sets != "dynamic":
        for each in process_sets:
            add_process_set(each)
