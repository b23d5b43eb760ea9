"""Connects the ranks, in a process of its own, and reports each step: ``python -m hpcnn.tools.doctor.probe_program``.

Each step is a line of JSON on standard output, so that the process that started it knows how far it came if MPI crashes
or hangs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hpcnn.errors import EXIT_DONE, EXIT_FAILURE, CommunicatorError, HpcnnError
from hpcnn.system.blas import use_one_thread
from hpcnn.system.control_groups import read_text
from hpcnn.tools.doctor.container import loaded_library
from hpcnn.tools.doctor.evidence import Local
from hpcnn.tools.doctor.file_systems import mount_of, unshared
from hpcnn.tools.doctor.shared_memory import shortage

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before

MARK = "hpcnn-doctor "
"""What each line begins with: MPI libraries print, too."""
LOADING, STARTING, GATHERING = "loading the MPI library", "starting MPI", "gathering what the ranks know"
LOOKING = "looking for the files of other nodes"
SHARING, PINGING, SUMMING = "sharing memory", "sending messages", "adding vectors"
ENDING = "ending MPI"
MEASURE, TOLD = "measure", "told"
"""Arguments: also measure how fast the ranks are; a line on standard input tells what this rank knows."""
_SHARED_BYTES = 2**20
_LOOK_S = 10.0


def say(**evidence: Any) -> None:
    """Print one line, in one piece."""
    sys.stdout.write(f"{MARK}{json.dumps(evidence)}\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    """Join the others, and tell what came of it."""
    use_one_thread()
    local = sys.stdin.readline() if TOLD in argv else ""
    from hpcnn.comm.mpi_info import describe_library

    say(stage=LOADING)
    library, standard = describe_library()
    file = loaded_library(read_text(Path("/proc/self/maps")))
    mount = mount_of(Path(file), read_text(Path("/proc/self/mountinfo")))[0] if file else ""
    say(stage=STARTING, library=library, standard=standard, library_file=file, library_mount=mount)
    try:
        if trouble := shortage(library, os.environ):
            raise CommunicatorError(trouble)  # in MPI_Init the launcher would kill whoever could still tell
        from hpcnn.comm.connect import connect

        _explore(connect(), local, measure=MEASURE in argv)
    except HpcnnError as error:
        say(error=str(error))
        return EXIT_FAILURE
    return EXIT_DONE


def _explore(comm: Communicator, local: str, *, measure: bool) -> None:
    first = comm.rank == 0
    tell: Callable[..., None] = say if first else lambda **_: None
    say(stage=GATHERING, size=comm.size)
    everyone = comm.allgather((comm.host, local))
    tell(hosts=[host for host, _ in everyone], locals=[text for _, text in everyone])
    if first and local:
        say(stage=LOOKING)
        say(unshared=_unshared([read_local(text) for _, text in everyone]))
    say(stage=SHARING)
    comm.host_array(_SHARED_BYTES, "uint8", shared=True)
    tell(
        no_recovery=" ".join(comm.fault_tolerance.recovery_obstacle.replace("Version:", "").split()),
        no_sharing="; ".join(comm.notes),
    )
    if comm.size > 1:
        from hpcnn.comm.mpi_info import thread_level

        tell(threads=thread_level())
        if measure:
            _measure(comm, tell)
    comm.barrier()
    say(stage=ENDING)


def _measure(comm: Communicator, tell: Callable[..., None]) -> None:
    from hpcnn.tools.doctor.measure import measure_pings, measure_sums

    say(stage=PINGING)
    tell(pings=[asdict(one) for one in measure_pings(comm)])
    say(stage=SUMMING)
    tell(sums=[asdict(one) for one in measure_sums(comm)])


def _unshared(everyone: Sequence[Local]) -> list[str]:
    """Return the hosts whose run folder is another one than this rank's."""
    own, *others = [local.node for local in everyone if local.node is not None]
    markers = {node.host: node.run_folder.marker for node in others if node.run_folder.marker}
    return unshared(own.run_folder.folder, markers, _LOOK_S) if markers else []


def read_local(text: str) -> Local:
    """Return what a rank wrote of itself."""
    return msgspec.json.decode(text, type=Local)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    if code:
        os._exit(code)  # MPI was not started, or others are lost: nothing is left to end in good order
