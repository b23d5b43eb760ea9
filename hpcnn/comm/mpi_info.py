"""What the MPI library says of itself."""

from __future__ import annotations

from contextlib import suppress


def describe_library() -> tuple[str, tuple[int, int]]:
    """Return name and version of the MPI that mpi4py uses, and the version of the standard; does not start it.

    Both are empty if there is none: connecting will say why.
    """
    with suppress(ImportError, RuntimeError):
        import mpi4py

        mpi4py.rc.initialize = False  # some libraries abort within MPI_Init under a foreign launcher
        mpi4py.rc.finalize = False
        from mpi4py import MPI

        text = MPI.Get_library_version().splitlines()[0].split(",")[0].rstrip("\x00")
        return " ".join(text.replace("Version:", "").split()), MPI.Get_version()
    return "", (0, 0)


def thread_level() -> str:
    """Return how many threads may call the MPI that was started, in the words of the standard."""
    from mpi4py import MPI

    names = {
        MPI.THREAD_SINGLE: "single",
        MPI.THREAD_FUNNELED: "funneled",
        MPI.THREAD_SERIALIZED: "serialized",
        MPI.THREAD_MULTIPLE: "multiple",
    }
    return names[MPI.Query_thread()]
