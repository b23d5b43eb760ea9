from __future__ import annotations

import pytest

from hpcnn.comm.supervision.heartbeats import Status, distances_of


def test_a_status_is_of_one_size() -> None:
    short, long = Status(1, 2, "phase data", ""), Status(2**40, 2, "x" * 100, "ü" * 40)
    assert len(short.pack()) == len(long.pack())
    assert Status.unpack(short.pack()) == short
    assert Status.unpack(long.pack()).activity == "x" * 64


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 1024, 4096])
def test_news_reach_all_ranks_in_the_logarithm_of_rounds_of_as_many_messages(size: int) -> None:
    logarithm = (size - 1).bit_length()
    distances = distances_of(size)
    assert len(distances) == logarithm
    assert distances[:1] == [1][:logarithm]  # so that its right neighbour misses a rank that falls silent
    known = {0}
    for _ in range(logarithm):
        known |= {(rank + distance) % size for rank in known for distance in distances}
    assert len(known) == size
