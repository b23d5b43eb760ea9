"""What Slurm's programs print, read; and what they complain about, in plain words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcnn.slurm import client
from hpcnn.slurm.client import NoSlurmError, clean_environment, run_slurm
from hpcnn.slurm.messages import SlurmError, explain_error, reason_in_words
from hpcnn.slurm.queue import QueuedJob, elements_of, is_job_id, parse_queue, queued, recorded_state, seconds

Put = Callable[[str, str], Path]
TYPED = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"])).map(str.strip)


def printed(*jobs: list[str]) -> str:
    return "".join("\x1f".join(values) + "\x1e\n" for values in jobs)


@given(name=TYPED, folder=TYPED)
def test_any_name_and_folder_come_through(name: str, folder: str) -> None:
    values = ["7", "PENDING", "Priority", "2", "", "5:00", "N/A", f"hpcnn:/{folder}", name]
    (job,) = parse_queue(printed(values))
    assert (job.name, job.folder) == (name if name not in ("(null)", "N/A", "n/a") else "", f"/{folder}")


def test_a_queue() -> None:
    first, second = parse_queue(
        printed(
            ["12_3", "RUNNING", "None", "2", "node[1-2]", "1-00:00:01", "2026-01-02T03:04:05", "hpcnn:/r", "a"],
            ["13_[4-9%2]", "PENDING", "JobArrayTaskLimit", "1-4", "", "UNLIMITED", "N/A", "(null)", "b"],
        )
    )
    assert first == QueuedJob(
        "12_3", "RUNNING", "None", 2, "node[1-2]", 86401.0, "2026-01-02T03:04:05", "hpcnn:/r", "a"
    )
    assert (first.number, first.element, first.active) == ("12", "3", True)
    assert (second.number, second.element, second.folder) == ("13", "", "")
    assert (second.nodes, second.left_s, second.start) == (0, None, "")


def test_an_empty_queue_and_half_a_line() -> None:
    assert parse_queue("") == parse_queue("\n") == parse_queue("7\x1fRUNNING\x1e\n") == []


@pytest.mark.parametrize(
    ("state", "active"),
    [("PENDING", True), ("RUNNING", True), ("COMPLETING", True), ("SUSPENDED", True), ("REQUEUE_HOLD", True)]
    + [(state, False) for state in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY")],
)
def test_which_jobs_have_not_ended(state: str, active: bool) -> None:
    assert QueuedJob("1", state).active is active


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_times(days: int, hours: int, minutes: int, rest: int) -> None:
    text = f"{days}-{hours:02d}:{minutes:02d}:{rest:02d}"
    assert seconds(text) == ((days * 24 + hours) * 60 + minutes) * 60 + rest
    assert seconds(f"{minutes}:{rest:02d}") == minutes * 60 + rest


@pytest.mark.parametrize("text", ["UNLIMITED", "INVALID", "NOT_SET", "", "N/A", "5"])
def test_what_is_no_time(text: str) -> None:
    assert seconds(text) is None


@pytest.mark.parametrize(("text", "yes"), [("12", True), ("12_3", True), ("0", False), ("runs", False), ("1_", False)])
def test_what_is_a_job(text: str, yes: bool) -> None:
    assert is_job_id(text) is yes


def test_elements() -> None:
    assert elements_of("9_[1-7:3,20%2]") == [1, 4, 7, 20]
    assert elements_of("9") == []


# ------------------------------------------------------------------------------------------------ the programs


def test_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoSlurmError, match="no program 'squeue' here: this machine does not belong to a Slurm cluster"):
        queued()


def test_slurm_without_a_cluster(put: Put) -> None:
    put("squeue", "echo 'squeue: fatal: Unable to process configuration file' >&2; exit 1")
    with pytest.raises(NoSlurmError, match="this machine belongs to no cluster"):
        queued()


def test_a_program_that_does_not_come_back(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put("squeue", "exec sleep 60")
    monkeypatch.setattr(client, "TIMEOUT_S", 0.1)
    with pytest.raises(SlurmError, match=r"squeue did not answer within .* controller is down or busy"):
        queued()


def test_a_job_that_is_gone_is_no_error(put: Put) -> None:
    put("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert queued("99") == []


def test_a_controller_that_is_down_is_one(put: Put) -> None:
    put("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(SlurmError, match="controller does not answer"):
        queued("99")


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("echo TIMEOUT", "TIMEOUT"),
        ("echo 'CANCELLED by 1000'", "CANCELLED"),
        ("true", ""),
        ("echo 'Slurm accounting storage is disabled' >&2; exit 1", ""),
    ],
)
def test_records(put: Put, script: str, state: str) -> None:
    put("squeue", "true")
    put("sacct", script)
    assert recorded_state("7") == state


def test_the_queue_remembers_a_job_for_some_minutes(put: Put) -> None:
    fields = "\\037".join(["7", "OUT_OF_MEMORY", *[""] * 7])
    put("squeue", f"printf '{fields}\\036'")
    assert recorded_state("7") == "OUT_OF_MEMORY"


def test_what_changes_the_answers_does_not_get_through(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put("env-of", "env")
    for name in ("SQUEUE_PARTITION", "SACCT_FORMAT", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "x")
    assert not {"SQUEUE_PARTITION", "SACCT_FORMAT", "SLURM_TIME_FORMAT"} & {
        line.partition("=")[0] for line in run_slurm("env-of").splitlines()
    }


def test_a_job_does_not_pass_on_what_it_is() -> None:
    inside = {"SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": "2", "SLURM_CONF": "/c", "SBATCH_ACCOUNT": "a"}
    assert clean_environment(inside) == {"SLURM_CONF": "/c", "SBATCH_ACCOUNT": "a"}
    assert clean_environment({"SLURM_CONF": "/c", "SLURM_X": "y"}) == {"SLURM_CONF": "/c", "SLURM_X": "y"}


# ------------------------------------------------------------------------------------------------ in plain words


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("sbatch: error: invalid partition specified: nope\nallocation failure: Invalid partition name", "--partition"),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination", "--account"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "shorter --time"),
        ("sbatch: error: Invalid --time specification", "HOURS:MINUTES:SECONDS"),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", "limit of your"),
        ("sbatch: error: Invalid generic resource (gres) specification", "no such --gres"),
        ("allocation failure: Requested node configuration is not available", "--tasks-per-node times"),
        ("allocation failure: Invalid feature specification", "feature"),
        ("allocation failure: Invalid node name specified", "no such node"),
        ("allocation failure: Requested reservation is invalid", "no such reservation"),
        ("allocation failure: Invalid job array specification", "0-5%2"),
        ("Job dependency problem", "--after"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "scontrol ping"),
        ("squeue: error: ClusterName needs to be specified", "belongs to no cluster"),
        ("sbatch: error: Munge encode failed: Failed to access", "munge"),
        ("scancel: error: Kill job error on job id 7: Access/permission denied", "no right"),
    ],
)
def test_messages_say_what_to_do(said: str, meaning: str) -> None:
    assert meaning in explain_error(said)


def test_an_unknown_message_is_passed_on() -> None:
    assert explain_error("sbatch: error: The moon is full\n") == "The moon is full."
    assert explain_error("") == "it does not say why."
    assert len(explain_error("x" * 10_000)) < 500


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "others are before it (Priority)"),
        ("ReqNodeNotAvail,_UnavailableNodes:node3", "a node that it needs"),
        ("QOSGrpNodeLimit", "a limit of your account or QOS is reached (QOSGrpNodeLimit)"),
        ("None", "about to be looked at"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_reasons(reason: str, words: str) -> None:
    assert reason_in_words(reason).startswith(words)
