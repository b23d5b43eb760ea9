"""Name, version and thread level of the MPI library."""

from __future__ import annotations

from contextlib import suppress


def library_text() -> str:
    """Return the MPI library's own description, without the zero byte at the end of some."""
    from mpi4py import MPI

    return MPI.Get_library_version().rstrip("\x00")


def library_line() -> str:
    """Return the first line of the description: name, version, and perhaps how it was built."""
    return library_text().splitlines()[0].strip()


def library_name() -> str:
    """Return name and version of the MPI library."""
    return library_line().partition(",")[0].strip()


def describe_library() -> tuple[str, tuple[int, int]]:
    """Return name and version of the MPI that mpi4py uses, and the version of the standard; does not start it.

    Both are empty if there is none: connecting will say why.
    """
    with suppress(ImportError, RuntimeError):
        import mpi4py

        mpi4py.rc.initialize = False  # some libraries abort within MPI_Init under a foreign launcher
        mpi4py.rc.finalize = False
        from mpi4py import MPI

        return " ".join(library_name().replace("Version:", "").split()), MPI.Get_version()
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
