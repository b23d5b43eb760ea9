"""Checks of file systems: where runs are kept, and where Python is read from."""

from __future__ import annotations

from collections.abc import Iterator

from hpcnn.tools.doctor.evidence import Evidence, FileSystem
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning

_MB, _GB = 2**20, 2**30
_SPACE = {"little": 2 * _GB, "too little": 100 * _MB}
_FILES = 1000
_SLOW_FSYNC_S = 1.0
_SLOW_IMPORT_S = 10.0
_MANY_MODULES = 20


def check_run_folder(evidence: Evidence) -> Iterator[Finding]:
    """Runs can be kept, in a folder that all nodes have in common."""
    name = "run folder"
    for node in evidence.nodes:
        folder = node.run_folder
        if folder.trouble and node.container is not None and folder.mount == "/":
            return  # it is not bound: `checks.container` says how that is done
        if folder.trouble:
            what = f"{folder.folder} can't be written to from {node.host}: {folder.trouble}"
            yield problem(name, what, "hpcnn doctor --out FOLDER   # one that can; then train with --out FOLDER/NAME")
            return
        if node.host in evidence.probe.unshared:
            yield problem(
                name,
                f"{folder.folder} on {node.host} is another folder than on {evidence.nodes[0].host}: a file that was "
                "written there is not here",
                "hpcnn doctor --out FOLDER   # one on a file system that all nodes share",
            )
            return
    for node in evidence.nodes[:1]:
        nodes = " from all nodes" if len(evidence.nodes) > 1 else ""
        yield ok(name, f"{node.run_folder.folder} ({node.run_folder.kind}) can be written to{nodes}")


def check_space(evidence: Evidence) -> Iterator[Finding]:
    """There is space for checkpoints."""
    for folder in _run_folders(evidence):
        what = f"{folder.free / _GB:,.1f} GB are free in {folder.folder}"
        fix = f"df -h {folder.folder}   # make room, or choose another folder: --out"
        if folder.free_files is not None and folder.free_files < _FILES:
            yield problem("space", f"{what}, but only {folder.free_files} more files can be made", fix)
        elif folder.free < _SPACE["too little"]:
            yield problem("space", what, fix)
        elif folder.free < _SPACE["little"]:
            yield warning("space", what, fix)
        else:
            yield ok("space", what)


def check_safety(evidence: Evidence) -> Iterator[Finding]:
    """Files get there whole, soon, and locked where that is asked for."""
    name = "safe files"
    for folder in _run_folders(evidence):
        if not folder.renames:
            yield problem(
                name,
                f"{folder.folder} ({folder.kind}) can't replace a file in one step: a crash may cost a checkpoint",
                "hpcnn doctor --out FOLDER   # one on another file system",
            )
        elif folder.fsync_s > _SLOW_FSYNC_S:
            yield warning(
                name,
                f"{folder.folder} ({folder.kind}) takes {folder.fsync_s:.1f} s until a small file is safe: each "
                "checkpoint takes that long at least",
                "hpcnn train --set run.checkpoint_every_epochs=10 ...   # or another folder: --out",
            )
        elif not folder.locks:
            yield warning(
                name,
                f"{folder.folder} ({folder.kind}) has no locks, so that HDF5 files there can't be opened",
                "export HDF5_USE_FILE_LOCKING=FALSE",
            )
        else:
            yield ok(name, f"renamed in one step, locked, and safe after {folder.fsync_s * 1e3:.1f} ms")


def check_imports(evidence: Evidence) -> Iterator[Finding]:
    """The ranks start soon."""
    slowest = max(evidence.ranks, key=lambda rank: rank.import_s)
    kind = evidence.nodes[0].python_folder.kind if evidence.nodes else "unknown"
    what = f"importing NumPy and hpcnn takes {slowest.import_s:.2g} s, from {kind}"
    if slowest.import_s > _SLOW_IMPORT_S:
        yield warning(
            "start",
            f"{what}, on rank {slowest.rank} on {slowest.host}: all ranks read the same files at once",
            'cp -r "$VIRTUAL_ENV" "$TMPDIR/env" && export PATH="$TMPDIR/env/bin:$PATH"   # on each node, before mpirun',
        )
    else:
        yield ok("start", what)


def check_bytecode(evidence: Evidence) -> Iterator[Finding]:
    """What Python has compiled is there when the next rank starts."""
    name, most = "bytecode", max(evidence.ranks, key=lambda rank: rank.recompiled)
    what = f"each start compiles {most.recompiled} modules again on rank {most.rank} on {most.host}"
    if most.recompiled < _MANY_MODULES:
        yield ok(name, "what Python has compiled is kept")
    elif not most.may_keep:
        yield warning(name, f"{what}, since PYTHONDONTWRITEBYTECODE is set", "unset PYTHONDONTWRITEBYTECODE")
    else:
        why = "since what was compiled can't be written beside them"
        yield warning(name, f"{what}, {why}", 'export PYTHONPYCACHEPREFIX="$HOME/.cache/pycache"')


def _run_folders(evidence: Evidence) -> list[FileSystem]:
    """Return the run folder as rank 0 sees it, if it can be looked at."""
    return [node.run_folder for node in evidence.nodes[:1] if not node.run_folder.trouble]
