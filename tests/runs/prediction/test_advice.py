"""How many nodes pay for a run, by what it measured: against formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcnn.comm.network import Network
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.job.load import builtin_jobs, load_job
from hpcnn.runs.build import build_training
from hpcnn.runs.prediction.advice import Advice, advise
from hpcnn.runs.prediction.model import Sums
from hpcnn.runs.prediction.record import ExchangeRecord, RunTimes, measuring

JOB = load_job(builtin_jobs() / "digits_mlp.toml", ["train.shards=8"]).job
LENGTH = 25_000
RECORD = ExchangeRecord(64, Sums(LENGTH, 0, ()), None, 1e-11)
SLOW = Network(0.0, 0.0, 1e-6)


def times(hosts: str = "a", record: ExchangeRecord | None = RECORD, **phases: float) -> RunTimes:
    """Return those of 10 steps; by default each computes a second."""
    found = RunTimes()
    seconds = {"forward": 4.0, "backward": 6.0} | phases
    found.add(list(hosts), {phase: [each] * len(hosts) for phase, each in seconds.items()}, 10, record)
    return found


def advised(*arguments: object, scale: float = 260.0, **more: object) -> Advice:
    advice = advise(JOB, times(*arguments, **more), scale)  # type: ignore[arg-type]
    assert isinstance(advice, Advice)
    return advice


def test_where_computation_is_all_the_noise_scale_alone_decides() -> None:
    """n nodes of 64 samples make progress as (1 + 64/260) / (1 + 64 n/260) of one: just half at n = 6."""
    advice = advised()
    assert (advice.pay, advice.wasteful) == (6, 12)
    assert advice.efficiency == pytest.approx((1 + 64 / 260) / (1 + 12 * 64 / 260), rel=1e-3)
    assert advice.verdict == (
        "at most 6 nodes of 1 rank pay; 12 waste 68 % of their time; messages between nodes are not counted"
    )
    assert advised("aa").pay == 6  # two ranks a node with half of the samples each


def test_the_network_that_the_run_measured_counts() -> None:
    """Of n nodes each sends 2 (n-1)/n of 100 kB at a microsecond a byte, beside a second for its 32 samples.

    The update takes 0.1 s; up to 6 ranks share it, which have 4,096 parameters each.
    """
    advice = advised("ab", replace(RECORD, network=SLOW), wait=2.0, reduce=1.0, optimizer=0.5)
    assert (advice.own_nodes, advice.samples, advice.compute_s) == (2, 32, 1.0)
    assert advice.predicted_s == pytest.approx(1.15, rel=1e-3)
    assert advice.measured_s == pytest.approx(1.35)

    def step_s(nodes: int) -> float:
        return 1 + (0.1 / nodes if nodes <= 6 else 0.1) + 0.2 * (nodes - 1) / nodes

    n = advice.pay
    worth = [(1 + 32 / 260) / (1 + 32 * each / 260) * 1.1 / step_s(each) for each in (n, n + 1, 2 * n)]
    assert worth[0] >= 0.5 > worth[1]
    assert advice.efficiency == pytest.approx(worth[2], rel=1e-3)
    assert advice.verdict == f"{n} nodes of 1 rank pay; {2 * n} waste {100 * (1 - worth[2]):.0f} % of their time"
    assert "The network is that of the run: 0 us, 0.00800 Gbit/s." in advice.basis


def test_the_most_that_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.runs.prediction.advice.MOST_RANKS", 40)
    advice = advised("aa", scale=1e9)
    assert (advice.pay, advice.wasteful) == (16, None)
    assert "16 nodes of 2 ranks pay, the most that were looked at, at an efficiency of 100 %" in advice.verdict


def test_a_step_that_waits_for_cores_is_named() -> None:
    assert not any("wait for a core" in each for each in advised().basis)
    assert any("wait for a core" in each for each in advised(wait=9.0).basis)


@pytest.mark.parametrize(
    ("given", "scale", "lack"),
    [
        (times(), None, "the noise scale is not known. Train with train.shards of 2 or more and run.noise_scale_every"),
        (times(), 0.0, "the noise scale is not known"),
        (RunTimes(), 256.0, "time.jsonl does not tell what a step's exchange depends on"),
        (times(record=None), 256.0, "time.jsonl does not tell what a step's exchange depends on"),
        (times("abb"), 256.0, "the nodes had different numbers of ranks. Start as many on each."),
        (times(forward=0.0, backward=0.0), 256.0, "its steps were too short to be measured"),
        (times("a" * 20_000), 256.0, "there were more than 16,384 ranks. hpcnn predict-scaling --run RUN"),
    ],
)
def test_what_a_run_lacks(given: RunTimes, scale: float | None, lack: str) -> None:
    said = advise(JOB, given, scale)
    assert isinstance(said, str)
    assert said.startswith("No advice on how many nodes pay")
    assert lack in said


def test_first_steps_and_those_of_other_ranks_do_not_count() -> None:
    found = RunTimes()
    found.add(["a", "a"], {"forward": [8.0, 8.0]}, 2, RECORD)
    found.add(["a"], {"set-up": [1.0], "forward": [50.0]}, 5, RECORD)
    assert (found.steps, found.of("forward")) == (5, [50.0])
    found.add(["a"], {"set-up": [0.0], "forward": [10.0], "backward": [1.0]}, 10)
    found.add(["a"], {"forward": [20.0]}, 20)
    found.add(["a"], {"forward": [7.0]}, 0)
    assert (found.steps, found.of("forward", "backward"), found.record) == (30, [31.0], RECORD)


def test_the_record_of_a_run() -> None:
    """All ranks have the same, and it survives JSON; contributions are as empty as before."""

    def body(comm: ThreadCommunicator) -> ExchangeRecord:
        training = build_training(JOB, Path(), comm)
        measure = measuring(64, Sums.of(training.spec))
        contributions = training.replica.updater.exchange.contributions
        record = measure(comm, training.replica, comm.allgather(comm.host))
        assert not any(each.vector.any() for each in contributions)
        return record

    first, *others = run_threads(3, body, host_of_rank=[0, 0, 1])
    assert others == [first, first]
    assert first.sums == Sums(26_122, first.sums.stats_length, ())
    assert 0 < first.memory_byte_s < 1e-6
    assert ExchangeRecord.read(first.plain) == first
    known = replace(first, network=SLOW)
    assert ExchangeRecord.read(known.plain) == known


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 0},
        {"memory_byte_s": -1.0},
        {"memory_byte_s": float("nan")},
        {"network": {"latency_s": 1.0}},
        {"sums": 3},
    ],
)
def test_a_damaged_record_is_none(change: dict[str, object]) -> None:
    assert ExchangeRecord.read(RECORD.plain | change) is None
    assert ExchangeRecord.read(None) is None
