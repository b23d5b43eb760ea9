"""What a user names as an output: files, links, pipes, sockets and standard output."""

import os
import socket
from pathlib import Path
from threading import Thread

import pytest

from hpcnn.system.output_files import check_output_path, output_path


def put(path, text):
    check_output_path(path)
    with output_path(path) as temporary:
        temporary.write_text(text)


def put_half(path):
    with output_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_a_link_is_followed_and_its_file_replaced(tmp_path, old):
    place, folder = tmp_path / "out", tmp_path / "elsewhere"
    folder.mkdir()
    place.symlink_to("elsewhere/file")
    if old is not None:
        (folder / "file").write_text(old)
    before = (folder / "file").stat().st_ino if old else None
    put(place, "new")
    assert place.is_symlink()
    assert (folder / "file").read_text() == "new"
    assert (folder / "file").stat().st_ino != before
    assert names(tmp_path) == ["elsewhere", "out"]
    assert names(folder) == ["file"]


def test_a_block_that_fails_leaves_the_file_behind_a_link(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "out").symlink_to("file")
    with pytest.raises(KeyboardInterrupt):
        put_half(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old"
    assert names(tmp_path) == ["file", "out"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_gets_the_content_and_stays(tmp_path, linked):
    pipe, place = tmp_path / "pipe", tmp_path / "out" if linked else tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        place.symlink_to(pipe)
    got = []
    reader = Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    put(place, "content")
    reader.join(30)
    assert got == [b"content"]
    assert pipe.is_fifo()
    assert names(tmp_path) == sorted({"pipe", place.name})


def test_what_can_not_be_opened_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OSError, match="No such device or address"):
            put(Path("socket"), "content")
    assert Path("socket").is_socket()


def test_a_pipe_that_may_not_be_written_is_told_beforehand(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="pipe"):
        check_output_path(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["log", "stdout"])
def test_standard_output_that_is_a_file_is_continued(tmp_path, name):
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")  # as /dev/stdout
    kept = os.dup(1)
    with (tmp_path / "log").open("wb") as log:
        os.dup2(log.fileno(), 1)
    try:
        os.write(1, b"before ")
        put(tmp_path / name, "content")
        os.write(1, b" after")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert (tmp_path / "log").read_text() == "before content after"
    assert (tmp_path / "stdout").is_symlink()


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_is_an_error_and_stays(tmp_path, linked):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(IsADirectoryError):
        put(tmp_path / ("link" if linked else "folder"), "content")
    assert names(tmp_path) == ["folder", "link"]


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(OSError, match="Too many levels"):
        put(tmp_path / "out", "content")
