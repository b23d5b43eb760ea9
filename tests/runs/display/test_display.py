import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from hpcnn.runs import display, run_info
from hpcnn.runs.display import console as tables
from hpcnn.runs.display import live as live_display
from hpcnn.runs.display import make_display, plain
from hpcnn.runs.display.console import print_results, rich_console
from hpcnn.runs.display.live import LiveDisplay
from hpcnn.runs.display.plain import PlainDisplay
from hpcnn.runs.run_info import LiveStatus, RunInfo, Straggler
from hpcnn.training.callbacks import Control, EpochReport
from hpcnn.training.loop import Progress
from tests.small_jobs import at_step

INFO = RunInfo(job="digits", folder="runs/digits", ranks=4, hosts=1, shards=8, samples=1438, validation_samples=359,
                 parameters=12345, batch_size=64, steps_per_epoch=10, epochs=4)  # fmt: skip
HEADING = [
    "digits: 4 ranks on 1 node, 8 gradient shards, results in runs/digits",
    "1,438 samples + 359 for validation, 12,345 parameters, 4 epochs of 10 steps, batches of 64",
]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is told to go."""
    clock = SimpleNamespace(now=1000.0)
    for module in (plain, live_display, run_info):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def report(epoch, **values):
    return EpochReport(epoch, 10 * epoch, 0.1, {"loss": 0.5} | values, 1.0, 1234.5)


def status(epoch=0, step_in_epoch=0, **sources):
    return LiveStatus(INFO, Progress(epoch, step_in_epoch, 10 * epoch + step_in_epoch), **sources)


def do_step(display, step_in_epoch):
    """Advance the training to a step of the current epoch, and let the display know."""
    progress = display._status.progress
    progress.step_in_epoch, progress.step = step_in_epoch, 10 * progress.epoch + step_in_epoch
    display.on_step(at_step(step_in_epoch))


def end_epoch(display, epoch, why="", **values):
    """Advance the training to the end of an epoch, and let the display know."""
    progress = display._status.progress
    progress.epoch, progress.step_in_epoch, progress.step = epoch, 0, 10 * epoch
    display.on_epoch_end(report(epoch, **values), None, Control(why))


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_the_heading(capsys, clock):
    PlainDisplay(status(), 10).on_train_begin(0, None)
    assert lines(capsys) == HEADING


def test_the_heading_of_one_rank_and_of_many_nodes_without_validation():
    one = RunInfo(**vars(INFO) | {"ranks": 1, "validation_samples": 0}).lines()
    assert one[0].startswith("digits: 1 rank on 1 node, ")
    assert one[1].startswith("1,438 samples, ")
    assert RunInfo(**vars(INFO) | {"hosts": 2}).lines()[0].startswith("digits: 4 ranks on 2 nodes, ")


def begun(clock, capsys, *, every_s=10.0, epoch=0, step=0):
    plain = PlainDisplay(status(epoch, step), every_s)
    plain.on_train_begin(epoch, None)
    capsys.readouterr()
    return plain


def test_a_line_within_an_epoch_now_and_then(clock, capsys):
    plain = begun(clock, capsys)
    for step in range(1, 10):
        clock.now += 4
        do_step(plain, step)
    assert lines(capsys) == [
        "epoch 1/4  step 3/10  36 samples/s  left 2:28", "epoch 1/4  step 6/10  36 samples/s  left 2:16",
        "epoch 1/4  step 9/10  36 samples/s  left 2:04",
    ]  # fmt: skip


def test_no_line_within_an_epoch_if_none_is_asked_for_nor_for_its_last_step(clock, capsys):
    plain = begun(clock, capsys, every_s=0.0)
    clock.now += 1000
    do_step(plain, 1)
    plain = begun(clock, capsys)
    clock.now += 1000
    do_step(plain, 10)
    assert lines(capsys) == []


def test_a_line_for_the_first_and_last_epoch_and_at_most_one_a_second_between(clock, capsys):
    plain = begun(clock, capsys)
    for epoch in range(1, 5):
        clock.now += 0.6
        end_epoch(plain, epoch)
    assert [line.split()[1] for line in lines(capsys)] == ["1/4", "3/4", "4/4"]


def test_the_line_of_an_epoch(clock, capsys):
    plain = begun(clock, capsys)
    clock.now += 3600
    values = {"accuracy": 0.98765, "r2": float("nan"), "confusion_matrix": np.eye(2)}
    end_epoch(plain, 1, **values)
    assert lines(capsys) == ["epoch 1/4  loss 0.5000  accuracy 0.9877  r2 nan  1,234 samples/s  left 3:00:00"]
    end_epoch(plain, 4)
    assert lines(capsys)[0].startswith("epoch 4/4  loss 0.5000  1,234 samples/s")


def test_the_reason_to_finish_early_is_shown(clock, capsys):
    plain = begun(clock, capsys)
    end_epoch(plain, 1)
    end_epoch(plain, 2, "val_loss has not improved for 2 epochs")
    assert lines(capsys)[1:] == [
        "epoch 2/4  loss 0.5000  1,234 samples/s",
        "training ends here: val_loss has not improved for 2 epochs",
    ]


@pytest.mark.parametrize(("epoch", "first_step"), [(0, 1), (2, 1), (2, 8)])
def test_what_is_left_is_judged_by_what_this_run_has_done(clock, capsys, epoch, first_step):
    """A resumed run has not done the steps before it, and may begin within an epoch."""
    plain = begun(clock, capsys, epoch=epoch, step=first_step - 1, every_s=1e-9)
    clock.now += 5
    do_step(plain, first_step)
    left = 5 * (40 - 10 * epoch - first_step)
    assert lines(capsys) == [
        f"epoch {epoch + 1}/4  step {first_step}/10  29 samples/s  left {left // 60}:{left % 60:02d}"
    ]


def live(width=80):
    output = io.StringIO()
    return LiveDisplay(status(), Console(file=output, force_terminal=True, width=width, height=24)), output


def test_the_live_display_draws_and_leaves_the_values_to_the_table(clock):
    shown, output = live()
    shown.on_train_begin(0, None)
    try:
        assert all(line in output.getvalue().replace("\n", "") or len(line) > 80 for line in HEADING)
        for step in range(1, 4):
            clock.now += 1
            do_step(shown, step)
        assert "3/10" in output.getvalue()
        assert "starting" in output.getvalue()
        clock.now += 1
        end_epoch(shown, 1, "it is enough", val_loss=0.25)
        assert "val_loss 0.2500" in output.getvalue()
        assert "1,234 samples/s" in output.getvalue()
        assert "training ends here: it is enough" in output.getvalue()
    finally:
        shown.close()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert output.getvalue().count(hide) == 1
    assert output.getvalue().rindex(show) > output.getvalue().rindex(hide)


def test_the_live_display_draws_ten_times_a_second_at_most(clock):
    shown, output = live()
    shown.on_train_begin(0, None)
    before = output.getvalue()
    try:
        for step in range(1, 10):
            clock.now += 0.01
            do_step(shown, step)
        assert output.getvalue() == before
        clock.now += 0.1
        do_step(shown, 10)
        assert output.getvalue() != before
    finally:
        shown.close()


@pytest.mark.parametrize("width", [80, 40, 16])
def test_the_live_display_in_any_width(clock, width):
    """Nothing is wider than the terminal, no value is torn from its name, and no number is left out."""
    now = status(epoch_loss=lambda: 0.25, straggler=lambda: Straggler(3, "node7", 1.5))
    output = io.StringIO()
    shown = LiveDisplay(now, Console(file=output, width=width, height=24))
    shown.on_train_begin(0, None)
    shown.close()
    now.progress.step = now.progress.step_in_epoch = 1
    clock.now += 10
    shown._report = report(1, val_loss=0.9876)
    with shown._console.capture() as capture:
        shown._console.print(shown._picture())
    drawn = capture.get().splitlines()
    assert max(map(len, drawn)) <= width
    for wanted in ("0/4", "1/10", "loss 0.2500", "loss 0.5000", "val_loss 0.9876", "14 samples/s", "left 6:30"):
        assert any(wanted in line for line in drawn), wanted
    words = " ".join(" ".join(drawn).split())
    assert "4 ranks on 1 node" in words
    assert "rank 3 on node7 takes 1.5 times as long as the others" in words
    assert ("━" in words) == (width > 16)


def test_the_live_display_follows_a_terminal_that_gets_narrower(clock, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=24)
    monkeypatch.setattr(live_display, "terminal_size", lambda path: (33, 10))
    shown = LiveDisplay(status(), console, terminal="/dev/pts/0")
    shown.on_train_begin(0, None)
    shown.close()
    assert (console.width, console.height) == (33, 10)


def test_plain_lines_name_a_slow_rank_once(clock, capsys):
    slow = [None, Straggler(3, "node7", 1.5), Straggler(3, "node7", 1.6), Straggler(1, "node2", 2.0)]
    plain = PlainDisplay(status(epoch_loss=lambda: 0.75, straggler=slow.pop), 10.0)
    plain.on_train_begin(0, None)
    capsys.readouterr()
    for step in range(1, 5):
        clock.now += 10
        do_step(plain, step)
    shown = lines(capsys)
    assert shown[0] == "epoch 1/4  step 1/10  loss 0.7500  14 samples/s  left 6:30"
    assert [line for line in shown if line.startswith("note: ")] == [
        "note: rank 1 on node2 takes 2.0 times as long as the others",
        "note: rank 3 on node7 takes 1.6 times as long as the others",
    ]


@pytest.mark.parametrize("choice", ["auto", "live"])
def test_a_dumb_terminal_gets_lines(monkeypatch, choice):
    monkeypatch.setattr(display, "terminal_path", lambda: "/dev/pts/0")
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_display(choice, status(), 10.0)) is PlainDisplay


def test_no_colour_where_none_is_wanted(clock, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    output = io.StringIO()
    shown = LiveDisplay(status(), Console(file=output, force_terminal=True, width=80, height=24))
    shown.on_train_begin(0, None)
    clock.now += 1
    do_step(shown, 5)
    shown.close()
    assert "━" in output.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*(3[0-79]|38)[0-9;]*m", output.getvalue())


def test_a_live_display_that_never_began_can_be_closed():
    shown, output = live()
    shown.close()
    assert output.getvalue() == ""


@pytest.mark.parametrize(("choice", "terminal", "kind"), [
    ("quiet", "/dev/pts/0", type(None)), ("quiet", None, type(None)),
    ("plain", "/dev/pts/0", PlainDisplay), ("plain", None, PlainDisplay),
    ("live", "/dev/pts/0", LiveDisplay), ("live", None, LiveDisplay),
    ("auto", "/dev/pts/0", LiveDisplay), ("auto", None, PlainDisplay),
])  # fmt: skip
def test_which_display(monkeypatch, choice, terminal, kind):
    monkeypatch.setattr(display, "terminal_path", lambda: terminal)
    assert type(make_display(choice, status(), 10.0)) is kind


def test_the_console_is_as_wide_as_the_terminal(monkeypatch):
    monkeypatch.setattr(tables, "terminal_size", lambda path: (133, 44))
    console = rich_console("/dev/pts/0")
    assert (console.width, console.height, console.is_terminal) == (133, 44, True)
    assert not rich_console(None).is_terminal


ROWS = {"val_accuracy": 0.987654321, "loss": 1e-12, "epochs": 40, "model": "runs/[red]odd name/model.safetensors"}


def test_results_as_plain_text(monkeypatch, capsys):
    monkeypatch.setattr(tables, "terminal_path", lambda: None)
    print_results("result [bold]", ROWS)
    assert lines(capsys) == [
        "result [bold]",
        " val_accuracy  0.987654",
        " loss          1e-12",
        " epochs        40",
        " model         runs/[red]odd name/model.safetensors",
    ]


def test_lines_of_plain_text_are_as_long_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr(tables, "terminal_path", lambda: None)
    time = ", ".join(f"phase_{number} 10 %" for number in range(10))
    print_results("result", {"time": time})
    assert lines(capsys)[1] == f" time  {time}"


def test_a_confusion_matrix_says_what_rows_and_columns_are(monkeypatch, capsys):
    monkeypatch.setattr(tables, "terminal_path", lambda: None)
    print_results("on 12 samples", {"confusion_matrix": np.array([[10.0, 0.0], [1.0, 1.0]])})
    assert lines(capsys)[1:] == [
        " confusion_matrix  rows: true class, columns: predicted class",
        "                      0  1",
        "                   0 10  0",
        "                   1  1  1",
    ]


def test_results_in_a_terminal_have_lines(monkeypatch, capsys):
    monkeypatch.setattr(tables, "terminal_path", lambda: "/dev/pts/0")
    monkeypatch.setattr(tables, "terminal_size", lambda path: (100, 24))
    print_results("result", ROWS)
    out = capsys.readouterr().out
    assert "│ val_accuracy │ 0.987654" in out
    assert "runs/[red]odd name/model.safetensors" in out
