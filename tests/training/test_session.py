"""Parts of a session that need no whole run; the whole is tested under mpirun, in tests/mpi."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcnn.comm.collective import agree
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.errors import CheckpointError
from hpcnn.storage.checkpoint import Checkpoint, save_checkpoint
from hpcnn.training import session
from hpcnn.training.callbacks import Control, EpochReport
from hpcnn.training.run import MetricsLog
from hpcnn.training.run_folder import RunFolder

REPORT = EpochReport(epoch=3, step=30, learning_rate=0.1, values={"loss": 0.5}, seconds=1.0, samples_per_s=9.0)


def save(path: Path, value: float) -> Path:
    save_checkpoint(path, Checkpoint({"model/w": np.full(3, value)}, {"job": {}}))
    return path


def test_all_ranks_must_read_one_checkpoint_alike(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.safetensors", 1.0), save(tmp_path / "b.safetensors", 1.0)]

    def body(comm: ThreadCommunicator) -> Checkpoint | None:
        return agree(comm, lambda: session._same_everywhere(comm, paths[comm.rank]))

    first, second = run_threads(2, body)
    assert first is not None
    assert second is not None
    assert first.content_sha256 == second.content_sha256
    save(paths[1], 2.0)
    with pytest.raises(CheckpointError, match=r"rank 1 on \S+ reads another .* than rank 0 on"):
        run_threads(2, body)


def test_no_checkpoint_to_read() -> None:
    assert run_threads(2, lambda comm: session._same_everywhere(comm, None)) == [None, None]


def test_a_log_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MetricsLog(RunFolder(tmp_path / "gone"))
    log.begin(0, writes=True)
    log.on_epoch_end(REPORT, None, Control())  # type: ignore[arg-type]
    assert "warning: epoch 3 was not logged (" in capsys.readouterr().out
    (tmp_path / "gone").mkdir()
    log.on_epoch_end(REPORT, None, Control())  # type: ignore[arg-type]
    assert '"loss": 0.5' in RunFolder(tmp_path / "gone").metrics.read_text()
