"""Measuring a network, on ranks that are threads: what is measured, and what is made of it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from hpcnn.comm.network import read_machine
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, ThreadLinks, run_threads
from hpcnn.errors import CommunicatorError
from hpcnn.tools.bench import network
from hpcnn.tools.bench.network import NetworkBench, NetworkFigures, call_seconds
from hpcnn.tools.bench.network_report import as_json, show


def measured(host_of_rank: list[int]) -> NetworkFigures:
    def body(comm: ThreadCommunicator) -> NetworkFigures:
        return NetworkBench(comm, seconds=1e-3, make_links=partial(ThreadLinks, comm._world, comm.rank)).run()

    everyone = run_threads(len(host_of_rank), body, host_of_rank=host_of_rank)
    assert everyone.count(everyone[0]) == len(everyone)
    return everyone[0]


def test_all_is_measured_and_can_be_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "SIZE", 2**16)
    monkeypatch.setattr(network, "ADDED", 2**16)
    found = measured([0, 0, 1])
    assert found.ranks_by_node == [2, 1]
    assert found.machine.between is not None
    assert found.machine.within is not None
    assert found.machine.memory_byte_s is not None
    assert min(found.machine.between.latency_s, found.machine.between.byte_s, found.machine.within.byte_s) > 0
    path = tmp_path / "network.json"
    path.write_text(json.dumps(as_json(found)))
    assert read_machine(str(path)) == found.machine
    show(found, str(path), ["a warning"])
    title, head, between, within, memory, use, warning = capsys.readouterr().out.splitlines()
    assert (title, head.split()[0]) == ("messages and memory: 3 ranks on 2 nodes", "messages")
    assert "between nodes" in between
    assert "within a node" in within
    assert memory.startswith("memory of a node: ")
    assert use == f"HPCNN_NETWORK={path} lets runs use these figures in place of a quick measurement"
    assert warning == "a warning"


def test_one_node_says_nothing_of_the_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "SIZE", 2**16)
    monkeypatch.setattr(network, "ADDED", 2**16)
    found = measured([0, 0])
    assert found.machine.between is None
    show(found, "", [])
    assert "nothing is known of the network between nodes" in capsys.readouterr().out


def test_what_a_bucket_of_tokens_lets_through_at_first_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two calls of each measurement are free; each further one takes 10 ms."""
    clock, calls = [0.0], [0]

    def act() -> None:
        calls[0] += 1
        clock[0] += 0.01 if calls[0] > 2 else 0.0

    class Comm(SerialCommunicator):
        def barrier(self, *, spin: bool = True) -> None:
            calls[0] = 0

    monkeypatch.setattr(network.time, "perf_counter", lambda: clock[0])
    assert call_seconds(Comm(), act, 0.1) == pytest.approx(0.01)


def test_one_rank_has_no_other_to_send_to() -> None:
    with pytest.raises(CommunicatorError, match=r"one rank has no other rank to send to\. Start several"):
        NetworkBench(SerialCommunicator(), seconds=0.1)
