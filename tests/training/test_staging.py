"""Files of data are copied to a disk of each node, read there, and removed; what killed jobs left is removed, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.comm.collectives import agree
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.data.digests import digests
from hpcnn.data.readers import read_source
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from hpcnn.storage.checkpoint import load_checkpoint
from hpcnn.system.processes import Process
from hpcnn.training.staging import staged, unstage
from tests.small_jobs import make_job

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
TRAIN = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    yield folder
    unstage()


def sections(folder: Path, disk: Path) -> dict[str, schema.DataSection]:
    stage: dict[str, Any] = {"stage": str(disk)}
    np.savez(folder / "d.npz", x=X, y=Y)
    (folder / "more").mkdir()
    np.save(folder / "more/x.npy", X)
    np.save(folder / "y.npy", Y)
    for name in ("a", "b"):
        (folder / f"text-{name}").mkdir()
        (folder / f"text-{name}/{name}.txt").write_text(f"the text of {name} " * 9)
    (folder / "idx").mkdir()
    for name, array in zip(TRAIN, (np.ones((4, 2, 2), np.uint8), np.ones(4, np.uint8)), strict=True):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / "idx" / name).write_bytes(head + array.tobytes())
    return {
        "npz": schema.Npz(path="d.npz", validation_path="d.npz", **stage),
        "npy": schema.Npy(x_path="more/x.npy", y_path=str(folder / "y.npy"), **stage),
        "text": schema.TextFiles(path="text-*/**/*.txt", length=8, **stage),
        "idx": schema.Idx(folder="idx", validation_images="", validation_labels="", **stage),
    }


@pytest.mark.parametrize("kind", ["npz", "npy", "text", "idx"])
def test_copies_are_read_in_place_of_the_files(kind: str, tmp_path: Path, disk: Path) -> None:
    section = sections(tmp_path, disk)[kind]
    there = staged(section, tmp_path, SerialCommunicator())
    source, copied = read_source(section, tmp_path), read_source(there, tmp_path)
    assert digests(copied.arrays) == digests(source.arrays)
    changed = [name for name in schema.LOCATIONS if getattr(there, name, "") != getattr(section, name, "")]
    assert changed
    assert all(getattr(there, name).startswith(f"{disk}/hpcnn-stage-") for name in changed)
    unstage()
    assert list(disk.iterdir()) == []


def test_one_rank_of_each_node_copies(tmp_path: Path, disk: Path) -> None:
    section = sections(tmp_path, disk)["npz"]

    def body(comm: ThreadCommunicator) -> str:
        comm.host = f"node{comm.rank // 2}"
        return agree(comm, lambda: staged(section, tmp_path, comm)).path  # type: ignore[attr-defined, no-any-return]

    found = run_threads(4, body, host_of_rank=[0, 0, 1, 1])
    assert found[0] == found[1] != found[2] == found[3]
    assert len(list(disk.iterdir())) == 2


def test_what_killed_jobs_left_is_removed_and_what_others_use_is_not(tmp_path: Path, disk: Path) -> None:
    own = Process.own()
    gone = replace(own, number=2**22 + 1)
    for name, owners in (("dead", [gone, gone]), ("alive", [gone, own]), ("elsewhere", [replace(gone, boot="other")])):
        (disk / f"hpcnn-stage-{name}").mkdir()
        (disk / f"hpcnn-stage-{name}" / "owners.json").write_text(json.dumps([asdict(owner) for owner in owners]))
    (disk / "hpcnn-stage-of-somebody").mkdir()
    staged(sections(tmp_path, disk)["npz"], tmp_path, SerialCommunicator())
    unstage()
    assert sorted(path.name for path in disk.iterdir()) == [
        "hpcnn-stage-alive", "hpcnn-stage-elsewhere", "hpcnn-stage-of-somebody"
    ]  # fmt: skip


def test_a_training_from_copies_is_the_same_and_leaves_nothing(tmp_path: Path, disk: Path) -> None:
    sections(tmp_path, disk)
    job = {
        "data": {"source": "npz", "path": str(tmp_path / "d.npz")},
        "model": {"layers": [{"type": "dense", "units": 2, "activation": "softmax"}]},
        "loss": "sparse_categorical_crossentropy",
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "train": {"epochs": 2, "batch_size": 8},
        "run": {"display": "quiet"},
    }
    plain = hpcnn.fit(job, out=tmp_path / "plain")
    with pytest.raises(hpcnn.TrainingStoppedError):
        hpcnn.fit(job, out=tmp_path / "run", overrides={"data.stage": str(disk), "run.stop_at_step": 3})
    assert list(disk.iterdir()) == []
    fitted = hpcnn.fit(job, out=tmp_path / "run", resume="auto", overrides={"data.stage": str(disk)})
    assert fitted.weights_sha256 == plain.weights_sha256
    assert list(disk.iterdir()) == []
    (file,) = load_checkpoint(tmp_path / "run" / "model.safetensors").facts["data"]["files"]
    assert file["path"] == str(tmp_path / "d.npz"), "the file, not its copy"


def refused(tmp_path: Path, disk: Path, **changes: Any) -> None:
    section = schema.Npz(**{"path": "d.npz", "stage": str(disk)} | changes)
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    staged(section, tmp_path, SerialCommunicator())


def test_a_disk_without_room_is_said_before_copying(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(DataError, match=r"the files take [\d.]+ kB, but .*disk on .* has only 10 B left\. Give"):
        refused(tmp_path, disk)
    assert list(disk.iterdir()) == []


def test_a_folder_that_is_none_is_refused(tmp_path: Path, disk: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder \$NONE_SUCH \(a variable that is not set\) on "):
        refused(tmp_path, disk, stage="$NONE_SUCH")
    with pytest.raises(DataError, match=r"there is no folder disk on .*Give an absolute path"):
        refused(tmp_path, disk, stage="disk")


def test_a_copy_that_differs_is_refused(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty:
        def digest(self) -> bytes:
            return b""

    monkeypatch.setattr("hashlib.file_digest", lambda *_: Faulty())
    with pytest.raises(DataError, match=r"the copy of .*d\.npz in .* differs from it: the disk may be faulty"):
        refused(tmp_path, disk)


def test_a_copy_that_fails_is_said_and_removed(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hpcnn.training.staging._copy", full)
    with pytest.raises(DataError, match=r"copying to .*disk on .* failed: No space left on device\. Give another"):
        refused(tmp_path, disk)
    assert list(disk.iterdir()) == []


def test_sources_without_files_are_refused() -> None:
    with pytest.raises(JobError, match=r"data\.stage = '/tmp' copies files, but data\.source = 'synthetic' reads none"):
        make_job(data={"stage": "/tmp"})
