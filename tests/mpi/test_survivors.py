"""Ranks die, the others go on: with the bits that they would have had."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT, Mpi, mpich, open_mpi, sha256_of, ulfm
from tests.mpi.nodes import Testbed
from tests.mpi.test_stop import STOPPED

pytestmark = pytest.mark.timed

EPOCHS, STEPS_PER_EPOCH = 3, 23
JOB = (
    "-m", "hpcnn.train", ROOT / "jobs" / "digits_mlp.toml", "--out", "run", "--resume", "auto",
    "--set", "run.display=plain", "--set", "run.checkpoint_gap_s=0", "--set", "train.shards=6",
    "--set", "schedule.name=constant", "--set", f"train.epochs={EPOCHS}",
)  # fmt: skip
CONTINUE = ("--set", "run.on_rank_loss=continue")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the job that nothing disturbs."""
    done = mpich().run(0, *JOB, cwd=tmp_path_factory.mktemp("calm"))
    assert done.returncode == 0, done.stderr
    return sha256_of(done.stdout)


def kill(mpi: Mpi, ranks: int, fault: str, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return mpi.run(ranks, *JOB, *CONTINUE, *options, cwd=cwd, environment={"HPCNN_FAULT": fault})


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        ("kill rank=2 step=30 phase=forward", 1),
        ("kill rank=1 step=30 phase=reduce", 1),
        ("kill rank=0 step=30 phase=optimizer", 1),
        (f"kill rank=2 step={STEPS_PER_EPOCH} phase=evaluate", 1),
        (f"kill rank=0 step={2 * STEPS_PER_EPOCH} phase=save", 1),
        (f"kill rank=0 step={EPOCHS * STEPS_PER_EPOCH} phase=save", 1),
        ("kill rank=0,1 step=30 phase=backward", 2),
        ("kill rank=1 step=30 phase=data; kill rank=0 step=40 phase=wait", 2),
        ("kill rank=1 step=30 phase=data; kill rank=2 phase=recover", 2),
    ],
)
def test_the_result_is_that_of_an_undisturbed_run(tmp_path: Path, expected: str, fault: str, lost: int) -> None:
    done = kill(ulfm(), 3, fault, tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert sha256_of(done.stdout) == expected
    lines = [line for line in done.stdout.splitlines() if line.startswith("warning: lost rank ")]
    assert sum(len(re.findall(r"rank \d+ on ", line)) for line in lines) == lost, done.stdout
    logged = [json.loads(line)["epoch"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert logged == list(range(1, EPOCHS + 1))
    assert not list((tmp_path / "run" / "checkpoints").glob(".*")), "a temporary file of a dead rank is left"


def test_the_best_checkpoint_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    """Also if the rank that writes dies before it has."""
    from hpcnn.storage.checkpoint import load_checkpoint

    steps = []
    for fault in ("", f"kill rank=0 step={2 * STEPS_PER_EPOCH} phase=save"):
        folder = tmp_path / (fault.split(" ")[0] or "calm")
        folder.mkdir()
        done = kill(ulfm(), 2, fault, folder, "--set", f"run.stop_at_step={2 * STEPS_PER_EPOCH + 5}")
        assert done.returncode == STOPPED, f"{done.stdout}\n{done.stderr}"
        best = load_checkpoint(folder / "run" / "checkpoints" / "best.safetensors")
        steps.append((best.facts["progress"]["step"], best.facts["weights_sha256"]))
    assert steps[0] == steps[1]


def test_with_too_few_ranks_left_it_saves_and_stops(tmp_path: Path, expected: str) -> None:
    done = kill(ulfm(), 3, "kill rank=1 step=30 phase=reduce", tmp_path, "--set", "run.min_ranks=3")
    assert done.returncode == STOPPED, f"{done.stdout}\n{done.stderr}"
    assert "fewer ranks than run.min_ranks" in done.stdout
    resumed = mpich().run(2, *JOB, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert sha256_of(resumed.stdout) == expected


@pytest.mark.parametrize(
    ("ranks", "dead", "left"), [([1, 2], "0", "1,2"), ([2, 2], "2,3", "0,1"), ([2, 1, 1], "1,3", "0,2")]
)
def test_a_death_on_another_node_is_noticed_at_once(
    nodes: Testbed, tmp_path: Path, expected: str, ranks: list[int], dead: str, left: str
) -> None:
    """Also where others notice it as they compute: the messages of the dead then count as received, for Open MPI."""
    fault = f"kill rank={dead} step=30 phase=data; slow rank={left} step=30-33 seconds=0.15 phase=forward"
    job = (*JOB, *CONTINUE)
    done = nodes.run(ulfm(), ranks, *job, cwd=tmp_path, environment={"HPCNN_FAULT": fault})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    # from step 29 if its last messages died with them
    assert re.search(r"from step (29|30)\n", done.stdout), f"went on without them for a while\n{done.stdout}"
    assert sha256_of(done.stdout) == expected


@pytest.mark.parametrize(
    ("mpi", "options", "message"),
    [
        (mpich, (), "which ends all ranks when one dies"),
        (open_mpi, (), "started without --with-ft ulfm"),
        (ulfm, ("--set", "train.optimizer_sharding=true"), "share of the optimizer's state"),
        (ulfm, ("--set", "train.compression=bf16"), "what compression owes"),
        (ulfm, ("--set", "run.min_ranks=3"), "there are only 2 ranks"),
    ],
)
def test_what_can_not_be_done_is_refused_at_the_start(tmp_path: Path, mpi, options, message) -> None:  # type: ignore[no-untyped-def]
    done = mpi().run(2, *JOB, *CONTINUE, *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
