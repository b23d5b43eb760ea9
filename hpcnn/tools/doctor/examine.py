"""Gathers the evidence: first all that needs no MPI, then MPI, in processes of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from hpcnn.comm.launcher import detect_launch
from hpcnn.tools.doctor.evidence import NO_LAUNCHER, Evidence
from hpcnn.tools.doctor.file_systems import remove_marker
from hpcnn.tools.doctor.installation import find_launchers, find_packages, find_slurm
from hpcnn.tools.doctor.local import gather_local
from hpcnn.tools.doctor.probe import probe_alone, probe_launched

_QUESTION_S = 10.0
"""How long a question to a program or a file system may take."""
_TRIED_RANKS = "2"


def examine(
    folder: Path, environment: Mapping[str, str], limit_s: float, job: Path | None = None, *, measure: bool
) -> Evidence:
    """Return what can be known here; on a rank other than the first, only of itself and of what it saw of MPI.

    Args:
        folder: where runs are to be kept.
        environment: variables for ranks that are started to try MPI out.
        limit_s: how long each step of MPI may take.
        job: job file whose data are looked for.
        measure: whether to measure how fast messages are.

    Raises:
        JobError: there is no such job, or it is invalid.
    """
    launch = detect_launch()
    started = launch.launcher != NO_LAUNCHER
    question_s = min(_QUESTION_S, limit_s)
    marker = f".hpcnn-doctor-{os.urandom(8).hex()}" if launch.size > 1 else ""
    asked = dict(os.environ)  # before NumPy is imported, with one thread
    own = gather_local(launch.rank, folder, marker, question_s, job)
    launchers = find_launchers(_search_path(asked), question_s) if launch.rank == 0 else ()
    everyone = [own]
    try:
        if started:
            probe, everyone = probe_launched(own, limit_s, measure=measure)
        else:
            command = [launchers[0].path, "-n", _TRIED_RANKS] if launchers else []
            probe = probe_alone(command, environment, limit_s, measure=measure)
    finally:
        if own.node is not None:
            remove_marker(own.node.run_folder, question_s)
    if launch.rank:
        return Evidence(launch, (own.rank,), (), probe)
    ranks = tuple(local.rank for local in everyone)
    # Each node once: some launchers do not say which rank is the first of its node.
    nodes = {local.node.host: local.node for local in reversed(everyone) if local.node is not None}
    packages, slurm = find_packages(question_s), find_slurm(asked, question_s)
    name = str(job) if job else ""
    return Evidence(launch, ranks, tuple(reversed(nodes.values())), probe, launchers, packages, slurm, name)


def _search_path(environ: Mapping[str, str]) -> str:
    """Return where programs are looked for: as a shell does, and at last beside this Python."""
    return os.pathsep.join([environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
