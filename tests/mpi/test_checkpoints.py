"""Checkpoints of real runs: killed in a save, on a disk that is full, damaged, listed, and resumed on other ranks."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcnn.runs.run_folder import RunFolder
from tests.kill_in_save import kill_runs
from tests.mpi import network_jobs
from tests.mpi.launch import ROOT, Mpi, sha256_of
from tests.mpi.rank_server import RankServer
from tests.mpi.served_training import train
from tests.require import missing

JOB = ROOT / "jobs" / "digits_mlp.toml"
SETTINGS = ("train.epochs=6", "run.checkpoint_gap_s=0")
TRAIN = ("-m", "hpcnn.train", JOB, "--quiet", *(word for setting in SETTINGS for word in ("--set", setting)))
STOPPED = 75


def test_killed_in_saves(mpich: Mpi, tmp_path: Path) -> None:
    """Few here; `python -m tests.kill_in_save` does as many as one likes."""
    tally = kill_runs(mpich, tmp_path, runs=3, seed=1)
    assert tally.wrong == []


STATES = {
    "replicated": ("train.optimizer_sharding=false",),
    "sharded": ("train.optimizer_sharding=true", "optimizer.clip_norm=1.0"),
    "compressed": ("train.optimizer_sharding=true", "train.compression='bf16'", "train.compression_groups=2"),
    "steered": (
        "train.early_stopping={patience=1, min_delta=0.02}",
        "train.reduce_on_plateau={monitor='loss', patience=1, min_delta=0.5}",
    ),
}


@pytest.mark.parametrize(
    ("kind", "before", "after"), [("replicated", 1, 3), ("sharded", 4, 1), ("compressed", 3, 5), ("steered", 5, 2)]
)
def test_stopped_within_an_epoch_and_resumed_on_other_ranks(
    ranks_of_mpich: RankServer, tmp_path: Path, kind: str, before: int, after: int
) -> None:
    server, settings, out = ranks_of_mpich, (*SETTINGS, *STATES[kind]), tmp_path / "run"
    straight = train(server, 2, JOB, *settings, cwd=tmp_path, out=tmp_path / "straight")
    for ranks, stop in ((before, 10), (after, 75)):
        stop_there = f"run.stop_at_step={stop}"
        train(server, ranks, JOB, *settings, stop_there, cwd=tmp_path, out=out, resume="auto", expect=STOPPED)
    resumed = train(server, before, JOB, *settings, cwd=tmp_path, resume="run/checkpoints/last.safetensors")
    assert sha256_of(resumed) == sha256_of(straight)


@pytest.mark.parametrize(("case", "before", "after"), [("images", 2, 5), ("masked", 3, 1)])
def test_networks_of_all_kinds_stopped_and_resumed_on_other_ranks(
    ranks_of_mpich: RankServer, tmp_path: Path, case: str, before: int, after: int
) -> None:
    """Batch normalisation has averages that are no parameters, and layers draw random numbers by sample and step."""
    server, job, out = ranks_of_mpich, network_jobs.write(case, tmp_path), tmp_path / "run"
    straight = train(server, 1, job, cwd=tmp_path, out=tmp_path / "straight")
    stop_there = ("run.stop_at_step=3", "run.checkpoint_gap_s=0")
    train(server, before, job, *stop_there, cwd=tmp_path, out=out, resume="auto", expect=STOPPED)
    resumed = train(server, after, job, cwd=tmp_path, resume="run/checkpoints/last.safetensors")
    assert sha256_of(resumed) == sha256_of(straight)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def test_the_newest_is_damaged(mpi: Mpi, tmp_path: Path) -> None:
    straight = mpi.run(0, *TRAIN, "--out", "straight", cwd=tmp_path)
    assert mpi.run(2, *TRAIN, "--out", "run", "--set", "run.stop_at_step=60", cwd=tmp_path).returncode == STOPPED
    run = RunFolder(tmp_path / "run")
    newest, older = run.step_files()
    damage(newest)
    resumed = mpi.run(3, *TRAIN, "--out", "run", "--resume", "auto", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr.count("passed over a checkpoint") == 1
    assert f"{newest.name}' is damaged: its content does not match its SHA-256" in resumed.stderr
    assert sha256_of(resumed.stdout) == sha256_of(straight.stdout)
    assert not older.exists()


def test_all_are_damaged(mpi: Mpi, tmp_path: Path) -> None:
    assert mpi.run(2, *TRAIN, "--out", "run", "--set", "run.stop_at_step=60", cwd=tmp_path).returncode == STOPPED
    run = RunFolder(tmp_path / "run")
    for path in {path.resolve() for path in run.checkpoints.iterdir()}:
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in run.checkpoints.iterdir()}
    done = mpi.run(2, *TRAIN, "--out", "run", "--resume", "auto", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("and none of them is whole. Resume from another one by --resume PATH") == 1
    assert {path: path.read_bytes() for path in run.checkpoints.iterdir()} == before


# ------------------------------------------------------------------------------------------------- hpcnn checkpoints


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run; to be copied before it is changed."""
    from tests.mpi import launch

    folder = tmp_path_factory.mktemp("finished")
    done = launch.mpich().run(0, *TRAIN, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_the_list_of_checkpoints(mpich: Mpi, finished: Path, tmp_path: Path) -> None:
    done = mpich.run(0, "-m", "hpcnn", "checkpoints", finished, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)["checkpoints"]
    assert [row["epoch"] for row in listed] == sorted((row["epoch"] for row in listed), reverse=True)
    names = {name: row for row in listed for name in row["names"]}
    last, model = names["checkpoints/last.safetensors"], names["model.safetensors"]
    assert "checkpoints/step-0000000138.safetensors" in last["names"]
    assert "checkpoints/best.safetensors" in names
    for row in (last, model):
        assert (row["epoch"], row["step"], row["monitor"], row["verified"]) == (6, 138, "val_loss", True)
    metrics = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert {row["epoch"]: row["value"] for row in listed} == {
        line["epoch"]: line["val_loss"] for line in metrics if line["epoch"] in {row["epoch"] for row in listed}
    }
    assert last["size_bytes"] == (finished / "checkpoints" / "last.safetensors").stat().st_size
    assert 0 <= last["age_s"] < 600


def test_the_table_of_checkpoints_and_its_exit_codes(mpi: Mpi, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    good = mpi.run(2, "-m", "hpcnn.checkpoints", "run", cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("checkpoints of run\n") == 1
    assert good.stdout.count(" yes ") == len({path.stat().st_ino for path in run.rglob("*.safetensors")})
    damage(run / "model.safetensors")
    bad = mpi.run(2, "-m", "hpcnn.checkpoints", "run", cwd=tmp_path)
    assert bad.returncode == 1
    assert bad.stdout.count(" no ") == 1
    assert "'run/model.safetensors' is damaged: its content does not match its SHA-256" in bad.stdout
    none = mpi.run(2, "-m", "hpcnn.checkpoints", "nowhere", cwd=tmp_path)
    assert none.returncode == 2
    assert none.stderr.count("there is no run 'nowhere'") == 1


# --------------------------------------------------------------------------------------------------- a disk is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        missing(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


PROGRAM = """
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from hpcnn.comm.launcher import detect_launch
from hpcnn.runs.checkpoints import saver, together
from hpcnn.runs.checkpoints.index import newest_that_verifies
from hpcnn.runs.run_folder import RunFolder

together.FEWEST_HOSTS = 1  # so that every rank writes its part of a state that is not small
saver._RETRY_S, saver._RETRY_SHARE, saver._SMALL_BYTES = 1, 0, {small}
filler, run = Path("disk/filler"), RunFolder(Path("disk/run"))
due, now = saver.Saver.due, 0
saver.time = SimpleNamespace(monotonic=lambda: now, sleep=time.sleep)

def due_on_a_disk(self, step):
    global now
    now = step
    if detect_launch().rank == 0:
        if step == 30:
            with filler.open("wb", buffering=0) as file:
                for size in (65536, 1):
                    try:
                        while file.write(bytes(size)):
                            pass
                    except OSError:
                        pass
        if step == 80:
            print("newest on the full disk", newest_that_verifies(run).name, flush=True)
            filler.unlink()
    return due(self, step)

saver.Saver.due = due_on_a_disk
from hpcnn.train import main
sys.exit(main())
"""
"""Fills the disk before step 30, and makes room again before step 80. For the saver, a step takes a second."""


@pytest.mark.parametrize("small", [0, 2**26], ids=["streamed", "in memory"])
def test_a_disk_that_is_full_for_a_while(mpich: Mpi, tmp_path: Path, small_disk: Path, small: int) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.format(small=small))
    settings = ("--set", "run.checkpoint_every_steps=10", "--set", "train.optimizer_sharding=true")
    straight = mpich.run(0, *TRAIN, "--out", "straight", cwd=tmp_path)
    done = mpich.run(2, "program.py", *TRAIN[2:], *settings, "--out", "disk/run", cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = done.stdout.splitlines()
    warnings = [line for line in lines if line.startswith("warning: the checkpoint")]
    assert warnings == [
        "warning: the checkpoint at step 30 was not saved in disk/run/checkpoints (No space left on device); "
        "training continues, and it is tried again"
    ]
    assert "newest on the full disk step-0000000023.safetensors" in lines
    assert lines.count("checkpoints are saved again in disk/run/checkpoints, at step 80") == 1
    assert sha256_of(done.stdout) == sha256_of(straight.stdout)
    run = RunFolder(tmp_path / "disk" / "run")
    assert [path.name for path in run.checkpoints.glob(".*")] == []
    assert json.loads(run.metrics.read_text().splitlines()[-1])["epoch"] == 6
