import os
import stat
from pathlib import Path

import pytest

from hpcnn.system.atomic import atomic_path, remove_leftovers, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(path, error):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.fixture
def umask():
    """Set the umask, and bring back the old one."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_appears_whole(tmp_path, old):
    path = tmp_path / "a file.txt"
    if old is not None:
        path.write_text(old)
    write_text(path, "näu\n")
    assert path.read_bytes() == "näu\n".encode()
    assert names(tmp_path) == ["a file.txt"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, old, error):
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    with pytest.raises(type(error)):
        write_half(path, error)
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_text() == old


def test_until_the_end_the_old_file_is_seen(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary != path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_content_is_synced_before_it_takes_its_place_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def spy_replace(source, target):
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_text(tmp_path / "file", "text")
    assert events == ["file", "replace", "folder"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask_whatever_the_writer_sets(tmp_path, umask, mask, mode):
    umask(mask)
    with atomic_path(tmp_path / "file") as temporary:
        temporary.unlink()
        temporary.touch(0o600)  # as safetensors does
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_folder_that_is_missing_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "file", "text")
    assert names(tmp_path) == []


def write_under(names, text="new"):
    """Write a file under several names, the last of which is its own."""
    *also, path = names
    with atomic_path(path, also) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("old", [None, "old"])
def test_other_names_take_their_places(tmp_path, monkeypatch, links, old):
    def fail(self, target):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", fail)
    paths = [tmp_path / name for name in ("best", "last", "own")]
    for path in paths if old else ():
        path.write_text(old)
    for text in ("new", "newer"):
        write_under(paths, text)
        assert names(tmp_path) == ["best", "last", "own"]
        assert [path.read_text() for path in paths] == [text] * 3
        assert [path.samefile(tmp_path / "own") for path in paths] == [links, links, True]


def test_names_are_taken_in_their_order_of_a_synced_file_and_the_folder_is_synced_last(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def spy_replace(source, target):
        events.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_under([tmp_path / "best", tmp_path / "last", tmp_path / "own"])
    assert events == ["file", "best", "last", "own", "folder"]
    events.clear()
    write_text(tmp_path / "a", "1", sync_folder=False)
    write_text(tmp_path / "b", "2")
    assert events == ["file", "a", "file", "b", "folder"]


def test_copies_are_synced_too(tmp_path, monkeypatch):
    """Where there are no links, each name is a file of its own."""
    synced, fsync = [], os.fsync

    def spy_fsync(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def fail(self, target):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", fail)
    monkeypatch.setattr(os, "fsync", spy_fsync)
    write_under([tmp_path / "best", tmp_path / "own"])
    assert synced == [path.stat().st_ino for path in (tmp_path / "own", tmp_path / "best", tmp_path)]


def test_a_name_that_can_not_be_taken_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "own").write_text("old")
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "inner").touch()
    with pytest.raises(OSError, match="last"):
        write_under([tmp_path / "best", tmp_path / "last", tmp_path / "own"])
    assert (tmp_path / "own").read_text() == "old"
    assert (tmp_path / "best").read_text() == "new"
    assert names(tmp_path) == ["best", "last", "own"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    kept = ["a.tmp", ".b.tmp", ".c.12.tmp.safetensors", "d.12.tmp", "e"]
    for name in [*kept, ".last.safetensors.123.tmp", ".job.toml.4.tmp"]:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)
    remove_leftovers(tmp_path / "missing")


def test_leftovers_of_some_files_only(tmp_path):
    for name in (".job.toml.7.tmp", ".report.html.7-0a1b2c3d.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, {"job.toml"})
    assert names(tmp_path) == [".report.html.7-0a1b2c3d.tmp"]


def test_two_writers_of_one_file_do_not_share_a_temporary_one(tmp_path):
    """Threads of one process, and processes of one number on two hosts."""
    with atomic_path(tmp_path / "file") as first, atomic_path(tmp_path / "file") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "file").read_text() == "first"
    assert names(tmp_path) == ["file"]
