"""Process sets: subsets of the ranks that make collective calls among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcnn.comm.tensors.groups import group_of
from hpcnn.comm.tensors.tensor_group import TensorGroup
from hpcnn.comm.tensors.world import world
from hpcnn.errors import CommunicatorError


class ProcessSet:
    """A subset of the ranks, usable once `add_process_set` or `init` has registered it.

    Args:
        ranks: their numbers among all ranks.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self._ranks: list[int] | None = sorted({int(rank) for rank in ranks})
        self.process_set_id: int | None = None
        """Its number; None while it is not registered."""
        self._group: TensorGroup | None = None

    @property
    def ranks(self) -> list[int]:
        """The ranks, ascending."""
        return list(range(world().comm.size)) if self._ranks is None else self._ranks

    def included(self) -> bool:
        """Return whether this rank is in the set."""
        return world().comm.rank in self.ranks

    def rank(self) -> int:
        """Return the number of this rank within the set."""
        self._check_member()
        return self.ranks.index(world().comm.rank)

    def size(self) -> int:
        """Return the number of its ranks."""
        return len(self.ranks)

    @property
    def group(self) -> TensorGroup:
        """The group that makes its collective calls.

        Raises:
            CommunicatorError: this rank is not in the set, or the set is not registered.
        """
        if self._ranks is None:
            return world().group
        self._check_member()
        if self._group is None:
            raise CommunicatorError(f"{self} is not registered: call add_process_set() with it, on all ranks")
        return self._group

    def _check_member(self) -> None:
        if not self.included():
            raise CommunicatorError(
                f"rank {world().comm.rank} is not in {self}: make this call only on its ranks, as in "
                "`if process_set.included():`"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Be the registered set itself in copies, and its number in files."""
        if self.process_set_id is None:
            return ProcessSet, (self._ranks,)
        return process_set_by_id, (self.process_set_id,)

    def __str__(self) -> str:
        return f"ProcessSet({self._ranks})" if self._ranks is not None else "global_process_set"

    __repr__ = __str__


def _global() -> ProcessSet:
    everyone = ProcessSet([])
    everyone._ranks, everyone.process_set_id = None, 0
    return everyone


global_process_set = _global()
"""All ranks."""
_registered: dict[int, ProcessSet] = {0: global_process_set}
_numbered = 0


def add_process_set(process_set: ProcessSet | Sequence[int]) -> ProcessSet:
    """Register a process set, or the ranks of one, and return it. All ranks of the job must call this.

    Raises:
        CommunicatorError: there are no such ranks, or such a set is registered already.
    """
    global _numbered
    added = process_set if isinstance(process_set, ProcessSet) else ProcessSet(process_set)
    everyone = world().group
    everyone.agree_on("add_process_set", *added.ranks)
    if added.process_set_id is not None:
        raise CommunicatorError(f"{added} is registered already")
    if not added.ranks or added.ranks[0] < 0 or added.ranks[-1] >= everyone.comm.size:
        raise CommunicatorError(
            f"{added} must name at least one of the ranks 0 to {everyone.comm.size - 1}, and no others"
        )
    if any(other.ranks == added.ranks for other in _registered.values()):
        raise CommunicatorError(f"there is a process set of the ranks {added.ranks} already: use that one")
    if added.included():
        added._group = group_of(added.ranks, everyone)
    _numbered += 1
    added.process_set_id = _numbered
    _registered[_numbered] = added
    return added


def remove_process_set(process_set: ProcessSet) -> bool:
    """Unregister a process set; return whether it was registered. All ranks of the job must call this."""
    world().group.agree_on("remove_process_set", *process_set.ranks)
    number = process_set.process_set_id
    if number is None or number == 0:
        return False
    del _registered[number]
    process_set.process_set_id, process_set._group = None, None
    return True


def process_set_by_id(number: int) -> ProcessSet:
    """Return the registered process set of that number."""
    if number not in _registered:
        raise CommunicatorError(f"there is no process set {number}; registered are {sorted(_registered)}")
    return _registered[number]
