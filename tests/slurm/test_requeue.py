"""Whatever ends an attempt, the job comes back and ends with the bits of the undisturbed run, or says why not."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mpi.launch import Mpi
from tests.slurm.cluster import Cluster
from tests.slurm.project import EPOCHS, STEPS, Project

# After an epoch there is a minute and more to disturb a job; once it has come back it is as fast as ever.
SLOW = {"FAULT_AT_FIRST": "slow rank=0 phase=forward seconds=0.9 step=24-138"}
# Slurm looks at time limits every 30 s: this takes longer than fits between two looks, twice. A rank goes forward once
# a step.
SLOWER = {"HPCNN_FAULT": "slow rank=0 phase=forward seconds=0.4 step=1-138"}
FAILS = {"HPCNN_FAULT": "exit code=1 rank=1 step=30 phase=forward"}
AT_ONCE = ("--nodes=1", "--exclude=node1")


@pytest.fixture(scope="session", autouse=True)
def limited(project: Project) -> int:
    """Submit, before all else, a job that its time limit interrupts, alone on node1; return its number."""
    return project.submit("--nodelist=node1", "--nodes=1", "--time=1", "--signal=B:USR1@50", environment=SLOWER)


@dataclass(frozen=True)
class Silent:
    """A job that lost a node on a cluster of its own, where Slurm does not notice that."""

    project: Project
    job: int
    lost: str


@pytest.fixture(scope="module", autouse=True)
def silent(cluster: Cluster, open_mpi: Mpi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silent]:
    """Cut the power of a node early: it takes a while until the job is back."""
    with Cluster(3, partition="cpu-long_2", notices_s=3600) as other:
        project = Project(other, tmp_path_factory.mktemp("silent"))
        arguments = ("--set", f"train.epochs={EPOCHS}", "--set", "run.stall_warn_s=4", "--set", "run.stall_abort_s=8")
        size = ("--nodes=3", "--ntasks-per-node=1")
        job = project.submit(*size, mpi=open_mpi, environment=SLOW, arguments=("jobs/digits_mlp.toml", *arguments))
        project.wait_for_epochs(job)
        lost = other.nodes_of(job)[-1]
        other.crash(lost)
        yield Silent(project, job, lost)


def check_came_back(project: Project, job: int, sha256: str, attempts: int = 2) -> None:
    """Check that the job got there in at least so many attempts, on record, none of them in vain."""
    assert project.cluster.wait(job) == "COMPLETED", project.output(job)
    assert project.sha256(job) == sha256
    lines = project.attempts(job)
    starts = [line for line in lines if line["event"] == "start"]
    assert [line["attempt"] for line in starts] == list(range(len(starts)))
    assert len(starts) >= attempts
    assert {line["job_id"] for line in lines} == {job}
    assert sorted(line["step"] for line in lines) == [line["step"] for line in lines]
    assert (lines[-1]["exit_code"], lines[-1]["step"]) == (0, STEPS)
    logs = {path.name for path in (project.run(job) / "logs").iterdir()}
    assert logs == {f"attempt-{number}.log" for number in range(len(starts))}


def test_preempted(project: Project, mpich: Mpi, open_mpi: Mpi, undisturbed: str) -> None:
    nodes = "--nodelist=node3,node4"
    by_srun = project.submit(nodes, mpi=mpich, environment=SLOW | {"HPCNN_LAUNCHER": "srun"})
    by_mpirun = project.submit(nodes, mpi=open_mpi, environment=SLOW)
    for job in (by_srun, by_mpirun):
        project.wait_for_epochs(job)
    urgent = ("--partition=urgent", nodes, "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true")
    assert project.cluster.wait(project.cluster.sbatch(*urgent, cwd=project.folder)) == "COMPLETED"
    for job in (by_srun, by_mpirun):
        check_came_back(project, job, undisturbed)
        _, end, *_ = project.attempts(job)
        assert end["exit_code"] != 0
        assert 23 < end["step"] < STEPS  # asked by USR1, it saved before it made way
        assert "Slurm sent SIGUSR1" in project.output(job)


def test_requeued_by_a_person(project: Project, undisturbed: str) -> None:
    job = project.submit("--exclude=node1", environment=SLOW)
    project.wait_for_epochs(job)
    project.cluster.run(["scontrol", "requeue", str(job)], check=True)
    check_came_back(project, job, undisturbed)


def test_cancelled_jobs_stay_away(project: Project) -> None:
    job = project.submit(*AT_ONCE, environment=SLOW)
    project.wait_for_epochs(job)
    project.cluster.run(["scancel", str(job)], check=True)
    assert project.cluster.wait(job) == "CANCELLED", project.output(job)
    assert "requeued" not in project.output(job)
    assert not (project.run(job) / "result.json").exists()


def test_a_run_that_was_asked_to_stop_stays_away(project: Project) -> None:
    """As by `hpcnn cancel`: a file in the run folder, then the signal to save."""
    job = project.submit(*AT_ONCE, environment=SLOW)
    project.wait_for_epochs(job)
    (project.run(job) / "cancelled").touch()
    project.cluster.run(["scancel", "--batch", "--signal=USR1", str(job)], check=True)
    assert project.cluster.wait(job) == "FAILED", project.output(job)
    assert "stopped on request" in project.output(job)
    assert project.attempts(job)[-1]["exit_code"] == 75


def test_a_restart_without_progress_is_the_last(project: Project) -> None:
    job = project.submit(*AT_ONCE, environment=FAILS)
    assert project.cluster.wait(job) == "FAILED"
    assert [line["step"] for line in project.attempts(job)] == [0, 0, 0, 0]
    assert "no step was saved since step 0" in project.output(job)


def test_restarts_are_counted(project: Project) -> None:
    job = project.submit(*AT_ONCE, environment=FAILS | {"HPCNN_MAX_RESTARTS": "0"})
    assert project.cluster.wait(job) == "FAILED"
    assert "not finished after 0 restarts" in project.output(job)
    assert len(project.attempts(job)) == 2


def test_a_job_that_may_not_come_back_says_how_to_go_on(project: Project, undisturbed: str) -> None:
    job = project.submit(*AT_ONCE, "--no-requeue", environment=SLOW)
    project.wait_for_epochs(job)
    project.cluster.run(["scancel", "--batch", "--signal=USR1", str(job)], check=True)
    assert project.cluster.wait(job) == "FAILED"
    assert "it needs sbatch --requeue" in project.output(job)
    (out,) = re.findall(r"with --out '(.*)'", project.output(job))
    arguments = ("jobs/digits_mlp.toml", "--set", "train.epochs=6", "--out", out)
    again = project.submit(arguments=arguments)
    assert project.cluster.wait(again) == "COMPLETED", project.output(again)
    assert project.sha256(job) == undisturbed


def test_a_launcher_that_lies_is_not_believed(project: Project, tmp_path: Path) -> None:
    """Some mpirun ends with 0 after the loss of a node."""
    liar = tmp_path / "liar"
    liar.write_text("#!/bin/sh\nexit 0\n")
    liar.chmod(0o755)
    job = project.submit(*AT_ONCE, environment={"HPCNN_LAUNCHER": str(liar), "HPCNN_MAX_RESTARTS": "0"})
    assert project.cluster.wait(job) == "FAILED"
    assert "the launcher reported success, but the run is not finished" in project.output(job)


def test_loss_of_a_node_and_back_with_fewer(cluster: Cluster, project: Project, undisturbed: str) -> None:
    """A node stops, its connections break, and the launcher ends before Slurm knows: the template requeues."""
    shrink = {"HPCNN_ON_NODE_LOSS": "shrink"}
    job = project.submit("--nodes=3", "--exclude=node1", environment=SLOW | shrink)
    project.wait_for_epochs(job)
    lost = cluster.nodes_of(job)[-1]
    cluster.crash(lost, silent=False)
    cluster.wait_until(lambda: f"nodes that do not answer: {lost}" in project.output(job), "the template to see it")
    cluster.wait_until(lambda: "requeued" in project.output(job), "the template to requeue the job")
    cluster.restore(lost)
    check_came_back(project, job, undisturbed)
    starts = [line for line in project.attempts(job) if line["event"] == "start"]
    assert [(line["nodes"], line["tasks"]) for line in starts] == [(3, 6), (2, 4)]
    excluded = cluster.run(["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%x"]).stdout.strip()
    assert excluded == f"node[1,{lost[-1]}]"  # what the user excludes stays excluded


def test_loss_of_the_first_node(cluster: Cluster, project: Project, open_mpi: Mpi, undisturbed: str) -> None:
    """The power of the node that the template runs on fails: Slurm notices and requeues."""
    job = project.submit("--nodes=2", "--exclude=node1", mpi=open_mpi, environment=SLOW)
    project.wait_for_epochs(job)
    lost = cluster.nodes_of(job)[0]
    cluster.crash(lost)
    cluster.wait_until(lambda: cluster.state(job) == "PENDING", "Slurm to notice")
    cluster.restore(lost)
    check_came_back(project, job, undisturbed)


def test_slurm_does_not_notice_that_a_node_is_silent(silent: Silent, undisturbed: str) -> None:
    """The watchdog ends the ranks, and the template mpirun, which would wait for its daemon on that node.

    There are no other nodes: the job waits until the one that was lost is back.
    """
    cluster, project, job = silent.project.cluster, silent.project, silent.job
    cluster.wait_until(lambda: "requeued" in project.output(job), "the template to requeue the job")
    cluster.run(["scontrol", "update", f"NodeName={silent.lost}", "State=DOWN", "Reason=silent"], check=True)
    cluster.wait_until(lambda: cluster.state(job) == "PENDING", "the job to wait for its start")
    cluster.restore(silent.lost)
    reason = ["squeue", "--noheader", "--format=%r %x"]  # Slurm has none at once; the nodes to avoid would follow
    cluster.wait_until(lambda: cluster.run(reason, check=True).stdout.split() != ["None"], "Slurm to say why it waits")
    assert cluster.run(reason, check=True).stdout.split() == ["BeginTime"]
    cluster.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
    check_came_back(project, job, undisturbed)
    said = project.output(job)
    assert "The job ends, since run.stall_abort_s = 8." in said
    assert "the ranks on this node ended, but mpirun still runs" in said
    assert f"nodes that do not answer: {silent.lost}" in said


def test_time_limit(project: Project, limited: int, undisturbed: str) -> None:
    """The last of all, as it takes longest."""
    check_came_back(project, limited, undisturbed, attempts=3)
    *stops, last = [line for line in project.attempts(limited) if line["event"] == "end"]
    assert last["exit_code"] == 0
    before = {stop["attempt"]: stop["step"] for stop in [{"attempt": -1, "step": 0}, *stops]}
    # A warning may meet mpiexec (255) or a rank (killed by signal 10) while it starts: then nothing was done yet.
    in_vain = [stop for stop in stops if stop["step"] == before[stop["attempt"] - 1]]
    assert {stop["exit_code"] for stop in in_vain} <= {75, 255, signal.SIGUSR1}
    orderly = [stop for stop in stops if stop not in in_vain]
    assert {stop["exit_code"] for stop in orderly} == {75}
    logs = [(project.run(limited) / "logs" / f"attempt-{stop['attempt']}.log").read_text() for stop in orderly]
    assert all("stopped on SIGUSR1" in log for log in logs)
    # The last attempt may be warned as well, when it is done already.
    assert project.output(limited).count("Slurm sent SIGUSR1") in (len(stops), len(stops) + 1)
