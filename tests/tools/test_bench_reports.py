"""What the benchmarks show and write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.errors import HpcnnError, MissingExtraError
from hpcnn.tools.bench import allreduce_report, outputs, step_report
from hpcnn.tools.bench.allreduce import AllreduceTimes, SizeTimes
from hpcnn.tools.bench.outputs import check_outputs, measured_on, write_json
from hpcnn.tools.outputs import print_table
from tests.require import require
from tests.tools.test_bench_step import made_up

ALLREDUCE = AllreduceTimes(
    [1, 3],
    "wire",
    [
        SizeTimes(4, [1e-5, 2e-5, 3e-5], [1e-5, 1e-5, 1e-5], [1e-6, 1e-6, 1e-6]),
        SizeTimes(2**20, [1e-3, 2e-3, 1e-3], [3e-3, 4e-3, 2e-3], [5e-4, 5e-4, 5e-4]),
    ],
    ["a note"],
)


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_table_of_sums(capsys: pytest.CaptureFixture[str]) -> None:
    allreduce_report.show(ALLREDUCE, "float32", ["a warning"])
    title, head, small, large, *rest = printed(capsys)
    assert " ".join(title) == "exact sum of float32 vectors against MPI_Allreduce: 4 ranks on 2 nodes, 1 to 3 on each"
    assert head == ["size", "hpcnn", "us", "MPI", "us", "MPI", "/", "hpcnn", "bus", "GB/s", "%", "of", "limit"]
    assert small == ["4", "B", "20.0", "10.0", "0.50", "0.000", "5"]
    assert large == ["1", "MiB", "1,000", "3,000", "2.00", "1.573", "50"]
    assert [" ".join(line) for line in rest] == ["limit: wire, measured in turn", "a note", "a warning"]


def test_json_of_sums() -> None:
    values = allreduce_report.as_json(ALLREDUCE, "float32")
    assert json.loads(json.dumps(values)) == values
    assert values["sizes"][1] == {
        "bytes": 2**20,
        "hpcnn_s": [1e-3, 2e-3, 1e-3],
        "mpi_s": [3e-3, 4e-3, 2e-3],
        "limit_s": [5e-4, 5e-4, 5e-4],
        "mpi_to_hpcnn": 2.0,
        "bus_bytes_per_s": 2**20 / 1e-3 * 1.5,
        "share_of_limit": 0.5,
    }


def test_table_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    step_report.show(made_up([2.0, 8.0, 4.0]), "digits", ["a warning"])
    title, head, *rows, speed, slowest, warning = printed(capsys)
    assert " ".join(title) == "digits: ms per step and share, by phase, over 100 steps on 3 ranks"
    assert head == ["rank", "host", "data", "forward", "backward", "wait", "reduce", "optimizer", "other"]
    zero = ["0", "0%"]
    assert rows == [
        ["0", "host0", *zero, *zero, "20.0", "20%", "80.0", "80%", *zero, *zero, *zero],
        ["1", "host1", *zero, *zero, "80.0", "80%", "20.0", "20%", *zero, *zero, *zero],
        ["2", "host2", *zero, *zero, "40.0", "40%", "60.0", "60%", *zero, *zero, *zero],
        ["median", *zero, *zero, "40.0", "40%", "60.0", "60%", *zero, *zero, *zero],
    ]
    assert " ".join(speed) == "100 ms per step, 1,280 samples/s over all ranks"
    assert " ".join(slowest) == "slowest: rank 1 on host1, busy for 80.0 ms per step, 2.00 times the median"
    assert warning == ["a", "warning"]


def test_table_of_one_rank_names_no_slowest(capsys: pytest.CaptureFixture[str]) -> None:
    step_report.show(made_up([10.0]), "digits", [])
    lines = printed(capsys)
    assert len(lines) == 4
    assert lines[0][-2:] == ["1", "rank"]
    assert lines[-1][1:4] == ["ms", "per", "step,"]


def test_of_many_ranks_the_slowest_are_shown_and_the_fastest(capsys: pytest.CaptureFixture[str]) -> None:
    step_report.show(made_up([1.0 + rank * 7 % 17 / 4 for rank in range(17)]), "digits", [])
    lines = printed(capsys)
    assert " ".join(lines[0]).endswith("on 17 ranks, the 5 slowest and the fastest")
    assert [line[0] for line in lines[2:9]] == ["12", "7", "2", "14", "9", "0", "median"]
    step_report.show(made_up([1.0] * 16), "digits", [])
    assert [line[0] for line in printed(capsys)[2:18]] == [str(rank) for rank in range(16)]


def test_json_of_a_step() -> None:
    values = step_report.as_json(made_up([2.0, 8.0, 4.0]), "digits")
    assert json.loads(json.dumps(values)) == values
    assert (values["steps"], values["samples"], values["seconds"], values["slowest_rank"]) == (100, 12_800, 10.0, 1)
    assert [one["wait"] for one in values["by_rank"]] == [8.0, 2.0, 6.0]
    assert "host0" not in json.dumps(values)


def test_plots(tmp_path: Path) -> None:
    require("matplotlib")
    allreduce_report.plot(ALLREDUCE, tmp_path / "a.png")
    step_report.plot(made_up([2.0, 8.0, 4.0]), "digits", tmp_path / "b.png")
    step_report.plot(made_up([1.0] * 40), "digits", tmp_path / "c.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(HpcnnError, match=r"can't write '.*gone/a.png': No such file"):
        allreduce_report.plot(ALLREDUCE, tmp_path / "gone" / "a.png")


def test_a_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"--plot needs the package 'matplotlib'.*'hpcnn\[plot\]'"):
        check_outputs(None, tmp_path / "a.png")
    check_outputs(tmp_path / "a.json", None)


@pytest.mark.parametrize(
    ("json_path", "plot_path", "message"),
    [
        ("gone/a.json", None, r"--json: there is no folder '.*gone' to write 'a.json' to"),
        ("folder", None, r"--json '.*folder' is a folder. Name a file in it"),
        (None, "gone/a.png", r"--plot: there is no folder '.*gone' to write 'a.png' to"),
        (None, "a.pdf", r"--plot '.*a.pdf' must be a .png or a .svg file"),
    ],
)
def test_bad_outputs(tmp_path: Path, json_path: str | None, plot_path: str | None, message: str) -> None:
    (tmp_path / "folder").mkdir()
    paths = [None if name is None else tmp_path / name for name in (json_path, plot_path)]
    with pytest.raises(HpcnnError, match=message):
        check_outputs(*paths)


def test_json_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(HpcnnError, match=r"can't write '.*gone/a.json': No such file"):
        write_json(tmp_path / "gone" / "a.json", {})


def test_hosts_are_named_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = measured_on(SerialCommunicator(), with_hosts=False)
    assert facts["ranks"] == 1
    assert facts["machine"]["processor"]
    assert "hosts" not in facts
    assert measured_on(SerialCommunicator(), with_hosts=True)["hosts"] == [SerialCommunicator().host]


def test_ranks_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.comm.mpi_info.library_line", lambda: "some MPI")
    facts = run_threads(3, lambda comm: measured_on(comm, with_hosts=False), host_of_rank=[0, 1, 1])[0]
    assert (facts["ranks_by_node"], facts["mpi"]) == ([1, 2], "some MPI")


def test_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    comm = SerialCommunicator()
    comm.notes.append("a note")
    monkeypatch.setattr(outputs, "oversubscription", lambda ranks: f"{len(ranks)} ranks are too many")
    assert outputs.warnings(comm) == ["a note", "1 ranks are too many"]
    monkeypatch.setattr(outputs, "oversubscription", lambda ranks: None)
    assert outputs.warnings(comm) == ["a note"]


def test_wide_tables_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", [f"column {i}" for i in range(9)], [["123456789.1 99%"] * 9], [])
    assert capsys.readouterr().out.count("123456789.1 99%") == 9
