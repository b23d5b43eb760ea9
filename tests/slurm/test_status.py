"""`hpcnn status` and `hpcnn logs` on a real cluster: a job that runs, is requeued, runs on and is stopped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Thread

import pytest

from tests.mpi.launch import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.commands import HPCNN, Commands
from tests.timing import WAIT_S

JOB = ROOT / "jobs" / "digits_mlp.toml"


@dataclass(frozen=True)
class Watched:
    """A job, and what was said of it meanwhile."""

    number: str
    running: dict[str, object]
    overview: str
    followed: list[str]
    log: str


@pytest.fixture(scope="module")
def commands(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(cluster, tmp_path_factory.mktemp("status"))


@pytest.fixture(scope="module")
def waiting(commands: Commands) -> Iterator[str]:
    """Submit a job that waits until it is let go."""
    number = commands.submit(JOB, "--time", "5", "--out", "held", "--", "--hold")
    yield number
    commands.cluster.run(["scancel", number])


@pytest.fixture(scope="module")
def watched(commands: Commands, waiting: str) -> Watched:
    """Submit a job, look on from several places, requeue it by hand, and stop it once it trains again."""
    cluster = commands.cluster
    settings = ("--set", "train.epochs=3000", "--set", "run.checkpoint_gap_s=0")
    number = commands.submit(
        JOB, "--time", "10", "--out", "runs/a b", "--nodes", "2", "--tasks-per-node", "1", *settings
    )
    running = commands.wait_for(number, "running")
    overview = commands.output("status")
    watchers = [commands.start("status", number, "--follow"), commands.start("logs", number, "--follow")]
    try:
        followed, log = (_lines_of(watcher) for watcher in watchers)
        cluster.wait_until(lambda: bool(followed and log), "the first lines")
        cluster.run(["scontrol", "requeue", number], check=True)
        cluster.wait_until(lambda: cluster.state(number) == "PENDING", "the job to be requeued")
        commands.wait_for(number, "requeued")
        cluster.wait_until(lambda: any("requeued" in line for line in followed), "that to be seen")
        cluster.run(["scontrol", "update", f"JobId={number}", "StartTime=now"])
        cluster.wait_until(lambda: commands.status(number)[0]["restarts"] == 1, "the second attempt")
        cluster.wait_until(lambda: "running" in followed[-1] and "restarts 1" in followed[-1], "it to be seen")
        commands.output("cancel", number)
        for watcher in watchers:
            watcher.wait(WAIT_S)
    finally:
        for watcher in watchers:
            _end(watcher)
        cluster.run(["scancel", number])
    return Watched(number, running, overview, followed, "".join(log))


def _lines_of(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines that a process writes, as they come."""
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)  # noqa: PERF402  # one by one: they are looked at meanwhile

    Thread(target=read, daemon=True).start()
    return lines


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def test_a_job_that_runs(commands: Commands, watched: Watched) -> None:
    facts = {"state": "running", "job_id": watched.number, "nodes": 2, "ranks": 2, "epochs": 3000, "steps": 69000}
    facts |= {"run": str(commands.folder / "runs" / "a b"), "restarts": 0, "name": "digits_mlp"}
    assert watched.running.items() >= facts.items()
    for name, low, high in (("step", 1, 69000), ("loss", 0, 3), ("left_s", 1, 1e6), ("wall_left_s", 480, 600)):
        value = watched.running[name]
        assert isinstance(value, int | float)
        assert low <= value <= high, name


def test_a_job_that_waits_says_why(commands: Commands, waiting: str) -> None:
    (one,) = commands.status("held")
    assert (one["state"], one["job_id"]) == ("pending", waiting)
    assert one["why"] == "held by you; `scontrol release` lets it go (JobHeldUser)"


def test_all_runs_in_one_table(watched: Watched, waiting: str) -> None:
    rows = {words[0]: words for words in map(str.split, watched.overview.splitlines()) if words}
    assert rows["held"][1:3] == [waiting, "pending"]
    assert rows["runs/a"][1:4] == ["b", watched.number, "running"]
    assert "held: pending: held by you" in watched.overview


def test_following_a_job_through_a_requeue(watched: Watched) -> None:
    states = [line.split(":  ")[1].split()[0] for line in watched.followed]
    assert (states[0], states[-1]) == ("running", "cancelled")
    assert "requeued" in states
    assert "running" in states[states.index("requeued") :]
    assert "restarts 1" in watched.followed[-2]
    assert "loss " in watched.followed[0]
    assert "wall left 9:" in watched.followed[0]


def test_following_the_log_into_the_next_attempt(watched: Watched, commands: Commands) -> None:
    before, after = watched.log.split(f"hpcnn: attempt 1 of job {watched.number}")
    assert "stopped on SIG" in before
    assert "stopped on SIG" in after
    first, second = (commands.output("logs", "runs/a b", "--attempt", attempt, "-n", "0") for attempt in "01")
    assert "stopped on SIG" in first
    assert second.splitlines()[-1] in after


def test_without_slurm_the_folder_still_tells(commands: Commands, watched: Watched) -> None:
    done = commands.cluster.run(["env", "-u", "SLURM_CONF", *HPCNN, "status", "runs/a b"], cwd=commands.folder)
    assert "cancelled: stopped on request" in done.stdout
