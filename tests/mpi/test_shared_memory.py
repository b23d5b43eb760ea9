"""Memory that real ranks share: seen by all, gone with them, and done without where it can't be had."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from tests.mpi.launch import Mpi
from tests.mpi.nodes import Testbed
from tests.timing import wait_until

RANKS = 3

NEIGHBOURS = """
import mmap
from hpcnn.comm.connect import connect

comm = connect()
memory = comm._shared.memory
for turn in range(3):
    segments, common = memory.allocate(10_000 * comm.rank), memory.allocate_common(7 * mmap.PAGESIZE)
    for segment in (*segments, common):
        assert segment.ctypes.data % mmap.PAGESIZE == 0
        assert not segment.any()
    memory.barrier()
    segments[comm.rank][...] = 1 + comm.rank
    common[comm.rank :: comm.size] = 1 + comm.rank
    memory.barrier(spin=turn != 1)
    for rank, segment in enumerate(segments):
        assert segment.size >= 10_000 * rank and (segment == 1 + rank).all()
        assert (common[rank :: comm.size] == 1 + rank).all()
comm.barrier()
"""


def test_each_rank_sees_what_its_neighbours_write(mpi: Mpi, tmp_path: Path) -> None:
    (tmp_path / "neighbours.py").write_text(NEIGHBOURS)
    done = mpi.run(RANKS, "neighbours.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


WAITING = """
import os, pathlib, time
import numpy as np
from hpcnn.comm.connect import connect

comm = connect()
exchange = comm.exchange(8, 100_000, np.float32, 1)
array = comm.host_array(100_000, np.float32, shared=True)
exchange.allreduce()
comm.barrier()
pathlib.Path(f"{os.getpid()}.ready").touch()
time.sleep(600)
"""


def shared_files(process: str) -> set[int]:
    """Return the inodes of hpcnn's files in memory that a process has mapped or open."""
    found = set()
    with contextlib.suppress(OSError):  # it has ended meanwhile
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
        found = {int(line.split()[4]) for line in lines if "memfd:hpcnn" in line}
        for file in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                if "memfd:hpcnn" in str(file.readlink()):
                    found.add(file.stat().st_ino)
    return found


def test_nothing_is_left_of_ranks_that_were_killed(mpi: Mpi, tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    job = mpi.start(RANKS, "waiting.py", cwd=tmp_path)
    try:
        wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == RANKS)
        ranks = [path.stem for path in tmp_path.glob("*.ready")]
        own = [shared_files(rank) for rank in ranks]
        assert own[0] == own[1] == own[2]
        assert len(own[0]) >= RANKS + 2
        for rank in ranks:
            with contextlib.suppress(ProcessLookupError):  # the launcher was quicker, after the first of them
                os.kill(int(rank), signal.SIGKILL)
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
    wait_until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks))
    processes = [path.name for path in Path("/proc").glob("[0-9]*")]
    assert not own[0] & {inode for process in processes for inode in shared_files(process)}
    assert not [name for name in set(os.listdir("/dev/shm")) - before if "hpcnn" in name]  # noqa: PTH208


LIMITED = """
import hashlib, json, resource, sys
import numpy as np
from hpcnn.comm.connect import connect
from tests.comm.exchanges import Case, sharded, step_of, sum_of

comm = connect()
limit, culprit = json.loads(sys.argv[1])
if comm.rank == culprit:  # files in memory are under it, too
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
bits = hashlib.sha256()
for case in (Case(8, 100_003, np.float32, 2), Case(5, 30_000, np.float64, 1), Case(4, 10, np.float32, 1)):
    exchange, target = sharded(comm, case, bucket=case.length // 3)
    plain = comm.exchange(case.shards, case.length, case.dtype, case.stats)

    def update(part):
        target.array[exchange.parts[part]] -= sum_of(exchange, part, case.dtype)

    expected = np.zeros(case.length, case.dtype)
    for turn in range(3):
        exchange.start(step_of(exchange, update))
        for each in (exchange, plain):
            case.fill(each.contributions, turn)
        exchange.finish()
        plain.allreduce()
        vector, stats = case.total(turn)
        expected -= vector
        assert target.array[: case.length].tobytes() == expected.tobytes()
        assert plain.vector.tobytes() == vector.tobytes()
        assert exchange.stats.tobytes() == plain.stats.tobytes() == stats.tobytes()
        bits.update(target.array)
copies = sum(comm.allgather(comm.host_array(1, np.float32, shared=True).writes))
everyone = comm.allgather([comm.notes, bits.hexdigest()])
if comm.rank == 0:
    print(json.dumps([copies, everyone]))
"""
LIMITS = {
    # bytes, the rank that is limited, copies of an array in the end
    "enough": (10**9, 0, 1),
    "nothing at all on one rank": (1000, RANKS - 1, RANKS),
    "the parameters, but not the gradients": (600_000, RANKS - 1, RANKS),
}


@pytest.fixture(scope="module")
def limited(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    """Without memory to share: the notes, none, and the bits."""
    folder = tmp_path_factory.mktemp("off")
    (folder / "limited.py").write_text(LIMITED)
    done = mpich.run(RANKS, "limited.py", "[1000, -1]", cwd=folder, environment={"HPCNN_SHARED_MEMORY": "off"})
    assert done.returncode == 0, done.stderr
    copies, everyone = json.loads(done.stdout)
    assert copies == RANKS
    assert everyone == [everyone[0]] * RANKS
    return everyone[0]


@pytest.mark.parametrize(("limit", "culprit", "copies"), LIMITS.values(), ids=LIMITS)
def test_ranks_that_cannot_share_memory_go_without_for_the_same_bits(
    mpi: Mpi, tmp_path: Path, limited: tuple[list[str], str], limit: int, culprit: int, copies: int
) -> None:
    (tmp_path / "limited.py").write_text(LIMITED)
    done = mpi.run(RANKS, "limited.py", json.dumps([limit, culprit]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, everyone = json.loads(done.stdout)
    assert found == copies
    off_notes, off_bits = limited
    assert off_notes == []
    notes = everyone[0][0]
    assert [bits for _, bits in everyone] == [off_bits] * RANKS
    assert len(notes) == (copies > 1)
    for note in notes:
        assert note.startswith("the ranks of a node send their gradients, since they can't share memory (on ")
        assert note.endswith(f"rank {culprit} of the node can't share memory: [Errno 27] File too large)")


def test_if_one_node_cannot_share_memory_none_does(
    nodes: Testbed, mpich: Mpi, tmp_path: Path, limited: tuple[list[str], str]
) -> None:
    (tmp_path / "limited.py").write_text(LIMITED)
    done = nodes.run(mpich, [2, 2], "limited.py", "[1000, 3]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, everyone = json.loads(done.stdout)
    assert found == 4
    for notes, bits in everyone:
        assert bits == limited[1]
        (note,) = notes
        assert "(on node2, rank 1 of the node can't share memory: " in note
