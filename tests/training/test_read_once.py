"""Data are read into memory once a node, by one rank, and shared by all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpcnn.comm.collectives import agree
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.data.digests import digests
from hpcnn.data.readers import read_source
from hpcnn.data.rows import ArrayRows, Buffer, JoinedRows
from hpcnn.data.source import Source
from hpcnn.errors import DataError, PeerError
from hpcnn.job import data as schema
from hpcnn.training.read_once import read_once
from tests.data.helpers import take

X, Y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 3
TABLE = "a,b,when,t\n" + "".join(f"{row},w{row % 4},2024-01-0{row % 9 + 1},{'yn'[row % 2]}\n" for row in range(50))


def write(folder: Path) -> dict[str, schema.DataSection]:
    np.savez_compressed(folder / "d.npz", x=X, z=X[:, :1], y=Y, weights=X[:, 0])
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    (folder / "d.csv").write_text(TABLE)
    for number, place in enumerate(("a/1.png", "a/2.png", "b/3.png")):
        (folder / "pictures" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number, 50, 90)).save(folder / "pictures" / place)
    (folder / "d.txt").write_text("some text " * 20)
    path = {kind: str(folder / f"d.{kind}") for kind in ("npz", "csv", "txt")}
    return {
        "compressed": schema.Npz(path=path["npz"], validation_path=path["npz"]),
        "joined": schema.Npz(path=path["npz"], x=["x", "z"]),
        "table": schema.Csv(path=path["csv"], targets=["t"], weights="a"),
        "text": schema.TextFiles(path=path["txt"], length=8),
        "pictures": schema.Images(folder=str(folder / "pictures")),
        "mapped": schema.Npy(x_path=str(folder / "x.npy"), y_path=str(folder / "y.npy")),
    }


@pytest.mark.parametrize("kind", ["compressed", "joined", "table", "text", "pictures", "mapped"])
def test_one_rank_of_each_node_reads(kind: str, tmp_path: Path) -> None:
    section, readers = write(tmp_path)[kind], []
    alone = read_source(section, tmp_path)

    def body(comm: ThreadCommunicator) -> Source:
        def read() -> Source:
            readers.append(comm.rank)
            return read_source(section, tmp_path)

        return agree(comm, lambda: read_once(read, comm))

    found = run_threads(5, body, host_of_rank=[0, 0, 1, 1, 1])
    assert sorted(readers) == ([0, 1, 2, 3, 4] if kind == "mapped" else [0, 2])
    for each in found:
        assert digests(each.arrays) == digests(alone.arrays)
        assert (each.columns, each.inputs, each.vocabulary, each.notes) == (
            alone.columns, alone.inputs, alone.vocabulary, alone.notes
        )  # fmt: skip
    if kind == "table":
        assert [take(each.weights).tolist() for each in found] == [take(alone.weights).tolist()] * 5


def test_the_memory_is_shared_within_a_node_and_read_only() -> None:
    def body(comm: ThreadCommunicator) -> Any:
        return agree(comm, lambda: read_once(lambda: Source(ArrayRows(X), ArrayRows(Y)), comm)).x

    first, second, third = run_threads(3, body, host_of_rank=[0, 0, 1])
    assert np.shares_memory(first.array, second.array)
    assert not np.shares_memory(first.array, third.array)
    assert not first.array.flags.writeable


def test_scratch_memory_is_each_ranks_own() -> None:
    """Else ranks would overwrite each other's rows."""

    def body(comm: ThreadCommunicator) -> Any:
        def read() -> Source:
            x = JoinedRows([ArrayRows(X), ArrayRows(X.astype(np.float32))])
            take(x)  # now it has scratch memory
            return Source(x, ArrayRows(Y))

        return agree(comm, lambda: read_once(read, comm)).x

    first, second = run_threads(2, body, host_of_rank=[0, 0])
    take(first), take(second)
    mine, theirs = ([one for one in rows._buffers if isinstance(one, Buffer)] for rows in (first, second))
    assert len(mine) == 2
    assert not any(np.shares_memory(a._array, b._array) for a, b in zip(mine, theirs, strict=True))
    assert np.array_equal(take(first), take(second))


def test_an_error_of_the_rank_that_reads_is_that_of_all() -> None:
    def read() -> Source:
        raise DataError("the file is damaged")

    with pytest.raises((DataError, PeerError), match="the file is damaged"):
        run_threads(3, lambda comm: agree(comm, lambda: read_once(read, comm)), host_of_rank=[0, 0, 0])


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.data.source.free_memory", lambda: 100)
    source = Source(ArrayRows(X), ArrayRows(Y))
    with pytest.raises((DataError, PeerError), match=r"a copy of the data that all ranks share takes \d+ bytes"):
        run_threads(2, lambda comm: agree(comm, lambda: read_once(lambda: source, comm)), host_of_rank=[0, 0])
    assert read_once(lambda: source, SerialCommunicator()) is source
