"""Parts of the preparation that need no whole run; the whole is tested under mpirun, in tests/mpi."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcnn.comm.collectives import agree
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.errors import CheckpointError
from hpcnn.runs import prepare
from hpcnn.storage.checkpoint import Checkpoint, save_checkpoint


def save(path: Path, value: float) -> Path:
    save_checkpoint(path, Checkpoint({"model/w": np.full(3, value)}, {"job": {}}))
    return path


def test_all_ranks_must_read_one_checkpoint_alike(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.safetensors", 1.0), save(tmp_path / "b.safetensors", 1.0)]

    def body(comm: ThreadCommunicator) -> Checkpoint | None:
        return agree(comm, lambda: prepare.read_on_all_ranks(comm, paths[comm.rank]))

    first, second = run_threads(2, body)
    assert first is not None
    assert second is not None
    assert first.content_sha256 == second.content_sha256
    save(paths[1], 2.0)
    with pytest.raises(CheckpointError, match=r"rank 1 on \S+ reads another .* than rank 0 on"):
        run_threads(2, body)


def test_no_checkpoint_to_read() -> None:
    assert run_threads(2, lambda comm: prepare.read_on_all_ranks(comm, None)) == [None, None]
