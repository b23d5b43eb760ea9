"""What the doctor knows before it judges: plain values, which processes also send each other as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpcnn.comm.launcher import Launch, detect_launch
from hpcnn.system.blas import THREADS
from hpcnn.system.cores import Cores


@dataclass(frozen=True)
class Program:
    """A program on the search path."""

    path: str
    mpi: str
    """The MPI that it says it is of, as ``MPICH 4.2.0``; empty if it does not say."""


@dataclass(frozen=True)
class Interface:
    """A network interface."""

    name: str
    up: bool
    mbit: int
    """Its speed; 0 if it does not say."""
    kind: str = "ethernet"


@dataclass(frozen=True)
class FileSystem:
    """Where a folder is kept."""

    folder: str
    kind: str = "unknown"
    """As the system calls it: ext4, nfs4, lustre."""
    mount: str = ""
    """Where it is mounted."""
    free: int = 0
    """Bytes that may still be written."""
    free_files: int | None = None
    """How many files may still be made; None if there is no such limit."""
    trouble: str = ""
    """Why nothing can be written there; empty if it can."""
    renames: bool = True
    """Whether a file can take the place of another in one step."""
    locks: bool = True
    fsync_s: float = 0.0
    """How long a small file took until it was safe."""
    marker: str = ""
    """Name of a file that was left there, to see whether other nodes have the folder in common."""


@dataclass(frozen=True)
class Gpus:
    """The graphics processors of a node."""

    names: tuple[str, ...] = ()
    trouble: str = ""
    """What nvidia-smi says in place of naming them."""


@dataclass(frozen=True)
class Container:
    """The container that the ranks of a node run in."""

    engine: str
    """Apptainer, Docker, Podman, Kubernetes or containerd."""
    image: str = ""
    """Path of the image outside; empty if it is not known."""
    interfaces: tuple[str, ...] = ()
    """The process management interfaces that the launcher offers: PMI, PMIx."""
    unreachable: str = ""
    """The variable by which the launcher names what is not in the container; empty if nothing is missing."""


@dataclass(frozen=True)
class Rank:
    """What one rank knows of itself."""

    rank: int
    host: str
    python: str
    executable: str
    numpy: str
    hpcnn: str
    cores: Cores
    threads: dict[str, str] = field(default_factory=dict)
    """The environment variables that say on how many threads to compute, as they were set."""
    blas: str = ""
    kernel: str = ""
    """The part of the BLAS library that was chosen for this processor."""
    processor: str = ""
    free_memory: int | None = None
    open_files: int = 1 << 20
    cuda_visible: str | None = None
    import_s: float = 0.0
    """Importing NumPy and hpcnn."""
    recompiled: int = 0
    """How many of the modules that it needs Python compiles at each start, as it has not kept what it compiled."""
    may_keep: bool = True
    """Whether Python is allowed to keep that: not if PYTHONDONTWRITEBYTECODE is set."""
    user_namespace: str = ""
    """As the system names it; ranks in different ones can't read each other's memory."""
    sleeps: bool = False
    """Whether it is to sleep while it waits, if the MPI is MPICH."""

    @property
    def asked_threads(self) -> tuple[str, int]:
        """The variable that says on how many threads to compute, and their number; empty and 0 without one."""
        order = sorted(self.threads, key=lambda name: name != THREADS)  # hpcnn's own comes first
        said = ((name, self.threads[name].partition(",")[0].strip()) for name in order)  # "4,2": inner ones have 2
        return next(((name, int(text)) for name, text in said if text.isdecimal() and int(text)), ("", 0))


@dataclass(frozen=True)
class Node:
    """What the first rank of a node knows of it."""

    host: str
    shm: FileSystem
    run_folder: FileSystem
    python_folder: FileSystem
    interfaces: tuple[Interface, ...] = ()
    gpus: Gpus = Gpus()
    flags: frozenset[str] = frozenset()
    """Abilities of the processor that matter here, by the names that Linux has for them."""
    container: Container | None = None
    missing_data: tuple[str, ...] = ()
    """What a job reads and is not there, each as `key = path`."""


@dataclass(frozen=True)
class Local:
    """What one process gathers without MPI."""

    rank: Rank
    node: Node | None = None
    """Left out by all ranks of a node but the first."""


@dataclass(frozen=True)
class Ping:
    """A message that goes from one rank to another and back."""

    size: int
    seconds: float
    """For one way, at best: so it is the connection's time, whatever else the machine has to do."""


@dataclass(frozen=True)
class Pings:
    """Such messages of several sizes between two ranks."""

    hosts: tuple[str, str]
    times: tuple[Ping, ...]


@dataclass(frozen=True)
class Sum:
    """The sum of a vector over all ranks."""

    size: int
    ours_s: float
    mpi_s: float
    bus_bytes_per_s: float
    """What a link of the ring that hpcnn does not use would have to carry: comparable for any number of ranks."""


@dataclass(frozen=True)
class Probe:
    """What came out when ranks connected, in processes of their own, as far as they came."""

    command: str = ""
    """What started them; empty if the launcher of the doctor itself did."""
    stage: str = ""
    """What they were doing last."""
    error: str = ""
    """What went wrong; empty if all went well."""
    library: str = ""
    """The MPI that mpi4py uses."""
    library_file: str = ""
    """Where it is; empty if it is not known."""
    library_mount: str = ""
    """Where the file system of that file is mounted."""
    standard: tuple[int, int] = (0, 0)
    """The version of MPI that it implements."""
    threads: str = ""
    """How many threads may call it at once: single, funneled, serialized or multiple."""
    size: int = 0
    """Ranks in the world; 0 if there never was one."""
    hosts: tuple[str, ...] = ()
    no_recovery: str = ""
    """Why ranks can't continue without one that died; empty if they can."""
    no_sharing: str = ""
    """Why the ranks of a node can't share memory; empty if they can."""
    unshared: tuple[str, ...] = ()
    """Hosts whose run folder is another one than rank 0's."""
    pings: tuple[Pings, ...] = ()
    sums: tuple[Sum, ...] = ()


@dataclass(frozen=True)
class Horovod:
    """An installed Horovod."""

    version: str
    tensorflow: str = ""
    """The version that it was built for."""
    mpi: str = ""
    """MPICH or Open MPI, from the library that it is linked with; empty for another, or none."""


@dataclass(frozen=True)
class Packages:
    """Optional packages by name, each with its version; from their records, without importing them."""

    versions: dict[str, str] = field(default_factory=dict)
    horovod: Horovod | None = None


@dataclass(frozen=True)
class Slurm:
    """The Slurm job that this is part of."""

    job_id: str
    tasks: int | None = None
    cpus_per_task: int | None = None
    time_limit: str = ""
    """As Slurm writes it; empty if it could not be asked."""
    signal: str | None = None
    """The option --signal of the batch script; empty without it, None if there is no script to look at."""
    mpi_kinds: tuple[str, ...] = ()
    """What ``srun --mpi`` may be."""


@dataclass(frozen=True)
class Evidence:
    """Everything that checks may look at."""

    launch: Launch
    ranks: tuple[Rank, ...]
    nodes: tuple[Node, ...]
    probe: Probe
    launchers: tuple[Program, ...] = ()
    """Each mpirun on the search path, the first one first."""
    packages: Packages = Packages()
    slurm: Slurm | None = None

    job: str = ""
    """The job file whose data were looked for; empty if none was given."""

    @property
    def container(self) -> Container | None:
        """The container of the first node's ranks; None if they are in none."""
        return next((node.container for node in self.nodes), None)

    @property
    def mpi(self) -> str:
        """MPICH or Open MPI, whichever mpi4py uses; empty for another, or none."""
        return family(self.probe.library)

    @property
    def connected(self) -> bool:
        """Whether the evidence is of all ranks."""
        return len(self.ranks) == self.launch.size

    @property
    def started(self) -> bool:
        """Whether a launcher started the doctor."""
        return self.launch.launcher != NO_LAUNCHER

    @property
    def foreign_launcher(self) -> str:
        """The launcher, if it is of another MPI than mpi4py's library; else empty."""
        if self.started:
            of_open_mpi = self.launch.of_open_mpi
            fits = of_open_mpi is None or not self.mpi or of_open_mpi == (self.mpi == "Open MPI")
            return "" if fits else self.launch.launcher
        first = self.launchers[0] if self.launchers else Program("", "")
        fits = family(first.mpi) in ("", self.mpi) or not self.mpi
        return "" if fits else f"{first.path} ({first.mpi})"


NO_LAUNCHER = detect_launch({}).launcher


def family(library: str) -> str:
    """Return which MPI a library or a launcher is of, as far as it matters: those derived from MPICH fit together.

    >>> family("Open MPI v5.0.11"), family("MPICH Version: 5.0.2"), family("Intel(R) MPI Library 2021.13")
    ('Open MPI', 'MPICH', 'MPICH')
    >>> family("MPI VERSION : CRAY MPICH version 8.1.28 (ANL base 3.4a2)"), family("another")
    ('MPICH', '')
    """
    if library.startswith("Open MPI"):
        return "Open MPI"
    derived = library.startswith(("MPICH", "Intel(R) MPI", "MVAPICH")) or "CRAY MPICH" in library
    return "MPICH" if derived else ""
