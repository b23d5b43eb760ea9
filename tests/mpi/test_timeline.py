"""Timeline and account of time of whole runs: with faults, stopped and resumed, and where ranks are lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.mpi.launch import ROOT, Mpi, ulfm
from tests.runs.timeline.test_timeline import read, slices

STOPPED = 75
JOB = (
    "-m", "hpcnn.train", ROOT / "jobs" / "digits_mlp.toml", "--out", "run",
    "--set", "train.epochs=2", "--set", "train.eval_batch_size=64",
)  # fmt: skip
RECORD = ("--set", "run.timeline=true", "--set", "run.timeline_steps=20")


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / "time.jsonl").read_text().splitlines()]


def slices_of(folder: Path) -> list[tuple[int, list[str], dict[str, Any]]]:
    return slices(read(folder / "run" / "timeline.json.gz"))


def test_a_slow_rank_is_seen_and_named(mpich: Mpi, tmp_path: Path) -> None:
    """Faults listen to the same activity as the timeline does."""
    fault = {"HPCNN_FAULT": "slow rank=1 seconds=0.1 phase=forward step=5-24"}
    options = ("--set", "run.display=plain", "--set", "run.log_every_s=0.2")
    done = mpich.run(3, *JOB, *RECORD, *options, cwd=tmp_path, environment=fault)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("note: rank 1 on ") == 1, done.stdout
    first, *_, last = lines_of(tmp_path)
    assert len(first["hosts"]) == 3
    assert (first["epoch"], first["step"], last["epoch"], last["step"]) == (1, 23, 2, 46)
    forward = first["seconds"]["forward"]
    assert forward[1] > max(forward[0], forward[2]) + 1
    found = slices_of(tmp_path)
    slow = [path for process, path, _ in found if process == 2 and path[-1] == "forward"]
    assert {path[0] for path in slow} == {f"step {step}" for step in range(1, 21)}
    assert {process for process, path, _ in found if path == ["evaluate"]} == {1, 2, 3}
    share = json.loads((tmp_path / "run" / "result.json").read_text())["time"]
    assert abs(sum(share.values()) - 1) < 1e-6
    assert share["compute"] > 0
    assert "time" in done.stdout.partition("result")[2]


def test_waiting_for_norms_is_not_taken_for_work(mpich: Mpi, tmp_path: Path) -> None:
    fault = {"HPCNN_FAULT": "slow rank=1 seconds=0.05 phase=optimizer"}
    sharded = ("--set", "optimizer.clip_norm=1.0", "--set", "train.optimizer_sharding=true")
    done = mpich.run(2, *JOB, *sharded, "--quiet", cwd=tmp_path, environment=fault)
    assert done.returncode == 0, done.stderr
    seconds = [line["seconds"] for line in lines_of(tmp_path)]
    waited, worked = (sum(each[phase][0] for each in seconds) for phase in ("wait", "optimizer"))
    slow = sum(each["optimizer"][1] for each in seconds)
    assert slow > 2  # 46 steps
    assert waited > slow / 2 > worked


def test_a_run_that_is_stopped_and_goes_on_with_other_ranks(mpich: Mpi, tmp_path: Path) -> None:
    stopped = mpich.run(3, *JOB, *RECORD, "--quiet", "--set", "run.stop_at_step=10", cwd=tmp_path)
    assert stopped.returncode == STOPPED, stopped.stderr
    assert [line["step"] for line in lines_of(tmp_path)] == [10]
    assert sum(path == ["step 10"] for _, path, _ in slices_of(tmp_path)) == 3
    done = mpich.run(2, *JOB, *RECORD, "--quiet", "--resume", "auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = lines_of(tmp_path)
    assert [len(line["hosts"]) for line in lines] == [3, *[2] * (len(lines) - 1)]
    assert lines[-1]["step"] == 46
    steps = {path[0] for _, path, event in slices_of(tmp_path) if event["cat"] == "step"}
    assert steps == {f"step {step}" for step in range(11, 31)}


def test_ranks_that_are_lost_stay_in_the_picture(tmp_path: Path) -> None:
    options = ("--set", "run.on_rank_loss=continue", "--set", "train.shards=6", "--set", "run.display=plain")
    fault = {"HPCNN_FAULT": "kill rank=1 step=30 phase=backward"}
    done = ulfm().run(3, *JOB, *RECORD, *options, cwd=tmp_path, environment=fault)
    assert done.returncode == 0, done.stderr
    assert "warning: lost rank 1 on " in done.stdout
    found = slices_of(tmp_path)
    assert {process for process, path, _ in found if path == ["step 20"]} == {1, 2, 3}
    assert {process for process, path, _ in found if path[-1] == "recover"} == {1, 3}
    first, *_, last = lines_of(tmp_path)
    assert (len(first["hosts"]), len(last["hosts"])) == (3, 2)
