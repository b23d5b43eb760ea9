from __future__ import annotations

from hpcnn.comm.supervision.heartbeats import Status


def test_a_status_is_of_one_size() -> None:
    short, long = Status(1, 2, "phase data", ""), Status(2**40, 2, "x" * 100, "ü" * 40)
    assert len(short.pack()) == len(long.pack())
    assert Status.unpack(short.pack()) == short
    assert Status.unpack(long.pack()).activity == "x" * 64
