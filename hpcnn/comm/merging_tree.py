"""Values of all ranks, merged on the first by a binomial tree: each rank sends one message at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def merge_along_tree(
    rank: int,
    size: int,
    value: T,
    merge: Callable[[T, T], T],
    send: Callable[[int, T], None],
    receive: Callable[[int], T],
) -> T:
    """Return, on rank 0, the values of all ranks merged in the order of ranks; elsewhere a part of them. Collective.

    `send` sends a value to a rank, and `receive` returns the one that a rank sent.
    """
    distance = 1
    while distance < size and not rank & distance:
        if rank + distance < size:
            value = merge(value, receive(rank + distance))
        distance *= 2
    if rank:
        send(rank - distance, value)
    return value
