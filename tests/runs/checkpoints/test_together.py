"""Ranks write a checkpoint together: the same file on any number of them, whatever some of them can't do."""

import errno
import os
import threading
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.runs.build import build_training
from hpcnn.runs.checkpoints.together import save_together
from hpcnn.runs.state import pack
from hpcnn.storage import disk, hashing
from hpcnn.storage.checkpoint import load_checkpoint
from hpcnn.storage.draft import ALIGNMENT, Draft
from hpcnn.training.loop import Progress
from tests.small_jobs import make_job

LAYERS = [{"type": "dense", "units": 700}, {"type": "dense", "units": 290}]
LAYERS += [{"type": "dense", "units": 3, "activation": "softmax"}]
SHARDED = {"optimizer_sharding": True}
COMPRESSED = {**SHARDED, "compression": "bf16", "compression_groups": 2}
CHUNK = ALIGNMENT


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """13 chunks a vector, and more syncs than one."""
    monkeypatch.setattr(hashing, "CHUNK", CHUNK)
    monkeypatch.setattr(disk, "_SYNC_BYTES", 2 * CHUNK)


def job_of(train):
    return make_job(model={"layers": LAYERS}, optimizer={"name": "adam"}, train=train)


def content_of(comm, job):
    """Return the state after a step."""
    training = build_training(job, Path(), comm)
    training.shards.start_epoch(0)
    training.replica.train_step(0, partial(training.shards.shards, 0), factor=1.0)
    return pack(training, Path(), Progress(stats=training.replica.model.layout.zeros()))


def save(path, hosts, *, halving=False, train=SHARDED, also=(), prepare=lambda: None):
    """Save a state from ranks on these hosts; return the reasons of all ranks."""
    job = job_of(train)

    def body(comm):
        content = content_of(comm, job)
        return save_together(comm, content, path, also=also, beat=lambda: None, prepare=prepare)

    return run_threads(len(hosts), body, host_of_rank=hosts, halving=halving)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The file that one rank writes, by the settings of training."""
    files = {}

    def file_of(train):
        key = str(train)
        if key not in files:
            path = tmp_path_factory.mktemp("alone") / "file"
            content = content_of(SerialCommunicator(), job_of(train))
            assert not save_together(
                SerialCommunicator(), content, path, also=[], beat=lambda: None, prepare=lambda: None
            )
            load_checkpoint(path)
            files[key] = path.read_bytes()
        return files[key]

    return file_of


@pytest.fixture
def writes(monkeypatch):
    """What each rank writes of the content: places and lengths, by its name."""
    found = defaultdict(list)
    write_at = disk.write_at

    def noted(descriptor, data, place):
        if threading.current_thread().name.startswith("rank"):
            found[threading.current_thread().name].append((place, len(data)))
        write_at(descriptor, data, place)

    monkeypatch.setattr(disk, "write_at", noted)
    return found


@pytest.mark.parametrize(
    ("hosts", "halving", "train"),
    [
        ([0, 0, 0], False, SHARDED),
        ([0, 1], True, SHARDED),
        ([0, 1, 2], False, SHARDED),
        ([1, 0, 0], False, {**SHARDED, "bucket_mb": 0.3}),
        ([0, 0, 0, 0, 1], False, SHARDED),
        ([0, 1, 0, 1, 2], True, {**SHARDED, "bucket_mb": 0.3}),
        ([0, 1, 1], True, COMPRESSED),
        ([0, 0], False, COMPRESSED),
        ([0, 0, 0], False, {"optimizer_sharding": False}),
    ],
)
def test_the_file_is_the_same_on_any_ranks(tmp_path, alone, writes, hosts, halving, train):
    path = tmp_path / "file"
    assert save(path, hosts, halving=halving, train=train) == [""] * len(hosts)
    assert path.read_bytes() == alone(train)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    pages = defaultdict(set)
    for rank, pieces in writes.items():
        for place, size in pieces:
            for page in range(place // ALIGNMENT, -(-(place + size) // ALIGNMENT)):
                pages[page].add(rank)
    assert all(len(ranks) == 1 for ranks in pages.values()), "a client of NFS could undo what another wrote"
    if len(set(hosts)) == 1:
        assert [*writes] == ["rank 0"]
    elif train["optimizer_sharding"]:
        written = {rank: sum(size for _, size in pieces) for rank, pieces in writes.items()}
        assert len(written) == len(hosts)
        assert max(written.values()) < 0.75 * len(alone(train))


def rank_number():
    return int(threading.current_thread().name.removeprefix("rank "))


def fails_on(rank, function, code):
    """Return a function that fails on one rank, whichever of its threads calls it."""

    def fail(*arguments, **options):
        if threading.current_thread().name == f"rank {rank}":
            raise OSError(code, os.strerror(code))
        return function(*arguments, **options)

    return fail


@pytest.mark.parametrize("trouble", ["no such file", "another file"])
def test_where_a_rank_does_not_see_the_file_rank_0_writes_everything(tmp_path, alone, writes, monkeypatch, trouble):
    """As in a folder that each host has for itself."""
    opened, other = Draft.opened, tmp_path / "other"
    other.write_bytes(bytes(len(alone(SHARDED))))

    @contextmanager
    def elsewhere(self):
        if rank_number() == 2:
            path = other if trouble == "another file" else tmp_path / "none"
            self = Draft(path, self.begin, self.token, self.token_place)
        with opened(self) as descriptor:
            yield descriptor

    monkeypatch.setattr(Draft, "opened", elsewhere)
    assert save(tmp_path / "file", [0, 0, 1]) == [""] * 3
    assert (tmp_path / "file").read_bytes() == alone(SHARDED)
    assert [*writes] == ["rank 0"]
    assert not any(other.read_bytes())


@pytest.mark.parametrize(
    ("rank", "what", "code", "said"),
    [
        (0, "write", errno.ENOSPC, "No space left on device"),
        (1, "write", errno.ENOSPC, "No space left on device"),
        (2, "sync", errno.EDQUOT, "Disk quota exceeded"),
        (2, "write", errno.EIO, "Input/output error on {host}"),
        (0, "open", errno.EIO, "Input/output error"),
        (0, "name", errno.EROFS, "Read-only file system"),
        (0, "prepare", errno.ENOENT, "No such file or directory"),
    ],
)
def test_an_error_on_any_rank_leaves_the_old_files(tmp_path, monkeypatch, rank, what, code, said):
    path, last = tmp_path / "file", tmp_path / "last"
    path.write_text("old")
    last.hardlink_to(path)
    prepare = lambda: None  # noqa: E731 - or what fails
    if what == "write":
        monkeypatch.setattr(disk, "write_at", fails_on(rank, disk.write_at, code))
    elif what == "sync":
        monkeypatch.setattr(disk, "sync", fails_on(rank, disk.sync, code))
    elif what == "name":
        monkeypatch.setattr(os, "replace", fails_on(rank, os.replace, code))
    elif what == "open":
        monkeypatch.setattr(Draft, "opened", contextmanager(fails_on(rank, Draft.opened.__wrapped__, code)))
    else:
        prepare = fails_on(rank, prepare, code)
    reasons = save(path, [0, 1, 0], also=[last], prepare=prepare)
    found = reasons[0].split(" on ")
    assert found[0] == said.split(" on ")[0]
    assert len(found) == len(said.split(" on "))
    assert what == "name" or reasons == [reasons[0]] * 3
    assert path.read_text() == last.read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "last"]


def test_names_appear_when_every_rank_has_synced_its_part(tmp_path, monkeypatch):
    events, sync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        sync(descriptor)
        events.append(f"sync of {threading.current_thread().name}")

    def named(source, target):
        events.append(f"name {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    assert save(tmp_path / "file", [0, 1, 2, 2], also=[tmp_path / "last"]) == [""] * 4
    first = events.index("name last")
    assert {f"sync of rank {rank}" for rank in range(4)} == set(events[:first])
    assert events[first - 1] == "sync of rank 0", "that of the hashes, which is the last"
    assert events[first:] == ["name last", "name file", "sync of rank 0"]
