"""The benchmarks run, keep every figure, and name no machine; their figures are nobody's promise here."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from benchmarks.choice import Cell
from benchmarks.turns import Runner, rates, ratios, take_turns
from hpcnn.comm.serial import SerialCommunicator
from tests.mpi.launch import ROOT, Mpi
from tests.mpi.nodes import Testbed
from tests.require import require

NETWORKS = {"784-32-10", "784-512-512-10", "784-2048-2048-10"}


def steps_of(name: str, seconds: float, log: list[str]) -> Iterator[None]:
    for _ in count():
        log.append(name)
        time.sleep(seconds)
        yield


def test_turns_alternate_and_count_each_step() -> None:
    log: list[str] = []
    runners = [Runner("slow", steps_of("slow", 0.05, log)), Runner("fast", steps_of("fast", 0.004, log), alone=True)]
    figures = take_turns(SerialCommunicator(), runners, rounds=3, seconds=0.2)
    assert [len(seconds) for seconds in figures.values()] == [3, 3]
    assert min(figures["slow"]) >= 0.05
    assert 0.004 <= min(figures["fast"]) < 0.05
    changes = [name for name, before in zip(log[1:], log, strict=False) if name != before]
    assert changes == ["fast", "slow", "fast", "slow", "fast", "slow", "fast"][: len(changes)]
    assert len(changes) == 1 + 2 * 3


def test_ratios_are_of_one_round() -> None:
    assert ratios([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]
    assert rates({"a": [0.5, 0.25]}, {"a": 128}) == {"a": [256.0, 512.0]}


def measured(mpi: Mpi, ranks: int, folder: Path, *arguments: str, rounds: int = 3) -> dict[str, object]:
    raw = folder / "raw.json"
    done = mpi.run(ranks, "-m", *arguments, "--rounds", str(rounds), "--json", raw, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert socket.gethostname() not in raw.read_text()
    found = json.loads(raw.read_text())
    assert found["ranks"] == ranks
    assert found["cpu"]
    return found


def test_exactness(mpich: Mpi, tmp_path: Path) -> None:
    found = measured(mpich, 2, tmp_path, "benchmarks.exactness", "--seconds", "0.01", "--shards", "5")
    assert found["shards"] == 5
    assert found.keys() >= NETWORKS
    for name in NETWORKS:
        exact, free, ratio = found[name].values()
        assert ratio == pytest.approx([a / b for a, b in zip(exact, free, strict=True)])


def test_predicted_steps(mpich: Mpi, tmp_path: Path) -> None:
    words = ("--seconds", "0.01", "--batch", "2", "--networks", "784-32-10", "ResNet-20 32x32")
    found = measured(mpich, 2, tmp_path, "benchmarks.predicted", *words, rounds=2)
    for name in ("784-32-10", "ResNet-20 32x32"):
        steps = found[f"{name}, 2 a rank, direct"]
        assert all(each > 0 for each in steps["predicted, sums"])
        share = [a / b for a, b in zip(steps["predicted"], steps["measured"], strict=True)]
        assert steps["time predicted / measured"] == pytest.approx(share)


def test_a_sharded_optimizer_needs_less_memory(mpich: Mpi, tmp_path: Path) -> None:
    found = measured(mpich, 3, tmp_path, "benchmarks.sharding", "--width", "1500", "--steps", "1")
    memory = found["memory"]
    assert all(0.05 < ratio < 0.8 for ratio in memory["sharded / not sharded"])
    _, before, last = memory["not sharded"]  # the first round warms up the allocator
    assert last == pytest.approx(before, rel=0.1), "what was measured stays behind"


@pytest.mark.parametrize("ranks", [1, 2])
def test_checkpoint(mpich: Mpi, tmp_path: Path, ranks: int) -> None:
    found = measured(mpich, ranks, tmp_path, "benchmarks.checkpoint", "--width", "64", "--folder", str(tmp_path))
    assert found["parameters"] == 784 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    times = found["time of a save"]
    plain, alone, *each = [times[name] for name in times if "/" not in name]
    assert times["rank 0 writes / plain"] == pytest.approx([a / b for a, b in zip(alone, plain, strict=True)])
    assert len(each) == ranks - 1
    assert [path.name for path in tmp_path.iterdir()] == ["raw.json"], "what was written stays behind"


def test_data(mpich: Mpi, tmp_path: Path) -> None:
    for package in ("h5py", "PIL.Image", "pyarrow", "zarr"):
        require(package)
    words = ("--mb", "4", "--files", "x.npy", "pictures", "--folder", str(tmp_path))
    found = measured(mpich, 2, tmp_path, "benchmarks.data", *words, rounds=1)
    for name in ("x.npy", "pictures"):
        ours, others = found[name]["global"], found[name]["one after the other"]
        ratio = found[name]["global / one after the other"]
        assert ratio == pytest.approx([a / b for a, b in zip(ours, others, strict=True)])
    assert [path.name for path in tmp_path.iterdir()] == ["raw.json"], "what was written stays behind"


def test_a_compressed_file_is_in_memory_once(mpich: Mpi, tmp_path: Path) -> None:
    require("h5py")
    words = ("--mb", "16", "--folder", str(tmp_path))
    found = measured(mpich, 2, tmp_path, "benchmarks.data_memory", *words, rounds=1)
    assert all(0.9 < copies < 1.5 for copies in found["memory"]["HDF5 kept in memory / rows"])


def test_data_wait(mpich: Mpi, tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    words = ("--sources", "PNG, not read ahead", "--ranks", "1", "--epochs", "1", "--rounds", "1", "--json", raw)
    done = mpich.run(0, "-m", "benchmarks.data_wait", *words, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (share,) = json.loads(raw.read_text())["PNG, not read ahead"]
    assert 0 < share < 1


def test_small_fits(mpich: Mpi, tmp_path: Path) -> None:
    require("sklearn")
    found = measured(mpich, 1, tmp_path, "benchmarks.small_fits", "--epochs", "2", "--folder", str(tmp_path))
    for name in ("wine", "breast_cancer", "digits"):
        ours, theirs, ratio = next(value for key, value in found.items() if key.startswith(name)).values()
        assert ratio == pytest.approx([a / b for a, b in zip(ours, theirs, strict=True)])
    one, epoch, step = found["with steps that do nothing"].values()
    assert len(one) == len(epoch) == len(step) == 3
    assert 0 < min(step) < min(epoch) < min(one)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.json"], "what was written stays behind"


def test_keras_mode(mpich: Mpi, tmp_path: Path) -> None:
    require("keras")
    found = measured(mpich, 2, tmp_path, "benchmarks.keras_mode", "--comm", "mpi4py", "--seconds", "0.02")
    ours, theirs, numpy_mode, *quotients = found["784-32-10"].values()
    assert quotients[0] == pytest.approx([a / b for a, b in zip(ours, theirs, strict=True)])
    assert quotients[1] == pytest.approx([a / b for a, b in zip(numpy_mode, ours, strict=True)])


def test_ddp(mpich: Mpi, tmp_path: Path) -> None:
    require("torch")
    words = ("--tuned", "--networks", "784-32-10", "CNN 28x28", "--seconds", "0.01")
    found = measured(mpich, 2, tmp_path, "benchmarks.ddp", *words, rounds=1)
    for name, sides in (("784-32-10", 3), ("CNN 28x28", 2)):
        figures = found[name]
        labels = {"hpcnn": "hpcnn", "PyTorch mode": "hpcnn, PyTorch mode", "hpcnn.torch": "hpcnn.torch"}
        compared = [
            (ratio, figures[side]) for label, side in labels.items() if (ratio := figures.get(f"ratio {label} / DDP"))
        ]
        assert len(compared) == sides
        assert all(ratio == pytest.approx([side[0] / figures["DDP"][0]]) for ratio, side in compared)


def test_hashes(mpich: Mpi, tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    done = mpich.run(0, "-m", "benchmarks.hashes", "--ranks", "1", "3", "--sides", "hpcnn", "--json", raw, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(raw.read_text())
    assert found["ranks"] == [1, 3]
    (hashes,) = found["hashes"].values()
    assert len(hashes) == 2
    assert len(set(hashes)) == 1
    assert len(hashes[0]) == 64


@pytest.mark.parametrize(
    ("ranks", "arguments", "message"),
    [
        (2, ["benchmarks.exactness", "--json", "/nowhere/raw.json"], "there is no folder '/nowhere'"),
        (2, ["benchmarks.exactness", "--rounds", "0"], "'0' is not an integer >= 1"),
        (0, ["benchmarks.exactness"], "one rank has nothing to exchange"),
        (0, ["benchmarks.sharding"], "one rank has nobody to share with"),
        (2, ["benchmarks.single_rank"], "2 ranks, but this measures one"),
        (2, ["benchmarks.small_fits"], "2 ranks, but this measures one"),
        (0, ["benchmarks.single_rank"], "benchmarks/install.sh installs it"),
        (2, ["benchmarks.ddp"], "benchmarks/install.sh installs it"),
        (2, ["benchmarks.hashes", "--train-ddp"], "benchmarks/install.sh installs it"),
    ],
)
def test_bad_input(mpich: Mpi, tmp_path: Path, ranks: int, arguments: list[str], message: str) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError")  # as if it were not installed
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = mpich.run(ranks, "-m", *arguments, cwd=ROOT, environment=path)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert message in done.stderr


def test_algorithms(mpich: Mpi, tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    words = ("--lengths", "50", "--seconds", "0.01", "--rounds", "1", "--json", raw)
    done = mpich.run(2, "-m", "benchmarks.algorithms", *words, cwd=ROOT, environment={"HPCNN_SHARED_MEMORY": "off"})
    assert done.returncode == 0, done.stderr
    (figures,) = (value for name, value in json.loads(raw.read_text()).items() if "50 entries" in name)
    direct, halving, *network, ratio = figures.values()
    assert ratio == pytest.approx([a / b for a, b in zip(halving, direct, strict=True)])
    assert min(network)[0] >= 0 < network[0][0] < 1000


@pytest.mark.parametrize(
    ("ratios", "choices", "right", "shown"),
    [
        ([0.8, 0.85, 0.9, 0.8, 1.3], ["halving"] * 3, 3, "0.85 halving"),
        ([0.8, 0.85, 0.9, 0.8, 1.3], ["halving", "direct", "direct"], 1, "**0.85 direct 2/3**"),
        ([1.2, 1.4, 1.3, 1.2, 0.9], ["halving", "direct"], 1, "1.20 halving 1/2"),
        ([0.8, 1.3, 1.2, 1.1, 0.9], ["halving"], 1, "~1.10 halving"),
        ([1.01, 1.02, 1.01, 1.02, 1.02], ["halving"], 1, "~1.02 halving"),
    ],
)
def test_a_choice_is_right_if_the_other_is_not_faster(
    ratios: list[float], choices: list[str], right: int, shown: str
) -> None:
    cell = Cell(ratios, choices)
    assert (cell.right, str(cell)) == (right, shown)


def test_choice(testbed: type[Testbed], mpich: Mpi, tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    words = ("--ranks", "1", "1", "--networks", "no limit", "--lengths", "50", "--seconds", "0.01", "--rounds", "2")
    done = mpich.run(0, "-m", "benchmarks.choice", *words, "--json", raw, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(raw.read_text())
    assert found["choices"] == 2 >= found["right"] >= found["right where one is faster"]
    (figures,) = (value for name, value in found["no limit"].items() if "50 entries" in name)
    assert sum(figures["chosen"].values()) == len(figures["time halving / direct"]) == 2


def test_oversubscribed(mpich: Mpi, tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    words = ("--ranks", "2", "--networks", "784-32-10", "--steps", "2", "--rounds", "1", "--json", raw)
    done = mpich.run(0, "-m", "benchmarks.oversubscribed", *words, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    asleep, busy, *processor, ratio, _ = json.loads(raw.read_text())["2 ranks, 784-32-10"].values()
    assert ratio == pytest.approx([asleep[0] / busy[0]])
    assert all(seconds > 0 for (seconds,) in processor)


def test_exchange_scaling(mpich: Mpi, tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    words = ("--hosts", "2", "8", "--no-choices", "--json", raw)
    done = mpich.run(0, "-m", "benchmarks.exchange_scaling", *words, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for found in json.loads(raw.read_text()).values():
        for algorithm in ("direct", "halving"):
            assert found[algorithm]["messages"] == found[algorithm]["simulated"]["messages"]


def test_startup_scaling(mpich: Mpi, tmp_path: Path) -> None:
    """No turn of the start takes more messages than the logarithm of the ranks, nor more files on more ranks."""
    raw = tmp_path / "raw.json"
    done = mpich.run(0, "-m", "benchmarks.startup_scaling", "--ranks", "16", "64", "--json", raw, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    few, many = json.loads(raw.read_text())["ranks"].values()
    assert many["messages"] / 6 == few["messages"] / 4
    for name in ("files opened", "metadata operations"):
        assert many[name] == few[name] > 0
    assert many["MB"] < 1.5 * few["MB"]
    assert many["KB"] < 4 * few["KB"]  # names and cores


def test_checkpoint_scaling(mpich: Mpi, tmp_path: Path) -> None:
    """A rank's messages grow with the logarithm of the ranks, and none writes more than its share."""
    raw = tmp_path / "raw.json"
    done = mpich.run(0, "-m", "benchmarks.checkpoint_scaling", "--ranks", "16", "64", "--json", raw, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    few, many = (found["a chunk a rank"] for found in json.loads(raw.read_text()).values())
    ours, alone = (found["each its part"] for found in (few, many)), many["rank 0 everything"]
    (sent, received), (most_sent, most_received) = (
        (found["messages sent"], found["messages received"]) for found in ours
    )
    assert most_sent - sent <= 4 * 2  # a broadcast, a barrier and two sums along a tree
    assert most_received - received <= 4
    assert many["each its part"]["share written"] < 2.01 / 64
    assert alone["messages received"] > 2 * 63
    assert alone["share written"] == pytest.approx(1, rel=1e-3)
    assert {found["files opened"] for found in (many["each its part"], alone)} == {1}
