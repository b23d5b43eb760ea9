"""What the benchmarks write: the environment of the measurement, warnings, raw figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcnn import __version__
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import HpcnnError
from hpcnn.system.blas import fingerprint
from hpcnn.system.cores import oversubscription
from hpcnn.tools.outputs import write_whole
from hpcnn.tools.pictures import new_figure
from hpcnn.training.tuning import cores_of_ranks


def check_outputs(json_path: Path | None, plot_path: Path | None) -> None:
    """Check the output paths before anything is measured."""
    for option, path in (("--json", json_path), ("--plot", plot_path)):
        if path is None:
            continue
        if path.is_dir():
            raise HpcnnError(f"{option} {str(path)!r} is a folder. Name a file in it.")
        if not path.parent.is_dir():
            raise HpcnnError(f"{option}: there is no folder {str(path.parent)!r} to write {path.name!r} to")
    if plot_path is not None:
        if plot_path.suffix not in (".png", ".svg"):
            raise HpcnnError(f"--plot {str(plot_path)!r} must be a .png or a .svg file")
        new_figure(1, 1)


def measured_on(comm: Communicator, *, with_hosts: bool) -> dict[str, Any]:
    """Return the environment of the measurement, with host names only on request. Collective."""
    hosts = comm.allgather(comm.host)
    environment: dict[str, Any] = {"hpcnn": __version__, "machine": fingerprint(), "ranks": comm.size}
    environment["ranks_by_node"] = [hosts.count(host) for host in dict.fromkeys(hosts)]
    if comm.size > 1:
        from hpcnn.comm.mpi_info import library_line

        environment["mpi"] = library_line()
    return environment | ({"hosts": hosts} if with_hosts else {})


def warnings(comm: Communicator) -> list[str]:
    """Return warnings of what degrades the figures. Collective."""
    crowd = oversubscription(cores_of_ranks(comm))
    return [*comm.notes, *([crowd] if crowd else [])]


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write the figures."""
    write_whole(path, json.dumps(values, indent=1) + "\n", "Give another file by --json.")
