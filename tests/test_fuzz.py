"""A short run of the fuzzer, which must find nothing, and faults that it must find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import pool
from tests.fuzz.__main__ import report
from tests.fuzz.failing import FAULTS
from tests.fuzz.sound import KINDS, NEEDS
from tests.fuzz.worker import write_case
from tests.require import require

CASES = 120
"""Of each kind."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_run_finds_nothing(kind: str) -> None:
    if kind in NEEDS:
        require(NEEDS[kind])
    outcomes = pool.run([(kind, number) for number in range(CASES)], seed=0, workers=1)
    assert len(outcomes) == CASES
    assert [f"{one.number} ({one.damage}): {one.fault}" for one in outcomes if one.fault] == []
    assert {one.ended for one in outcomes} == {"error", "read"}


@pytest.mark.parametrize("name", FAULTS)
def test_the_fuzzer_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, words = FAULTS[name]
    if name == "hang":
        monkeypatch.setattr(pool, "HANG_S", 2.0)
    lost = name in ("hang", "end of the process")  # another worker then goes on with the next case
    cases = [("npy", number) for number in range(2 if lost else 1)]
    outcomes = pool.run(cases, seed=0, workers=1, program=("tests.fuzz.failing", name))
    assert [(one.kind, one.number) for one in outcomes] == cases
    assert all(words in one.fault for one in outcomes), outcomes
    assert f"npy 0 ({outcomes[0].damage}): {outcomes[0].fault}" in report(outcomes)


def test_a_process_reads_so_many_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RENEWED", 2)
    outcomes = pool.run([("npy", number) for number in range(3)], 0, 1, ("tests.fuzz.failing", "process"))
    first, second, third = (one.message for one in outcomes)
    assert first == second != third


def test_cases_follow_from_the_seed(tmp_path: Path) -> None:
    def contents(seed: int, name: str) -> list[bytes]:
        found = []
        for number in range(20):
            folder = tmp_path / f"{name} {number}"
            folder.mkdir()
            sample, _, damage = write_case("idx", number, seed, folder)
            found.append(damage.encode() if damage == "other thing" else (folder / sample.target).read_bytes())
        return found

    first = contents(1, "first")
    assert first == contents(1, "again")
    assert first != contents(2, "other")
