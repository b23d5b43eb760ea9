"""Names of Horovod that hpcnn does not have, and what to use instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hpcnn.errors import HpcnnError, nearest

_INSTEAD = {
    "Adasum": "Use op=hvd.Average, with a learning rate that grows with the number of ranks.",
    "elastic": "Save checkpoints and start the job again; hpcnn's own jobs continue without lost ranks "
    "(run.on_rank_loss = 'continue').",
    "ray": "Start the script by mpirun or srun.",
    "run": "Start the script by mpirun or srun.",
    "runner": "Start the script by mpirun or srun, and ask hvd.rank() and hvd.size().",
    "spark": "Start the script by mpirun or srun.",
}
"""For every framework."""


class UnsupportedNameError(HpcnnError, AttributeError):
    """A name of Horovod that hpcnn does not have."""


def unsupported_name(
    package: str, name: str, known: Iterable[str], instead: Mapping[str, str] | None = None
) -> UnsupportedNameError:
    """Return the error for an unknown name.

    Args:
        package: that lacks it.
        name: of whatever was asked for.
        known: all names that there are.
        instead: what to use in place of names of one framework.
    """
    hints = _INSTEAD | dict(instead or {})
    hint = f" {hints[name]}" if name in hints else nearest(name, known)
    return UnsupportedNameError(f"{package} has no {name!r}.{hint}")
