"""The communicators that need no launcher."""

from __future__ import annotations

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from tests.comm.conformance import Check, CommunicatorConformance
from tests.timing import WAIT_S


class TestSerial(CommunicatorConformance):
    sizes = (1,)

    def run(self, size: int, check: Check) -> None:
        check(SerialCommunicator())


class TestThreads(CommunicatorConformance):
    sizes = (1, 2, 3, 4, 5)

    def run(self, size: int, check: Check) -> None:
        run_threads(size, check, timeout_s=WAIT_S)


class TestThreadsOnSeveralNodes(CommunicatorConformance):
    sizes = (2, 3, 4, 5)

    def run(self, size: int, check: Check) -> None:
        for host_of_rank in HOSTS[size]:
            run_threads(size, check, host_of_rank=host_of_rank, timeout_s=WAIT_S)


class TestThreadsByHalving(CommunicatorConformance):
    sizes = (3, 5)

    def run(self, size: int, check: Check) -> None:
        for host_of_rank in [*HOSTS[size], list(range(size))]:
            run_threads(size, check, host_of_rank=host_of_rank, timeout_s=WAIT_S, halving=True)


HOSTS = {
    2: [[0, 1]],
    3: [[0, 1, 1], [0, 1, 0]],
    4: [[0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 2, 3]],
    5: [[0, 0, 1, 1, 1], [2, 0, 1, 0, 2]],
}
"""Ranks apart, unequal hosts, and numbers dealt in turn."""
