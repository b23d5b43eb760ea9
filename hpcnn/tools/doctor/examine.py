"""Gathers the evidence: first all that needs no MPI, then MPI, in processes of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcnn.comm.launcher import detect_launch
from hpcnn.tools.doctor.evidence import NO_LAUNCHER, Evidence, Local, Node, Probe, Program
from hpcnn.tools.doctor.file_systems import remove_marker
from hpcnn.tools.doctor.installation import find_launchers, find_packages, find_slurm
from hpcnn.tools.doctor.local import gather_local
from hpcnn.tools.doctor.probe import probe_alone, probe_launched

_QUESTION_S = 10.0
"""How long a question to a program or a file system may take."""
_TRIED_RANKS = "2"


@dataclass(frozen=True)
class Options:
    """What the user may ask of an examination."""

    folder: Path
    """Where runs are to be kept."""
    limit_s: float
    """How long each step of MPI may take."""
    measure: bool
    """Whether to measure how fast messages are."""


def examine(options: Options, environment: Mapping[str, str]) -> Evidence:
    """Return what can be known here; on a rank other than the first, only of itself and of what it saw of MPI.

    Args:
        options: what the user asks for.
        environment: variables for ranks that are started to try MPI out.
    """
    launch = detect_launch()
    started = launch.launcher != NO_LAUNCHER
    question_s = min(_QUESTION_S, options.limit_s)
    marker = f".hpcnn-doctor-{os.urandom(8).hex()}" if launch.size > 1 else ""
    asked = dict(os.environ)  # before NumPy is imported, with one thread
    own = gather_local(launch.rank, options.folder, marker, question_s)
    launchers: tuple[Program, ...] = ()
    if launch.rank == 0:
        launchers = find_launchers(_search_path(asked), question_s)
    everyone = [own]
    try:
        if started:
            probe, everyone = probe_launched(own, options.limit_s, measure=options.measure)
        else:
            probe = _try_mpi(launchers, environment, options)
    finally:
        if own.node is not None:
            remove_marker(own.node.run_folder, question_s)
    if launch.rank:
        return Evidence(launch, (own.rank,), (), probe)
    return Evidence(
        launch,
        tuple(local.rank for local in everyone),
        _one_a_host(everyone),
        probe,
        launchers,
        find_packages(question_s),
        find_slurm(asked, question_s),
    )


def _try_mpi(launchers: tuple[Program, ...], environment: Mapping[str, str], options: Options) -> Probe:
    """Return what comes of two ranks, or of one where nothing starts two."""
    command = [launchers[0].path, "-n", _TRIED_RANKS] if launchers else []
    return probe_alone(command, environment, options.limit_s, measure=options.measure)


def _search_path(environ: Mapping[str, str]) -> str:
    """Return where programs are looked for: as a shell does, and at last beside this Python."""
    return os.pathsep.join([environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])


def _one_a_host(everyone: list[Local]) -> tuple[Node, ...]:
    """Return the nodes, each once: some launchers do not say which rank is the first of its node."""
    nodes = {local.node.host: local.node for local in reversed(everyone) if local.node is not None}
    return tuple(reversed(nodes.values()))
