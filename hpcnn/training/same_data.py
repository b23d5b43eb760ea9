"""Whether the data of a run are the same on all hosts, and the same as when it was started."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from hpcnn.comm.collectives import variants_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SET_UP
from hpcnn.data.content import Content, changes, content_of
from hpcnn.data.files import files_of
from hpcnn.data.source import Source
from hpcnn.errors import CheckpointError, DataError
from hpcnn.job.data import DataSection


def common_content(
    source: Source, section: DataSection, comm: Communicator, base: Path | None = None
) -> Content | None:
    """Return what a run keeps of its data. Collective, and to be called within `agree`.

    One rank of each host reads them for it. `base` is the folder that paths of the section start at; without it, no
    files are recorded. DataError: a host has other data than the first.
    """
    if source.computed:
        return None
    own = content_of(source, partial(comm.activity.enter, SET_UP)) if comm.local_rank == 0 else None
    if own is not None and base is not None and comm.rank == 0:
        own = msgspec.structs.replace(own, files=files_of(section, base))
    first, *others = variants_or_raise(comm, own, Content.equals)
    for other in others:
        differs = "; ".join(changes(first.value, other.value, section, ("on rank 0", f"on rank {other.rank}")))
        raise DataError(
            f"rank {other.rank} on {other.host} reads other data than rank 0 on {first.host}: {differs}. Give all "
            "nodes the same files."
        )
    return first.value


def check_same_data(
    before: Content | None, now: Content | None, section: DataSection, remedy: str, *, accept: bool = False
) -> list[str]:
    """Refuse to resume a run on other data than those of its start; `remedy` tells what to do with those there are.

    `before` is None for a run of an older version, which kept nothing of them. Return what changed; with `accept`
    this may be something.
    """
    if before is None or now is None:
        return []
    differs = changes(before, now, section)
    if differs and not accept:
        raise CheckpointError(
            f"the data changed since the run was started: {'; '.join(differs)}. Put them back as they were, or, to use "
            f"them as they are now, {remedy}"
        )
    return differs
