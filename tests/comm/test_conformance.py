"""The communicators that need no launcher."""

from __future__ import annotations

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from tests.comm import conformance
from tests.comm.conformance import CommunicatorConformance


class TestSerial(CommunicatorConformance):
    sizes = (1,)

    def run(self, size: int, check_name: str) -> None:
        getattr(conformance, check_name)(SerialCommunicator())


class TestThreads(CommunicatorConformance):
    sizes = (1, 2, 3, 4, 5)

    def run(self, size: int, check_name: str) -> None:
        run_threads(size, getattr(conformance, check_name), timeout_s=60)
