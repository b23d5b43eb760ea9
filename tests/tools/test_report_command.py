"""`hpcnn report` from the command line: where it writes, what it prints, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpcnn.report import main
from hpcnn.tools.report.read import read_run
from hpcnn.tools.report.text import sparkline, text_report
from tests.require import require
from tests.tools.report_runs import make_run, time_line, write_lines


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_run(Path("toy"))
    return Path("toy")


def test_one_run_has_its_page_beside_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    assert (run / "report.html").read_text().startswith("<!doctype html>\n")
    assert capsys.readouterr().out.startswith("wrote toy/report.html (")


def test_several_runs_have_theirs_here(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("other"))
    assert main([str(run), "other"]) == 0
    assert "2 runs" in Path("report.html").read_text()
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(("out", "file"), [("x.html", "x.html"), (".", "report.html"), ("X.HTML", "X.HTML")])
def test_another_place(run: Path, out: str, file: str) -> None:
    assert main([str(run), "-o", out, "--title", "A title"]) == 0
    assert "<h1>A title " in Path(file).read_text()
    assert not (run / "report.html").exists()


def test_a_page_is_written_over(run: Path) -> None:
    (run / "report.html").write_text("old")
    assert main([str(run)]) == 0
    assert "old" not in (run / "report.html").read_text()[:20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["toy", "-o", "toy/model.safetensors"],
            "-o 'toy/model.safetensors': expected a name that ends in .html, or a",
        ),
        (["toy", "--png", "x.html"], "--png 'x.html': expected a name that ends in .png, or a folder that exists."),
        (["toy", "-o", "no/such/x.html"], "can't write 'no/such/x.html' (No such file or directory). Choose another"),
        (["nothing"], "there is no run folder 'nothing'. Give the folder of a run"),
        (["."], "no run is in the folder '.'. Give the folder of a run"),
        (["toy", "nothing"], "there is no run folder 'nothing'."),
    ],
)
def test_what_is_refused(run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    before = sorted(path.name for path in run.iterdir())
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"hpcnn: error: {message}")
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.parametrize("file", ["result.json", "sweep.toml"])
def test_a_folder_that_may_not_be_read(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    exists = Path.exists

    def refused(path: Path) -> bool:  # what Python 3.11 makes of it; root may read anything
        if path.name == file:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refused)
    assert main([str(run), "--text"]) == 2
    said = capsys.readouterr()
    assert said.err == f"hpcnn: error: can't read 'toy/{file}' (Permission denied). Ask its owner.\n"
    assert said.out == ""


def test_a_sweep_that_has_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.toml").write_text("[values]\ntrain.seed = [1]\n")
    assert main([str(tmp_path)]) == 2
    assert "has begun. hpcnn status says what it waits for." in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------------- text


def test_text_goes_to_the_terminal_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--text"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("toy: done\ntoy\n\n5 of 5 epochs, 4.2 s, 3 ranks, 1,003 samples/s, best val_loss 0.3")
    assert max(map(len, said.splitlines())) <= 80
    assert not list(Path().rglob("report.html"))


def test_text_and_page(run: Path) -> None:
    assert main([str(run), "--text", "-o", "x.html"]) == 0
    assert Path("x.html").exists()


def test_what_the_text_says(run: Path) -> None:
    lines = list(text_report([read_run(run)], "", width=80, encoding="utf-8"))
    assert "loss               1    0.2   0.2  █▄▂▁▁" in lines
    assert "val_accuracy     0.4    0.8   0.8  ▁▅▇██" in lines
    assert "█ compute 67 %  ▓ reduce 33 %" in lines
    assert next(line for line in lines if line.startswith("rank 2  ████")).endswith("6 s")
    assert lines[lines.index("       0   1") + 2] == "   1   2   8"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_text_keeps_to_the_width(run: Path, width: int) -> None:
    other = make_run(Path("a/run/whose/name/is/longer/than/a/terminal/is/wide" + "e" * 100))
    write_lines(other / "time.jsonl", [time_line(1, ["n"] * 64)])
    for runs in ([read_run(run)], [read_run(other)], [read_run(run), read_run(other)]):
        lines = list(text_report(runs, "", width=width, encoding="utf-8"))
        assert max(map(len, lines)) <= width
        assert any("SHA-256" in line or "best" in line for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "no-such"])
def test_plain_letters_where_there_are_no_blocks(run: Path, encoding: str) -> None:
    text = "\n".join(text_report([read_run(run)], "", width=80, encoding=encoding))
    assert text.isascii()
    assert "C compute 67 %  R reduce 33 %" in text


def test_nothing_in_a_name_steers_the_terminal(run: Path) -> None:
    text = "\n".join(text_report([read_run(run)], "a\x1b[31m\x9b31m\nb\x07\rc", width=80, encoding="utf-8"))
    assert text.split("\n")[0] == "a\ufffd[31m\ufffd31m b\ufffd c: done"


def test_several_runs_in_text(run: Path) -> None:
    make_run(Path("better"), loss=0.5, rate=0.1)
    lines = list(text_report([read_run(run), read_run(Path("better"))], "", width=80, encoding="utf-8"))
    assert lines[0] == "2 runs, best val_loss first"
    assert lines[3].startswith("better     done")
    assert lines[4].startswith("toy        done")
    assert "  optimizer.learning_rate: 0.1 (better); 0.003 (toy)" in lines


def test_curves_of_one_line() -> None:
    assert sparkline([(1, None)], 8, "_#") == ""
    assert sparkline([(1, 3.0)], 8, "_#") == "_"
    assert sparkline([(place, float(place)) for place in range(100)], 4, "01234567") == "0257"


# -------------------------------------------------------------------------------------------------------------- picture


def test_a_picture(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("matplotlib")
    from hpcnn.tools.report.png import write_png

    make_run(Path("$other$ \\alpha"), epochs=1)
    assert main([str(run), "$other$ \\alpha", "--png", "."]) == 0
    assert Path("report.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.startswith("wrote report.png (")
    assert not (run / "report.html").exists()
    write_png(Path("one.png"), [read_run(run)], "100 $ and more")
    assert 20_000 < Path("one.png").stat().st_size < 500_000


def test_a_picture_of_a_run_without_an_epoch(tmp_path: Path) -> None:
    require("matplotlib")
    (tmp_path / "job.toml").write_text("")
    assert main([str(tmp_path), "--png", str(tmp_path / "x.png")]) == 0


def test_a_picture_needs_matplotlib(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([str(run), "--png", "x.png"]) == 2
    said = capsys.readouterr().err
    assert "report --png needs the package 'matplotlib', which is not installed" in said
    assert "pip install 'hpcnn[plot]'" in said
