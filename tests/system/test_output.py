"""Output that can not be written: training ends as without it, other commands end with one message or quietly."""

from __future__ import annotations

import copy
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import hpcnn
from hpcnn.runs.display.console import print_results, rich_console
from hpcnn.system import output
from hpcnn.system.atomic import write_text
from hpcnn.system.output import Output, write_line
from tests.timing import WAIT_S, wait_until

ROOT = Path(__file__).parents[2]
JOB = """
[data]
source = "synthetic"
kind = "linear"
samples = 32
features = 2
validation_fraction = 0.25

[model]
layers = [{ type = "dense", units = 1 }]

[loss]
name = "mse"

[train]
epochs = 2
batch_size = 16
shards = 2
"""


@pytest.fixture(autouse=True)
def nothing_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_lost", {})
    monkeypatch.setattr(output._Policy, "at_once", True)  # commands that other tests called in this process set it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with a job, and with the run that it comes to where output is well."""
    folder = tmp_path_factory.mktemp("output")
    write_text(folder / "job.toml", JOB)
    done = run("train job.toml --quiet --out well", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def run(line: str, folder: Path, redirect: str = "") -> subprocess.CompletedProcess[str]:
    command = f"exec {sys.executable} -m hpcnn {line} {redirect}"
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False
    )


def sha256_of(run: Path) -> str:
    return str(json.loads((run / "result.json").read_text())["weights_sha256"])


class Full(io.StringIO):
    """A text stream on a disk that is full until it is told otherwise."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


# ------------------------------------------------------------------------------------------------------- training


TRAININGS = {
    "full disk": (">/dev/full", "standard output can't be written (No space left on device); the work continues"),
    "closed": (">&-", "standard output can't be written (it is closed); the work continues"),
    "errors closed": ("2>&-", ""),
    "all closed": ("<&- >&- 2>&-", ""),
    "both full": (">/dev/full 2>/dev/full", ""),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_training_goes_on_to_the_same_end(folder: Path, case: str) -> None:
    redirect, said = TRAININGS[case]
    out = folder / case.replace(" ", "_")
    done = run(f"train job.toml --set run.display=plain --out {out}", folder, redirect)
    assert done.returncode == 0, done.stderr
    assert sha256_of(out) == sha256_of(folder / "well")
    assert done.stderr.count("\n") == (1 if said else 0)
    assert said in done.stderr
    lost = json.loads((out / "progress.json").read_text()).get("lost_output", [])
    assert len(lost) == (0 if case == "errors closed" else 2 if case in ("all closed", "both full") else 1)


@pytest.mark.parametrize("display", ["plain", "live"])
def test_training_goes_on_when_its_reader_has_read_enough(folder: Path, display: str) -> None:
    out = folder / f"reader_{display}"
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "hpcnn", "train", "job.toml", "--set", f"run.display={display}", "--out", str(out)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=WAIT_S
    )
    os.close(writes)
    assert done.returncode == 0
    assert sha256_of(out) == sha256_of(folder / "well")
    said = "hpcnn: warning: standard output can't be written (Broken pipe); the work continues without it\n"
    assert done.stderr == said


def test_a_fit_goes_on_to_the_same_end(folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    fitted = hpcnn.fit(folder / "job.toml", out=tmp_path / "run")
    assert fitted.weights_sha256 == sha256_of(folder / "well")
    assert capsys.readouterr().err.count("standard output can't be written (No space left on device)") == 1


def test_a_terminal_that_is_closed_stops_the_run_which_saves(folder: Path) -> None:
    """It sends SIGHUP, and what is written to it then fails."""

    def take_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    controller, device = os.openpty()
    out = folder / "terminal"
    command = [sys.executable, "-m", "hpcnn", "train", "job.toml", "--set", "train.epochs=100000", "--out", str(out)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=device,
        stdout=device,
        stderr=device,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(device)
    os.set_blocking(controller, False)
    wait_until(lambda: read(controller).find(b"epoch 2") >= 0)
    os.close(controller)
    assert process.wait(WAIT_S) == 75
    progress = json.loads((out / "progress.json").read_text())
    assert "standard output can't be written (Input/output error)" in progress["lost_output"]
    assert (out / f"checkpoints/step-{progress['step']:010}.safetensors").exists()


def read(controller: int) -> bytes:
    """Return what came to a terminal since the last time."""
    with suppress(BlockingIOError):
        return os.read(controller, 2**16)
    return b""


# --------------------------------------------------------------------------------------------------- other commands


@pytest.mark.parametrize("line", ["checkpoints well", "evaluate well --json", "report well --text", "train --help"])
def test_a_result_that_can_not_be_written_is_one_message(folder: Path, line: str) -> None:
    done = run(line, folder, ">/dev/full")
    assert done.returncode == 1
    words = "standard output can't be written (No space left on device), so the result is lost, or a part of it"
    assert done.stderr == f"hpcnn: error: {words}\n"


@pytest.mark.parametrize("line", ["checkpoints well", "report well --text", "train --help"])
def test_a_reader_that_has_read_enough_is_no_failure(folder: Path, line: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "hpcnn", *line.split()]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=WAIT_S
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_is_an_error_whatever_becomes_of_its_message(folder: Path) -> None:
    assert run("checkpoints nowhere", folder, ">&- 2>&-").returncode == 2


# ------------------------------------------------------------------------------------------------------ the streams


def test_files_never_take_the_place_of_closed_streams(tmp_path: Path) -> None:
    code = """
import os, sys
from hpcnn.system.output import replace_streams
replace_streams()
replace_streams()
with open("data", "w") as file:
    number = file.fileno()
    os.system("echo from a child")
    print("from Python", flush=True)
    sys.stderr.write("from Python\\n")
    file.write(f"{number} {os.readlink('/proc/self/fd/1')}")
"""
    write_text(tmp_path / "program.py", code)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = f"exec {sys.executable} program.py <&- >&- 2>&-"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, timeout=WAIT_S, check=True)
    assert (tmp_path / "data").read_text() == "3 /dev/null"


def test_what_is_lost_on_one_stream_is_said_once_on_the_other(capsys, monkeypatch) -> None:
    full = Full()
    monkeypatch.setattr(sys, "stdout", full)
    write_line("one")
    write_line("two")
    said = "hpcnn: warning: standard output can't be written (No space left on device); the work continues without it\n"
    assert capsys.readouterr().err == said
    full.full = False  # the disk has space again
    write_line("three")
    assert full.getvalue() == "three\n"


def test_errors_that_can_not_be_written_are_shown_on_the_other_stream(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    write_line("rank 1 is gone", output.ERROR)
    write_line("rank 2 is gone", output.ERROR)
    warning, *lines = capsys.readouterr().out.splitlines()
    assert warning.startswith("hpcnn: warning: standard error can't be written")
    assert [line for line in lines if line] == ["rank 1 is gone", "rank 2 is gone"]


@pytest.mark.parametrize("stream", [Full(), None, io.TextIOWrapper(io.BytesIO())], ids=["full", "none", "closed"])
def test_nothing_can_be_written_anywhere(monkeypatch, stream: io.TextIOBase | None) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    write_line("to nobody")
    write_line("to nobody", output.ERROR)
    print_results("title", {"loss": 1.0})
    assert not output.output().isatty()
    assert len(output.losses()) == 2


def test_a_terminal_that_another_program_has_made_not_to_block_is_no_loss(capsys, monkeypatch) -> None:
    class Busy(Full):
        def write(self, text: str) -> int:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(sys, "stdout", Busy())
    write_line("one")
    assert capsys.readouterr().err == ""
    assert not output.is_lost()


def test_what_no_character_set_holds_is_shown_as_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    Output(output.OUT, stream).write("Größe \udcff\n")
    assert raw.getvalue() == b"Gr\\xf6\\xdfe \\udcff\n"


def test_lines_are_lost_as_texts_are(capsys) -> None:
    Output(output.OUT, Full()).writelines(["one\n", "two\n"])
    assert output.is_lost()
    capsys.readouterr()
    screen = io.StringIO()
    Output(output.OUT, screen).writelines(f"{line}\n" for line in ("one", "two"))
    assert screen.getvalue() == "one\ntwo\n"


def test_a_block_flushes_and_closes_nothing() -> None:
    raw = io.BytesIO()
    stream = Output(output.OUT, io.TextIOWrapper(raw))
    with stream as same:
        same.write("one")
        assert raw.getvalue() == b""
    assert same is stream
    assert raw.getvalue() == b"one"
    assert not stream.closed


def test_a_copy_writes_to_the_same_stream() -> None:
    screen = io.StringIO()
    copy.copy(Output(output.OUT, screen)).write("one")
    assert screen.getvalue() == "one"
    assert not hasattr(Output(output.OUT, screen), "__fspath__")


def test_lines_printed_during_a_live_display_come_above_it(monkeypatch) -> None:
    from rich.live import Live

    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Output(output.OUT, screen))
    console = rich_console("/dev/null")
    with Live("bars", console=console, auto_refresh=False):
        write_line("a warning")
    assert "a warning" in screen.getvalue()
    assert screen.getvalue().index("a warning") < screen.getvalue().rindex("bars")
