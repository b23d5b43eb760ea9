"""The testbed of several nodes is what it claims to be, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mpi.launch import Mpi
from tests.mpi.nodes import HEAD, MTU_BYTES, Testbed, unavailable
from tests.require import missing
from tests.timing import WAIT_S, wait_until

pytestmark = pytest.mark.timed

RATE_MBIT = 1000


PLACE = """
import json, os, pathlib
from hpcnn.comm.connect import connect
comm = connect()
pathlib.Path("/dev/shm/hpcnn-" + comm.host).touch()
comm.barrier()
seen = sorted(path.name for path in pathlib.Path("/dev/shm").glob("hpcnn-*"))
everyone = comm.allgather([comm.host, comm.local_rank, comm.local_size, seen, os.environ["HPCNN_MARK"]])
if comm.rank == 0:
    print(json.dumps(everyone))
"""


@pytest.mark.parametrize(
    ("mpi", "layout", "cyclic", "hosts"),
    [
        ("mpich", [1, 3], False, ["node1", "node2", "node2", "node2"]),
        ("mpich", [2, 1], True, ["node1", "node2", "node1"]),
        ("openmpi", [1, 2], False, ["node1", "node2", "node2"]),
        ("openmpi", [2, 1], True, ["node1", "node2", "node1"]),
    ],
    indirect=["mpi"],
)
def test_ranks_are_on_separate_hosts(
    nodes: Testbed, mpi: Mpi, tmp_path: Path, layout: list[int], cyclic: bool, hosts: list[str]
) -> None:
    (tmp_path / "place.py").write_text(PLACE)
    mark = {"HPCNN_MARK": "a b"}
    done = nodes.run(mpi, layout, "place.py", cwd=tmp_path, cyclic=cyclic, environment=mark)
    assert done.returncode == 0, done.stderr
    local_ranks = [hosts[:rank].count(host) for rank, host in enumerate(hosts)]
    assert json.loads(done.stdout) == [
        [host, local_rank, hosts.count(host), [f"hpcnn-{host}"], "a b"]
        for host, local_rank in zip(hosts, local_ranks, strict=True)
    ]


def test_says_why_there_can_be_no_nodes(
    testbed: type[Testbed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unavailable() == "unshare (util-linux) is not installed"
    for name in ("unshare", "sh"):
        (tmp_path / name).symlink_to(str(shutil.which(name, path=os.defpath)))
    assert "ip: not found" in str(unavailable())
    assert unavailable(latency=True) == "a network with latency needs /dev/net/tun and a C compiler"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unavailable() == "nodes in namespaces need root"


BROADCAST = """
import numpy as np
from hpcnn.comm.connect import connect
connect().broadcast_array(np.zeros(8_000_000, np.uint8))
"""


@pytest.mark.parametrize(("layout", "crosses"), [([2], False), ([1, 1], True)])
def test_memory_within_a_node_and_the_link_between(
    nodes: Testbed, mpi: Mpi, tmp_path: Path, layout: list[int], crosses: bool
) -> None:
    (tmp_path / "broadcast.py").write_text(BROADCAST)
    before, again_before = nodes.sent_bytes("node1"), nodes.sent_again("node1")
    done = nodes.run(mpi, layout, "broadcast.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sent = nodes.sent_bytes("node1") - before
    again = MTU_BYTES * (nodes.sent_again("node1") - again_before)
    lowest, highest = (8e6, 9e6) if crosses else (0, 1e6)
    assert lowest < sent < highest + again


RECEIVER = """
import socket, sys, time
senders, size, rounds = map(int, sys.argv[1:])
server = socket.create_server(("", 5555))
print("ready", flush=True)
connections = [server.accept()[0] for _ in range(senders)]
for _ in range(rounds):
    begin = time.perf_counter()
    for connection in connections:
        connection.sendall(b"x")
    for connection in connections:
        assert len(connection.recv(size, socket.MSG_WAITALL)) == size
    print(senders * size * 8 / 1e6 / (time.perf_counter() - begin))
"""
SENDER = """
import socket, sys
host, size = sys.argv[1:]
connection = socket.create_connection((host, 5555))
while connection.recv(1):
    connection.sendall(bytes(int(size)))
"""


def tcp_rates_mbit(nodes: Testbed, senders: list[str], receiver: str, size: int, cwd: Path) -> list[float]:
    """Return the payload that `receiver` gets over plain TCP in each of some transfers, in Mbit/s."""
    arguments = (str(len(senders)), str(size), "10")
    receiving = nodes.start_on(receiver, sys.executable, "-c", RECEIVER, *arguments, cwd=cwd)
    assert receiving.stdout is not None
    assert receiving.stdout.readline() == "ready\n"
    for sender in senders:
        nodes.start_on(sender, sys.executable, "-c", SENDER, receiver, str(size), cwd=cwd)
    out, err = receiving.communicate(timeout=WAIT_S)
    assert receiving.returncode == 0, err
    return [float(line) for line in out.split()]


def test_a_link_keeps_its_limit(testbed: type[Testbed], tmp_path: Path) -> None:
    """No transfer is much faster, out of a node or into one; on a busy machine most are slower, but not all."""
    ways = [(["node1"], HEAD), ([HEAD], "node1"), (["node1", "node3"], "node2")]  # the head has no limit of its own
    with testbed(3, rate_mbit=RATE_MBIT) as nodes:
        for senders, receiver in ways:
            for size in (1_000_000, 8_000_000):
                rates = tcp_rates_mbit(nodes, senders, receiver, size, tmp_path)
                while max(rates) < 0.9 * RATE_MBIT and len(rates) < 200:
                    rates += tcp_rates_mbit(nodes, senders, receiver, size, tmp_path)
                assert 0.9 * RATE_MBIT < max(rates) < 1.06 * RATE_MBIT, (senders, receiver, size, rates)


def test_a_link_has_latency(testbed: type[Testbed], tmp_path: Path) -> None:
    """A byte takes it there and back; many bytes take their time at the rate on top; never less, and once no more."""
    if reason := unavailable(latency=True):
        missing(reason)
    latency_s, rate_mbit = 20e-3, 100
    with testbed(2, rate_mbit=rate_mbit, latency_us=latency_s * 1e6) as nodes:
        for size in (1, 1_000_000):
            least_s, seconds = 2 * latency_s + size * 8e-6 / rate_mbit, list[float]()
            while min(seconds, default=1.0) > 1.2 * least_s and len(seconds) < 200:
                seconds += [size * 8e-6 / each for each in tcp_rates_mbit(nodes, ["node1"], "node2", size, tmp_path)]
            assert least_s < min(seconds) < 1.2 * least_s, (size, seconds)
            nodes.clear()  # which leaves the relay alone


def test_a_link_without_limit(nodes: Testbed, tmp_path: Path) -> None:
    """On a busy machine most transfers are slower, but not all."""
    rates: list[float] = []
    while max(rates, default=0.0) < 2 * RATE_MBIT and len(rates) < 200:
        rates += tcp_rates_mbit(nodes, ["node1"], "node2", 8_000_000, tmp_path)
    assert max(rates) > 2 * RATE_MBIT, rates


WAIT = """
import pathlib, time
from hpcnn.comm.connect import connect
pathlib.Path(f"ready-{connect().rank}").touch()
time.sleep(600)
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A program whose ranks wait, once they have said so; its path is in no other process's command line."""
    (tmp_path / "wait.py").write_text(WAIT)
    return tmp_path / "wait.py"


def wait_for_two_ranks(program: Path) -> None:
    wait_until(lambda: len(list(program.parent.glob("ready-*"))) == 2)


def running(mark: Path) -> list[str]:
    """Return the command lines with `mark` in them, on all nodes and off."""
    table = subprocess.run(["ps", "-e", "-ww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in table.splitlines() if str(mark) in line]


def test_a_job_that_takes_too_long_leaves_nothing(nodes: Testbed, mpi: Mpi, waiting: Path) -> None:
    for timeout_s in (4, 20, 100):
        with pytest.raises(TimeoutError, match=rf"wait\.py.* took longer than {timeout_s} s"):
            nodes.run(mpi, [1, 1], waiting, cwd=waiting.parent, timeout_s=timeout_s)
        wait_until(lambda: not running(waiting))
        if len(list(waiting.parent.glob("ready-*"))) == 2:
            return
    pytest.fail("the ranks never began")


def test_clear_ends_all(nodes: Testbed, tmp_path: Path) -> None:
    """On the head what was started there, on a node also what has gone into the background."""
    sleep = (sys.executable, "-c", "import time; time.sleep(600)", tmp_path)
    nodes.start_on(HEAD, *sleep, cwd=tmp_path)
    nodes.start_on("node1", "setsid", "--fork", *sleep, cwd=tmp_path)
    wait_until(lambda: len(running(tmp_path)) == 2)
    nodes.clear()
    wait_until(lambda: not running(tmp_path))


def test_a_node_crashes(testbed: type[Testbed], mpi: Mpi, waiting: Path) -> None:
    """The launcher learns it from the closed connections, and ends the job."""
    with testbed(2) as nodes:
        process = nodes.start(mpi, [1, 1], waiting, cwd=waiting.parent)
        wait_for_two_ranks(waiting)
        nodes.crash("node2")
        process.communicate(timeout=WAIT_S)
        wait_until(lambda: not running(waiting))


def test_a_node_falls_silent(testbed: type[Testbed], mpich: Mpi, waiting: Path) -> None:
    """Nobody hears of it: mpirun and the other rank wait on."""
    with testbed(2) as nodes:
        process = nodes.start(mpich, [1, 1], waiting, cwd=waiting.parent)
        wait_for_two_ranks(waiting)
        assert len(running(waiting)) == 3
        nodes.crash("node2", silent=True)
        wait_until(lambda: len(running(waiting)) == 2)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    wait_until(lambda: not running(waiting))


ABANDONED = """
import signal, sys, time
from pathlib import Path
from tests.mpi.launch import mpich
from tests.mpi.nodes import HEAD, Testbed
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
with Testbed(2) as nodes:
    for name in (HEAD, *nodes.names):
        print(nodes.start_on(name, "readlink", "/proc/self/ns/net", cwd=Path("/")).communicate()[0], end="", flush=True)
    nodes.start(mpich(), [1, 1], sys.argv[1], cwd=Path(sys.argv[1]).parent)
    time.sleep(600)
"""


def in_networks(networks: set[str]) -> list[str]:
    """Return the processes within these network namespaces."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "ns" / "net").readlink()) in networks:
                found.append(process.name)
        except OSError:  # it has just ended, or is a zombie
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_tests(testbed: type[Testbed], mpich: Mpi, waiting: Path, number: signal.Signals) -> None:
    folder = waiting.parent
    tests = mpich.start(0, "-c", ABANDONED, waiting, cwd=folder, environment={"TMPDIR": str(folder)})
    assert tests.stdout is not None
    networks = {tests.stdout.readline().strip() for _ in range(3)}
    assert len(networks) == 3
    wait_for_two_ranks(waiting)
    assert len(in_networks(networks)) > 6
    tests.send_signal(number)
    tests.communicate(timeout=WAIT_S)
    wait_until(lambda: not in_networks(networks))
