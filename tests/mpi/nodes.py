"""Several "nodes" on one machine: as far as MPI can tell, hosts that share a file system and a network but no memory.

Each node has its own network, host name, processes, System V memory and /dev/shm (Linux namespaces). A ``head``, where
mpirun runs, holds the bridge that joins them, or the relay where the network is to have latency. All of it hangs on
processes whose standard input comes from here: when this process ends, in whatever way, the kernel takes everything
down. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.timing import WAIT_S

if TYPE_CHECKING:
    from tests.mpi.launch import Mpi

HEAD = "head"
_ADDRESS = "10.77.0.{}"  # within networks of their own, so that nothing outside can have the same
_HEAD_INDEX = 254

# Few large packets leave the cores to the ranks. No packet may exceed the burst: the kernel would cut it up first.
MTU_BYTES = 9000
_LINK = f"mtu {MTU_BYTES} gso_max_size 18000"
_BURST_BYTES, _BURST_S = 48_000, 0.4e-3  # less, and a late timer costs throughput; more, and 1 MB goes too fast
_QUEUE_BYTES = 4_000_000  # deep, so that many senders to one node lose no packets
_RELAYED_MTU_BYTES = 65_000  # about as much as a network card takes from the kernel at once

_TUN = Path("/dev/net/tun")
_RELAY = Path(__file__).with_name("relay.c")

_PROBE = "ip link add probe type bridge && ip link add type veth && tc qdisc add dev veth0 root " + (
    f"tbf rate 1gbit burst {_BURST_BYTES} limit {_QUEUE_BYTES}"
)
_BEGIN_HEAD = 'mount --bind "$2" /etc/hosts'
_BEGIN_NODE = "mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t tmpfs -o mode=1777 tmpfs /dev/shm"
# bash and no plain sh, since it waits for the orphans of its node while it reads.
_BEGIN = "set -e; {}; echo $1 > /proc/sys/kernel/hostname; ip link set lo up; echo up; read"

# What MPI takes for ssh. Unlike ssh it also hands on the environment. Each node has a temporary folder of its own, as
# PRRTE names its files there by process ids, which the nodes have in common.
_AGENT = """#!/bin/sh
case $1 in
{cases}
*) echo "no such node: $1" >&2; exit 255 ;;
esac
export TMPDIR={folder}/$1
shift
exec {enter} sh -c "$*"
"""


def unavailable(*, latency: bool = False) -> str | None:
    """Return why there can be no testbed on this machine, or none with latency; None if there can."""
    if os.geteuid() != 0:
        return "nodes in namespaces need root"
    if latency and not (_TUN.exists() and shutil.which("cc")):
        return f"a network with latency needs {_TUN} and a C compiler"
    try:
        probe = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "sh", "-c", _PROBE]
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unshare (util-linux) is not installed"
    return f"nodes in namespaces can't be made: {done.stderr.strip()}" if done.returncode else None


def placement(ranks_per_node: Sequence[int], *, cyclic: bool = False) -> list[int]:
    """Return the node of each rank: node by node, or in turn as long as a node has ranks left.

    >>> placement([3, 0, 1])
    [0, 0, 0, 2]
    >>> placement([3, 2, 1], cyclic=True)
    [0, 1, 2, 0, 1, 0]
    """
    placed = [(turn, node) for node, ranks in enumerate(ranks_per_node) for turn in range(ranks)]
    return [node for _, node in (sorted(placed) if cyclic else placed)]


def folder_without_blanks(prefix: str) -> Path:
    """Make a temporary folder whose path launchers and Slurm do not take to end within, wherever TMPDIR is."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp" if " " in tempfile.gettempdir() else None))


class Testbed:
    """Nodes ``node1``, ``node2`` ... joined by a switch; use it in a ``with`` statement."""

    __test__ = False  # for pytest, which takes this class for tests by its name

    def __init__(self, nodes: int, rate_mbit: float | None = None, *, latency_us: float | None = None) -> None:
        """Describe nodes, the Mbit/s of each link in each direction, and what is added to a packet's latency.

        Without them, links are as fast as the machine.
        """
        self.names = [f"node{index}" for index in range(1, nodes + 1)]
        self._rate_mbit, self._latency_us = rate_mbit, latency_us
        self._hosts: dict[str, subprocess.Popen[str]] = {}
        self._jobs: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self._folder = folder_without_blanks("hpcnn-nodes-")
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill_jobs()
        for host in reversed(self._hosts.values()):  # the head last: it holds the switch
            _kill(host)
        for process in self._jobs:
            process.communicate()
        shutil.rmtree(self._folder)

    def start(
        self,
        mpi: Mpi,
        ranks_per_node: Sequence[int],
        *arguments: str | Path,
        cwd: Path,
        cyclic: bool = False,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start ``python ARGUMENTS`` with so many ranks on each node, numbered node by node or in turn.

        What it returns is mpirun itself: signals to it arrive.
        """
        assert len(ranks_per_node) <= len(self.names)
        nodes = placement(ranks_per_node, cyclic=cyclic)
        launcher = self._mpich(nodes) if mpi.name == "mpich" else self._open_mpi(nodes)
        command = [mpi.mpirun, *mpi.options, *launcher, "-n", str(len(nodes)), mpi.python, *map(str, arguments)]
        files = {"TMPDIR": str(self._folder)}  # a killed prterun leaves its files behind
        return self._popen(HEAD, command, cwd, mpi.environment(files | (environment or {})))

    def run(
        self,
        mpi: Mpi,
        ranks_per_node: Sequence[int],
        *arguments: str | Path,
        cwd: Path,
        cyclic: bool = False,
        timeout_s: float = WAIT_S,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; after `timeout_s` end all that runs on the nodes and raise TimeoutError."""
        process = self.start(mpi, ranks_per_node, *arguments, cwd=cwd, cyclic=cyclic, environment=environment)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.clear()
            out, err = process.communicate()
            raise TimeoutError(f"{process.args} took longer than {timeout_s} s\n{out}\n{err}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start_on(self, name: str, *command: str | Path, cwd: Path) -> subprocess.Popen[str]:
        """Start a command on one node, without MPI."""
        return self._popen(name, [*map(str, command)], cwd, dict(os.environ))

    def sent_bytes(self, name: str) -> int:
        """Return how many bytes the node has sent over its link so far, headers and all."""
        table = Path(f"/proc/{self._hosts[name].pid}/net/dev").read_text().splitlines()
        return next(int(line.split()[9]) for line in table if line.split()[0] == "eth0:")

    def sent_again(self, name: str) -> int:
        """Return how many TCP segments the node has sent once more so far, as no answer came in time."""
        table = Path(f"/proc/{self._hosts[name].pid}/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in table if line.startswith("Tcp:"))
        return int(values[names.index("RetransSegs")])

    def crash(self, name: str, *, silent: bool = False) -> None:
        """End all that runs on a node, which does not come back.

        The kernel closes its connections, as after a kill or a reboot; `silent`, the others hear nothing, as when its
        power is cut.
        """
        if silent:
            self._ip(name, ["link set eth0 down"])
        _kill(self._hosts.pop(name))

    def clear(self) -> None:
        """End all that was started here and all that runs on the nodes; the nodes stay up."""
        self._kill_jobs()
        for name in self._hosts.keys() & set(self.names):  # "kill" fails where there is nothing to kill
            subprocess.run([*self._enter(name), "sh", "-c", "kill -KILL -1"], capture_output=True, check=False)

    def _kill_jobs(self) -> None:
        for process in self._jobs:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def _build(self) -> None:
        addresses = {name: _ADDRESS.format(index) for index, name in enumerate(self.names, 1)}
        addresses[HEAD] = _ADDRESS.format(_HEAD_INDEX)
        hosts = self._folder / "hosts"
        hosts.write_text("".join(f"{ip} {name}\n" for name, ip in [("localhost", "127.0.0.1"), *addresses.items()]))
        own = ["unshare", "--net", "--mount", "--uts"]
        self._boot(HEAD, [*own, "bash", "-c", _BEGIN.format(_BEGIN_HEAD), "bash", HEAD, str(hosts)])
        own += ["--ipc", "--pid", "--fork", "--kill-child"]
        for name in self.names:
            (self._folder / name).mkdir()
            self._boot(name, [*self._enter(HEAD), *own, "bash", "-c", _BEGIN.format(_BEGIN_NODE), "bash", name])
        if self._latency_us is not None:
            self._relay(addresses, self._latency_us)
        else:
            self._connect(addresses)
            if self._rate_mbit is not None:
                self._limit(self._rate_mbit)
        self._agent = self._folder / "agent"
        self._agent.write_text(self._agent_script())
        self._agent.chmod(0o755)

    def _boot(self, name: str, command: list[str]) -> None:
        # A session of its own: an interrupt from the terminal is for the tests alone.
        pipe = subprocess.PIPE
        host = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        self._hosts[name] = host
        assert host.stdout is not None
        if host.stdout.readline() != "up\n":
            raise RuntimeError(f"{name} did not start: {command}")

    def _connect(self, addresses: dict[str, str]) -> None:
        switch = ["link add switch type bridge", f"addr add {addresses[HEAD]}/24 dev switch", "link set switch up"]
        self._ip(HEAD, switch)
        for name in self.names:
            port = _port(name)
            pair = f"link add {port} type veth peer name eth0 netns {self._hosts[name].pid}"
            self._ip(HEAD, [pair, f"link set {port} master switch {_LINK} up"])
            self._ip(name, [f"addr add {addresses[name]}/24 dev eth0", f"link set eth0 {_LINK} up"])

    def _relay(self, addresses: dict[str, str], latency_us: float) -> None:
        """Connect the nodes and the head by one process that delays what they send."""
        relay = str(self._folder / "relay")
        subprocess.run(["cc", "-O2", "-o", relay, _RELAY], check=True)
        limits = [str(latency_us), str(self._rate_mbit or 0)]
        self._boot("relay", [*self._enter(HEAD), relay, *limits, *map(_port, addresses)])
        for name, address in addresses.items():
            self._ip(HEAD, [f"link set {_port(name)} netns {self._hosts[name].pid} name eth0"])
            self._ip(name, [f"addr add {address}/24 dev eth0", f"link set eth0 mtu {_RELAYED_MTU_BYTES} up"])

    def _limit(self, rate_mbit: float) -> None:
        burst = max(_BURST_BYTES, int(rate_mbit * 1e6 / 8 * _BURST_S))
        limit = f"root tbf rate {rate_mbit}mbit burst {burst} limit {_QUEUE_BYTES}"
        for name in self.names:
            self._ip(HEAD, [f"qdisc add dev {_port(name)} {limit}"], program="tc")
            self._ip(name, [f"qdisc add dev eth0 {limit}"], program="tc")

    def _ip(self, name: str, lines: list[str], program: str = "ip") -> None:
        command = ["nsenter", f"--target={self._hosts[name].pid}", "--net", program, "-batch", "-"]
        subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)

    def _agent_script(self) -> str:
        cases = "\n".join(f"{name}) pid={self._hosts[name].pid} ;;" for name in self.names)
        return _AGENT.format(cases=cases, folder=self._folder, enter=" ".join(_enter_node("$pid")))

    def _enter(self, name: str) -> list[str]:
        pid = str(self._hosts[name].pid)
        return ["nsenter", f"--target={pid}", "--net", "--mount", "--uts"] if name == HEAD else _enter_node(pid)

    def _popen(self, name: str, command: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self._enter(name), "env", f"--chdir={cwd}", *command],  # entering forgets the folder
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._jobs.append(process)
        return process

    def _mpich(self, nodes: list[int]) -> list[str]:
        agent = ["-launcher", "rsh", "-launcher-exec", str(self._agent)]
        return [*agent, "-hosts", ",".join(self.names), "-rankmap", ",".join(map(str, nodes))]

    def _open_mpi(self, nodes: list[int]) -> list[str]:
        agent = ["--prtemca", "plm_ssh_agent", str(self._agent)]
        return [*agent, "--host", ",".join(self.names[node] for node in nodes), "--map-by", "seq"]


def _port(name: str) -> str:
    return f"to-{name}"


def _enter_node(pid: str) -> list[str]:
    # The process named is the parent of the node's first one, which alone is within the node's own process ids.
    pids = f"--pid=/proc/{pid}/ns/pid_for_children"
    return ["nsenter", f"--target={pid}", "--net", "--mount", "--uts", "--ipc", pids]


def _kill(host: subprocess.Popen[str]) -> None:
    host.kill()
    host.communicate()
