"""How the doctor shows what it found, to people and to machines."""

from __future__ import annotations

import json

import pytest

from hpcnn import doctor
from hpcnn.tools.doctor.checks import judge
from hpcnn.tools.doctor.evidence import Evidence, Packages
from hpcnn.tools.doctor.outputs import as_json, show, title
from tests.tools.doctor_evidence import ALONE, NODES, RANKS, SOUND, probe


def shown(evidence: Evidence, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show(evidence, judge(evidence))
    return capsys.readouterr().out.splitlines()


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(SOUND, capsys)
    assert lines[0].startswith("hpcnn ")
    assert lines[0].endswith(" on 2 hosts, a to b, 4 ranks")
    assert lines[-1].startswith("0 problems, 0 warnings, ")
    assert len(lines) > 25
    assert max(map(len, lines)) <= 100


def test_what_mends_is_a_line_to_copy(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = probe(error="it broke", stage="starting MPI")(SOUND)
    lines = shown(wrong, capsys)
    place = lines.index("to fix launcher:")
    assert lines[place + 1] == "  " + judge(wrong)[0].fix
    assert len(lines[place + 1]) > 80  # and is not broken


@pytest.mark.parametrize(("columns", "cell"), [(40, "any thread may"), (80, "any thread may call MPI")])
def test_a_terminal_of_any_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, cell: str
) -> None:
    monkeypatch.setattr("hpcnn.tools.doctor.outputs.terminal_path", lambda: "/dev/null")
    monkeypatch.setattr("hpcnn.runs.display.console.terminal_size", lambda _: (columns, 24))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    lines = shown(SOUND, capsys)
    assert max(map(len, lines[:-1])) <= columns
    assert ["ok", "MPI", "threads", *cell.split()] in [line.split() for line in lines]


def test_the_title_says_if_not_all_ranks_are_known() -> None:
    broken = Evidence(SOUND.launch, RANKS[:1], NODES[:1], SOUND.probe, packages=Packages({}))
    assert title(broken).endswith(" on a, 4 ranks (known of 1 alone)")
    assert title(ALONE).endswith(" on a, 1 rank")


def test_json_holds_everything() -> None:
    told = json.loads(json.dumps(as_json(SOUND, judge(SOUND))))
    assert told["level"] == "ok"
    assert len(told["findings"]) == len(judge(SOUND))
    assert [rank["host"] for rank in told["evidence"]["ranks"]] == ["a", "a", "b", "b"]
    assert told["evidence"]["slurm"]["job_id"] == "17"


@pytest.mark.parametrize("limit", ["0", "-1", "inf", "soon"])
def test_a_limit_is_a_number_of_seconds(capsys: pytest.CaptureFixture[str], limit: str) -> None:
    with pytest.raises(SystemExit) as left:
        doctor.main([f"--limit={limit}"])
    assert left.value.code == 2
    assert f"'{limit}' must be a positive number of seconds" in capsys.readouterr().err
