"""`hpcnn bench` on real ranks: it measures, shows, writes, and refuses with one line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mpi.launch import Mpi
from tests.mpi.nodes import Testbed

QUICK = ("--max", "64K", "--repeats", "3", "--seconds", "0.01")


def strings(value: Any) -> Iterator[str]:
    """Yield all that is text in a value from JSON."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def bench(mpi: Mpi, ranks: int, folder: Path, *arguments: str | Path) -> tuple[list[str], dict[str, Any]]:
    """Return the lines on the screen and the figures."""
    done = mpi.run(ranks, "-m", "hpcnn.bench", *arguments, "--json", folder / "figures.json", cwd=folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout.splitlines(), json.loads((folder / "figures.json").read_text())


def test_allreduce(mpi: Mpi, tmp_path: Path) -> None:
    lines, figures = bench(mpi, 2, tmp_path, "allreduce", *QUICK)
    assert lines[0] == "exact sum of float32 vectors against MPI_Allreduce: 2 ranks on 1 node"
    for size in ("4 B", "1 KiB", "64 KiB"):  # Open MPI's ranks have a terminal, hence a table with lines
        assert sum(f" {size} " in line for line in lines) == 1
    assert "limit: memory copy, measured in turn" in lines
    assert [one["bytes"] for one in figures["sizes"]] == [4**power for power in range(1, 9)]
    for one in figures["sizes"]:
        assert len(one["hpcnn_s"]) == len(one["mpi_s"]) == len(one["limit_s"]) == 3
        assert min(one["hpcnn_s"] + one["mpi_s"] + one["limit_s"]) > 0
    assert (figures["ranks"], figures["ranks_by_node"], figures["limit"]) == (2, [2], "memory copy")
    assert figures["mpi"].lower().replace(" ", "").startswith(mpi.name)
    assert figures["machine"]["processor"]


def test_between_nodes_the_limit_is_the_wire(testbed: type[Testbed], mpich: Mpi, tmp_path: Path) -> None:
    arguments = ("-m", "hpcnn.bench", "allreduce", *QUICK, "--min", "128K", "--max", "512K", "--json", "figures.json")
    with testbed(2, rate_mbit=100) as nodes:
        done = nodes.run(mpich, [1, 2], *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("exact sum of float32 vectors against MPI_Allreduce: 3 ranks on 2 nodes, 1 to 2 on")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["limit"], figures["ranks_by_node"]) == ("wire", [1, 2])
    largest = figures["sizes"][-1]
    assert min(largest["limit_s"]) > 0.5 * 2**19 * 8 / 100e6  # a burst may pass faster than the rate
    assert min(largest["hpcnn_s"]) > 0.5 * 2**19 * 8 / 100e6


@pytest.mark.parametrize("ranks", [0, 3])
def test_step(mpich: Mpi, tmp_path: Path, ranks: int) -> None:
    lines, figures = bench(mpich, ranks, tmp_path, "step", "--steps", "30", "--set", "train.batch_size=128")
    count = max(ranks, 1)
    assert lines[0].startswith("digits_mlp: ms per step and share, by phase, over 30 steps on ")
    assert [line.split()[0] for line in lines[2 : 2 + count]] == [str(rank) for rank in range(count)]
    assert sum(line.startswith(f"slowest: rank {figures['slowest_rank']} on ") for line in lines) == (ranks > 1)
    assert (figures["ranks"], figures["steps"], len(figures["by_rank"])) == (count, 30, count)
    assert figures["samples"] == 30 * 128 - 3 * (12 * 128 - 1438)  # three of the batches end an epoch
    for seconds in figures["by_rank"]:
        assert min(seconds[phase] for phase in ("data", "forward", "backward")) > 0
        assert sum(seconds.values()) == pytest.approx(figures["seconds"], rel=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]  # nothing else is saved


def test_hosts_are_named_on_request_only(mpich: Mpi, tmp_path: Path) -> None:
    host = socket.gethostname()
    lines, figures = bench(mpich, 2, tmp_path, "step", "--steps", "1")
    assert lines[2].split()[1] == host
    assert host not in strings(figures)
    assert bench(mpich, 2, tmp_path, "step", "--steps", "1", "--hosts")[1]["hosts"] == [host, host]


@pytest.mark.parametrize(
    ("ranks", "arguments", "message"),
    [
        (0, ("allreduce",), "one rank has no other rank to exchange with. Start several: mpirun -n 2"),
        (2, ("allreduce", "--min", "1M", "--max", "4"), "--max 4 is less than --min 1048576"),
        (2, ("allreduce", "--json", "gone/a.json"), "there is no folder 'gone'"),
        (2, ("step", "--plot", "a.pdf"), "--plot 'a.pdf' must be a .png or a .svg file"),
        (2, ("step", "gone.toml"), "no job file 'gone.toml'"),
        (2, ("step", "--set", "train.shards=1"), "2 ranks for 1 gradient shard"),
    ],
)
def test_refuses(mpich: Mpi, tmp_path: Path, ranks: int, arguments: tuple[str, ...], message: str) -> None:
    done = mpich.run(ranks, "-m", "hpcnn", "bench", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())
