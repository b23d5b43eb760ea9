"""`hpcnn submit` and `hpcnn cancel` on a real cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.commands import Commands
from tests.slurm.project import EPOCHS
from tests.timing import WAIT_S

JOB = ROOT / "jobs" / "digits_mlp.toml"
ODD = "an odd ü '\"$HOME` %j \\ (1);"
SHORT = ("--time", "10", "--set", f"train.epochs={EPOCHS}")


@pytest.fixture(scope="module")
def commands(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(cluster, tmp_path_factory.mktemp("submit"))


@pytest.fixture(scope="module")
def odd(commands: Commands) -> Iterator[subprocess.Popen[str]]:
    """Submit from an odd folder a job with an odd name into an odd folder, and wait for its end elsewhere."""
    folder = commands.folder / ODD
    folder.mkdir()
    (folder / f"{ODD}.toml").write_text(f'name = "digits"\n{JOB.read_text()}')
    size = ("--nodes", "2", "--tasks-per-node", "2")
    process = Commands(commands.cluster, folder).start(
        "submit", f"{ODD}.toml", *SHORT, *size, "--name", ODD, "--out", f"runs/{ODD}", "--wait"
    )
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def long(commands: Commands, odd: subprocess.Popen[str]) -> Iterator[str]:
    """Submit a job that takes long, and return its number."""
    number = commands.submit(JOB, "--time", "10", "--out", "long", "--set", "train.epochs=3000", "--nodes", "1-2")
    yield number
    commands.cluster.run(["scancel", number])


def test_a_dry_run_shows_all_and_does_nothing(commands: Commands, long: str) -> None:
    said = commands.output("submit", JOB, "--nodes", "2", "--time", "5", "--out", "dry", "--dry-run")
    lines = dict(line.split(maxsplit=1) for line in said.splitlines() if not line.startswith(("run ", "dry ")))
    assert lines["size"] == "4 ranks on 2 nodes, time 5"
    assert lines["command"].endswith(f" --nodes=2 --time=5 {ROOT}/slurm/train.sbatch {JOB} --out {commands.folder}/dry")
    assert lines["Slurm"].startswith("would take it to start at ")
    assert not (commands.folder / "dry").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--partition", "nope"], "There is no such partition. `sinfo -s` lists"),
        (["--nodes", "9", "--set", "train.shards=64"], "No nodes are like that"),
        (["--cpus-per-task", "9"], "No nodes are like that"),
        (["--gres", "tpu:1"], "The partition has no such --gres"),
        (["--time", "soon"], "Give --time as MINUTES"),
        (["--", "--constraint=new"], "No node has such a feature"),
    ],
)
def test_what_slurm_refuses_is_said_in_plain_words(
    commands: Commands, long: str, options: list[str], message: str
) -> None:
    done = commands.run("submit", JOB, "--time", "5", "--out", "refused", *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert not (commands.folder / "refused").exists()


def test_a_folder_in_use_is_refused(commands: Commands, long: str) -> None:
    done = commands.run("submit", "--time", "5", "--out", "long", "--resume")
    assert done.returncode == 2
    assert f"job {long} in the queue already writes to" in done.stderr


def test_a_run_that_is_cancelled_saves_and_goes_on_when_it_is_submitted_again(commands: Commands, long: str) -> None:
    running = commands.wait_for("long", "running")
    assert (running["job_id"], running["steps"]) == (long, 3000 * 23)
    assert "was asked to save and stop" in commands.output("cancel", "long")
    stopped = commands.wait_for("long", "cancelled")
    assert commands.cluster.state(long) != "PENDING"
    (end,) = (line for line in map(json.loads, _attempts(commands, "long")) if line["event"] == "end")
    assert (end["exit_code"], end["step"]) == (75, stopped["step"])
    assert end["step"] >= running["step"] > 0
    again = commands.submit("--out", "long", "--resume", "--time", "10")
    assert commands.wait_for("long", "running", "starting")["job_id"] == again
    log = commands.folder / "long" / "logs" / "attempt-0.log"
    commands.cluster.wait_until(lambda: log.read_text().count("3,000 epochs") == 2, "training to begin again")
    assert f"job {again} is cancelled" in commands.output("cancel", again, "--now")
    assert commands.wait_for("long", "cancelled")["job_id"] == again


def _attempts(commands: Commands, run: str) -> list[str]:
    return (commands.folder / run / "attempts.jsonl").read_text().splitlines()


def test_odd_names_and_folders_work(commands: Commands, odd: subprocess.Popen[str], undisturbed: str) -> None:
    out, err = odd.communicate(timeout=WAIT_S)
    assert odd.returncode == 0, f"{out}\n{err}"
    assert out.splitlines()[-1] == "done"
    run = f"{ODD}/runs/{ODD}"
    assert commands.result(run)["weights_sha256"] == undisturbed
    (one,) = commands.status(run)
    assert (one["run"], one["state"], one["epoch"]) == (str(commands.folder / run), "done", EPOCHS)
    assert "hpcnn: done: " in commands.output("logs", run)
    assert f"weights sha256 {undisturbed}" in commands.output("logs", run, "--attempt", "0")


def test_one_after_the_other(commands: Commands) -> None:
    first = commands.submit(JOB, *SHORT, "--out", "first", "--template", "single")
    process = commands.start(
        "submit", JOB, *SHORT, "--out", "second", "--template", "single", "--after", first, "--wait"
    )
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, "")
    assert "pending: waits for the job that it comes after (Dependency)" in out.splitlines()
    ended, begun = (json.loads(_attempts(commands, run)[place]) for run, place in (("first", -1), ("second", 0)))
    assert begun["time"] >= ended["time"]
    assert commands.result("first")["weights_sha256"] == commands.result("second")["weights_sha256"]


def test_a_run_that_fails_says_so(commands: Commands, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB.read_text().replace('source = "digits"', 'source = "npz"\npath = "none.npz"'))
    process = commands.start("submit", job, "--time", "5", "--out", "failing", "--template", "single", "--wait")
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert out.splitlines()[-1] == "failed: bad input; see hpcnn logs"
    assert "none.npz" in commands.output("logs", "failing")
