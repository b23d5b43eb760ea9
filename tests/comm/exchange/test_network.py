"""What a network costs, as the environment says it: in words, or by a file, read once for all ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpcnn.comm.exchange.probe import asked_for
from hpcnn.comm.network import Machine, Network, read_machine, read_network
from hpcnn.errors import CommunicatorError

BETWEEN = {"latency_s": 2e-6, "overhead_s": 1e-7, "byte_s": 1e-10}


def written(folder: Path, content: Any) -> str:
    path = folder / "network.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_latency_and_bandwidth_stand_in_any_order() -> None:
    assert Network.parse("100Gb/s,2us") == Network.parse("2us,100Gb/s")
    with pytest.raises(CommunicatorError, match=r"^--network is '2us,3us', but must be a latency and a bandwidth"):
        Network.parse("2us,3us", "--network")


def test_a_file_names_a_machine(tmp_path: Path) -> None:
    path = written(tmp_path, {"ranks": 2, "network": {"between": BETWEEN, "within": None, "memory_byte_s": 1e-11}})
    assert read_machine(path) == Machine(Network(2e-6, 1e-7, 1e-10), None, 1e-11)
    assert read_network(path) == Network(2e-6, 1e-7, 1e-10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no file of hpcnn bench network"),
        ("\udcff", "is no file of hpcnn bench network"),
        ({"benchmark": "step"}, "missing required field `network`"),
        ({"network": {"between": {"latency_s": "2us"}}}, "Expected `float`, got `str`"),
        ({"network": {"between": BETWEEN | {"byte_s": -1.0}}}, "negative or not finite"),
        ({"network": {"between": BETWEEN, "memory_byte_s": -1.0}}, "negative or not finite"),
        ({"network": {"between": None}}, "was measured on one node"),
    ],
)
def test_what_is_no_such_file_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "network.json").write_bytes(
        content.encode(errors="surrogateescape") if isinstance(content, str) else json.dumps(content).encode()
    )
    with pytest.raises(CommunicatorError, match=rf"^HPCNN_NETWORK: .*{message}.*Measure on two nodes or more"):
        read_network(str(tmp_path / "network.json"))


def test_a_file_that_is_missing_is_refused_on_all_ranks_and_read_by_the_first_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCNN_NETWORK", str(tmp_path / "none.json"))
    sent: list[Any] = []
    with pytest.raises(CommunicatorError, match=r"none\.json' can't be read \(No such file"):
        asked_for(lambda value: sent.append(value) or value, 0)
    with pytest.raises(CommunicatorError, match=r"none\.json' can't be read \(No such file"):
        asked_for(lambda value: sent.append(value) or sent[0], 1)
    assert sent[1] is None


def test_the_environment_of_the_first_rank_names_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCNN_NETWORK", written(tmp_path, {"network": {"between": BETWEEN}}))
    assert asked_for(lambda value: value, 0) == ("", Network(2e-6, 1e-7, 1e-10))
