"""`hpcnn sweep` on a real cluster: 6 learning rates, 2 runs at a time, and the table of them."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.mpi.launch import ROOT, Mpi, sha256_of
from tests.slurm.cluster import Cluster
from tests.slurm.commands import Commands

JOB = ROOT / "jobs" / "digits_mlp.toml"
RATES = ROOT / "slurm" / "learning_rates.toml"
RUN = "runs/rates"
SETTINGS = ("--set", "train.epochs=2")


@dataclass(frozen=True)
class Swept:
    """A sweep that is done, and what was seen of it meanwhile."""

    number: str
    most_at_once: int
    table_meanwhile: str
    overview_meanwhile: str


@pytest.fixture(scope="module")
def commands(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(cluster, tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def swept(commands: Commands) -> Iterator[Swept]:
    """Run the sweep."""
    cluster = commands.cluster
    size = ("--tasks-per-node", "1", "--time", "5", "--at-once", "2")
    number = commands.submit(JOB, *SETTINGS, *size, "--sweep", RATES, "--out", RUN)
    running: list[int] = []

    def done(elements: int) -> bool:
        states = cluster.state(number).split()
        running.append(states.count("RUNNING"))
        assert not {"FAILED", "CANCELLED"} & set(states), commands.output("logs", f"{RUN}/0")
        return states.count("COMPLETED") >= elements

    try:
        cluster.wait_until(lambda: done(1), "the first run")
        table, overview = commands.output("sweep", "collect", RUN), commands.output("status", RUN)
        cluster.wait_until(lambda: done(6), "all runs")
        yield Swept(number, max(running), table, overview)
    finally:
        cluster.run(["scancel", number])


def test_two_at_a_time(swept: Swept) -> None:
    assert swept.most_at_once == 2


def test_what_is_not_done_is_shown_as_such(swept: Swept) -> None:
    rows = [line.split() for line in swept.table_meanwhile.splitlines() if line.strip()[:1].isdigit()]
    states = [row[2] for row in rows]
    assert len(states) == 6
    assert (states[0], states[-1]) == ("done", "pending")
    assert "as many elements run at once as were asked for" in swept.overview_meanwhile


def test_the_table_has_the_best_first(commands: Commands, swept: Swept) -> None:
    rows = list(csv.DictReader(io.StringIO(commands.output("sweep", "collect", RUN, "--csv"))))
    assert sorted(float(row["optimizer.learning_rate"]) for row in rows) == [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]
    losses = [float(row["best_val_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert {row["state"] for row in rows} == {"done"}
    assert float(rows[0]["optimizer.learning_rate"]) in (0.003, 0.01, 0.03)


def test_each_run_is_that_of_its_point(commands: Commands, swept: Swept, mpich: Mpi) -> None:
    for index, rate in enumerate([0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]):
        job = tomllib.loads((commands.folder / RUN / str(index) / "job.toml").read_text())
        assert job["optimizer"]["learning_rate"] == rate
    done = mpich.run(
        *(0, "-m", "hpcnn.train", JOB, "--quiet", *SETTINGS, "--set", "optimizer.learning_rate=0.01"),
        cwd=commands.folder,
    )
    assert commands.result(f"{RUN}/3")["weights_sha256"] == sha256_of(done.stdout)


def test_the_sweep_is_one_line_once_it_is_done(commands: Commands, swept: Swept) -> None:
    said = commands.output("status")
    assert said.count("done: a sweep: 6 done") == 1
    assert f"{RUN}/" not in said
    assert len(commands.status(RUN)) == 6
