"""A real Slurm on one machine: controller and nodes in namespaces, as the multi-node tests of MPI have them.

Nodes share a file system and a network, but no memory. The cluster has networks of its own, so several can be up at
once, and commands that talk to it have to be run by `Cluster.run`. All of it ends with this process. Needs root and
Debian's packages slurmctld, slurmd, slurm-client, munge and libpmix-dev.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.mpi import nodes
from tests.mpi.launch import Mpi, mpich
from tests.timing import WAIT_S, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")

_HERE = Path(__file__).parent
_GPUS = "Name=gpu File=/dev/tty[0-1]\n"  # made up: they are counted, and set CUDA_VISIBLE_DEVICES
_NO_CGROUPS = "CgroupPlugin=cgroup/v1\n"  # which does not look for any, unless it has something to do
# Nodes share /tmp, where Open MPI names files by process ids, which nodes have in common.
_TASK_PROLOG = """#!/bin/sh
mkdir -p {folder}/$SLURMD_NODENAME/tmp
echo export TMPDIR={folder}/$SLURMD_NODENAME/tmp
"""


def unavailable() -> str | None:
    """Return why there can be no cluster on this machine, or None if there can."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(lacking)} of Slurm and munge not installed" if lacking else nodes.unavailable()


class Cluster:
    """A Slurm with nodes ``node1``, ``node2`` ... of 4 CPUs and 2 made-up GPUs each; use it in a ``with`` statement.

    The partition ``batch``, or as it is to be named, is the default; jobs in ``urgent`` take its nodes away, after 20
    seconds of grace. A node that has been silent for `notices_s` seconds is down, for Slurm.
    """

    def __init__(self, size: int = 4, *, partition: str = "batch", notices_s: int = 10) -> None:
        self.names = [f"node{index}" for index in range(1, size + 1)]
        self._partition, self._notices_s = partition, notices_s
        self._testbed = nodes.Testbed(size)

    def __enter__(self) -> Self:
        self._testbed.__enter__()
        self._folder = nodes.folder_without_blanks("hpcnn-slurm-")
        try:
            self._configure()
            self._start_daemons()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._testbed.__exit__()
        shutil.rmtree(self._folder, ignore_errors=True)

    def env(self, mpi: Mpi | None = None, extra: dict[str, str] | None = None) -> dict[str, str]:
        """Return the environment for commands on the cluster: Slurm's, and that of an MPI, MPICH if none is given."""
        return (mpi or mpich()).environment({"SLURM_CONF": str(self._folder / "slurm.conf")} | (extra or {}))

    def start(
        self, command: Sequence[str | Path], *, cwd: Path, env: dict[str, str] | None = None, node: str = nodes.HEAD
    ) -> subprocess.Popen[str]:
        """Start a command on the head, from where the cluster can be reached, or on a node."""
        environment = self.env() if env is None else env
        unset = [part for name in os.environ.keys() - environment.keys() for part in ("-u", name)]
        settings = [f"{name}={value}" for name, value in (environment | {"PWD": str(cwd)}).items()]
        return self._testbed.start_on(node, "env", *unset, *settings, *command, cwd=cwd)

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path = Path("/"),
        env: dict[str, str] | None = None,
        timeout_s: float = WAIT_S,
        check: bool = False,
        node: str = nodes.HEAD,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `check`, an exit code other than 0 raises RuntimeError with all that was said."""
        process = self.start(command, cwd=cwd, env=env, node=node)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise TimeoutError(f"{command} took longer than {timeout_s} s\n{out}\n{err}") from None
        if check and process.returncode:
            raise RuntimeError(f"{command} ended with exit code {process.returncode}\n{out}\n{err}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def sbatch(self, *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> int:
        """Submit and return the job's number."""
        return int(self.run(["sbatch", "--parsable", *arguments], cwd=cwd, env=env, check=True).stdout)

    def state(self, job: int | str) -> str:
        """Return the state of a job, as ``RUNNING``; of an array, those of all its elements, separated by spaces."""
        done = self.run(["squeue", "--noheader", "--states=all", f"--jobs={job}", "--array", "--format=%T"], check=True)
        return " ".join(done.stdout.split())

    def wait(self, job: int | str) -> str:
        """Wait until a job, or every element of an array, has ended, and return its state."""
        self.wait_until(lambda: set(self.state(job).split()) <= {*ENDED}, f"job {job} to end")
        return self.state(job)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds; AssertionError, with the queue and the nodes, if it never does."""
        wait_until(condition, lambda: f"{what}\n{self.run(['squeue']).stdout}\n{self.run(['sinfo']).stdout}")

    def nodes_of(self, job: int) -> list[str]:
        """Return the nodes on which a job runs, the one of its script first."""
        names = self.run(["squeue", "--noheader", f"--jobs={job}", "--format=%N"], check=True).stdout.strip()
        return self.run(["scontrol", "show", "hostnames", names], check=True).stdout.split()

    def crash(self, name: str, *, silent: bool = True) -> None:
        """End all that runs on a node.

        `silent`, nobody hears of it, as when its power fails; else its connections are closed, as after a reboot.
        """
        if silent:
            self._link(name, "down")
        self.run(["sh", "-c", "kill -KILL -1"], node=name)

    def restore(self, name: str) -> None:
        """Bring a node that crashed back, and return when jobs can use it."""
        self._link(name, "up")
        self._start_node(name)
        self._wait_for_nodes()

    def _configure(self) -> None:
        (self._folder / "state").mkdir()
        (self._folder / "munge.key").write_bytes(os.urandom(128))
        (self._folder / "munge.key").chmod(0o600)
        self._folder.chmod(0o755)
        facts = {"nodes": len(self.names), "partition": self._partition, "notices_s": self._notices_s}
        text = (_HERE / "slurm.conf").read_text().format(folder=self._folder, **facts)
        (self._folder / "slurm.conf").write_text(text)
        (self._folder / "gres.conf").write_text(_GPUS)
        (self._folder / "cgroup.conf").write_text(_NO_CGROUPS)
        (self._folder / "task-prolog").write_text(_TASK_PROLOG.format(folder=self._folder))
        (self._folder / "task-prolog").chmod(0o755)

    def _start_daemons(self) -> None:
        folder = self._folder
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        self._daemon(nodes.HEAD, "munged", "--foreground", *options)
        self.wait_until((folder / "munge.socket").exists, "munged")
        self._daemon(nodes.HEAD, "slurmctld", "-D")
        for name in self.names:
            self._start_node(name)
        self._wait_for_nodes()

    def _start_node(self, name: str) -> None:
        (self._folder / name).mkdir(exist_ok=True)
        self._daemon(name, "slurmd", "-D", "-N", name)

    def _daemon(self, node: str, program: str, *options: str) -> None:
        """Start a daemon that ends with this process, its messages in a file."""
        log = f'exec setpriv --pdeathsig KILL "$@" >>{self._folder}/{program}.{node}.log 2>&1'
        self.start(["sh", "-c", log, "sh", program, *options], cwd=self._folder, node=node)

    def _wait_for_nodes(self) -> None:
        def up() -> bool:
            command = ["sinfo", "--noheader", "--Node", f"--partition={self._partition}", "--format=%t"]
            states = self.run(command).stdout.split()
            return len(states) == len(self.names) and set(states) <= {"idle", "mix", "alloc"}

        self.wait_until(up, f"the nodes; see {self._folder}")

    def _link(self, name: str, state: str) -> None:
        self.run(["ip", "link", "set", f"to-{name}", state], check=True)
