"""`hpcnn predict-scaling`: the model of a step, how many nodes pay, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hpcnn import predict_scaling
from hpcnn.comm.exchange.choice import ADDITION_S, CONVERSION_S, ROUNDING_S, TRAFFIC, Workload
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.network import Machine, Network
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.simulated import run_simulated
from hpcnn.comm.threads import ThreadCommunicator
from hpcnn.errors import HpcnnError
from hpcnn.job.load import builtin_jobs, load_job
from hpcnn.runs.prediction.compute import Compute
from hpcnn.runs.prediction.model import Sums, model_of
from hpcnn.runs.prediction.steps import Cluster, Model, Scaling, Step, most_that_pay, predict_step
from hpcnn.tools.prediction.report import Prediction, sentences
from hpcnn.tools.show.open_job import open_job

NETWORK = Network(2e-6, 2e-7, 8e-11)
CLUSTER = Cluster(Machine(NETWORK, None, 1e-11), 1)
MODEL = Model(
    compute=Compute(1e-3, 1e-4, 2e-3),
    length=25_450,
    item_bytes=4,
    stats_length=8,
    shards=1,
    gathers=False,
    shares_update=lambda ranks, nodes: ranks > 2,
    memory=lambda ranks, batch: 1000 * batch // ranks,
)


def predict(*arguments: str | Path) -> int:
    return predict_scaling.run(SerialCommunicator(), predict_scaling.parsed(list(map(str, arguments))))


def scaling(*batches_and_seconds: tuple[int, float]) -> Scaling:
    return Scaling(
        [Step(2**n, 2**n, batch, {"compute": s}, "direct", 0, 0, 0) for n, (batch, s) in enumerate(batches_and_seconds)]
    )


def test_the_messages_are_those_of_the_real_exchange() -> None:
    """Time, bytes and messages of a step against the real exchange on simulated ranks."""

    def prepare(comm: ThreadCommunicator):
        return comm.exchange(64, MODEL.length, "float32", MODEL.stats_length).allreduce

    step = predict_step(MODEL, CLUSTER, 64, 64)
    outcome = run_simulated(range(64), prepare, network=NETWORK, halving=step.algorithm == "halving")
    assert step.parts["network"] == pytest.approx(outcome.seconds, rel=0.02)
    assert step.messages == max(count.messages for count in outcome.counts)
    assert step.sent_bytes == pytest.approx(max(count.sent_bytes for count in outcome.counts), rel=0.01)


def test_the_parts_of_a_step() -> None:
    one, two, four = (predict_step(MODEL, CLUSTER, nodes, 8 * nodes) for nodes in (1, 2, 4))
    assert one.parts == pytest.approx({"compute": 1.8e-3, "update": 2e-3, "sums": 0, "network": 0})
    assert (one.sent_bytes, one.memory_bytes, one.seconds) == (0, 8000, pytest.approx(3.8e-3))
    assert two.parts["update"] == 2e-3
    assert four.parts["update"] == 5e-4
    assert two.parts["network"] > 2 * MODEL.length * 4 / 2 * 8e-11
    assert predict_step(MODEL, replace(CLUSTER, hidden=1.0), 4, 32).parts["network"] == 0
    assert predict_step(MODEL, CLUSTER, 4, 10).parts["compute"] == pytest.approx(1.3e-3)  # 3 samples, not 2.5


def test_each_sum_of_batch_normalisation_is_an_exchange_that_nothing_hides() -> None:
    hidden = replace(CLUSTER, hidden=1.0)
    plain, normal = (predict_step(replace(MODEL, batch_sums=sums), hidden, 16, 16) for sums in ((), (65, 65, 33)))
    assert plain.parts["network"] == 0
    assert normal.parts["network"] > 3 * 4 * NETWORK.latency_s
    assert normal.messages >= plain.messages + 3 * 4
    assert normal.parts["sums"] > plain.parts["sums"]
    assert predict_step(replace(MODEL, batch_sums=(65,)), CLUSTER, 1, 16).parts["sums"] == 0


def test_batch_normalisation_of_a_job_is_counted(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("""
[data]
source = "digits"
[model]
layers = [
    { type = "dense", units = 5 },
    { type = "batch_normalization" },
    { type = "dense", units = 10, activation = "softmax" },
]
[loss]
name = "sparse_categorical_crossentropy"
""")
    assert Sums.of(open_job(tmp_path / "job.toml", [], 1).spec).batch_sums == (11, 11)


def test_sums_of_long_vectors_are_as_fast_as_the_memory_of_a_node() -> None:
    long = replace(MODEL, length=10**7)
    one = predict_step(long, Cluster(Machine(None, Network(1e-6, 0, 1e-9), 1e-11), 16), 1, 16)
    assert one.parts["sums"] == pytest.approx(17 * 4e7 * 1e-11, rel=0.01)
    work = Workload(Topology.of([0] * 16), 16, 100, 4, 8)
    short = predict_step(replace(MODEL, length=100), Cluster(Machine(None, None, 1.0), 16), 1, 16)  # in the cache
    assert short.parts["sums"] == pytest.approx(TRAFFIC["direct"](work).additions * ADDITION_S + 12e-6, rel=0.02)


def model(*overrides: str) -> Model:
    job = load_job(builtin_jobs() / "digits_mlp.toml", ["train.shards=8", *overrides]).job
    return model_of(job, Sums(10**7, 8, ()), Compute(1.0, 0.0))


def test_settings_of_the_exchange() -> None:
    """Buckets as a run has them; rounded sums travel in two bytes, and rounding and converting takes its time."""
    exact, rounded = model(), model("train.compression=bf16")
    assert [exact.buckets(nodes) for nodes in (1, 2)] == [1, 8]
    assert model("train.bucket_mb=0").buckets(2) == 1
    assert model("train.bucket_mb=4").buckets(1) == 10
    assert model("run.on_rank_loss=continue").buckets(2) == 1
    assert [exact.shares_update(4, nodes) for nodes in (1, 2)] == [True, True]
    assert [rounded.shares_update(4, nodes) for nodes in (1, 2)] == [True, False]
    before, after = (predict_step(each, CLUSTER, 2, 16) for each in (exact, rounded))
    assert after.sent_bytes == pytest.approx(before.sent_bytes / 2, rel=1e-3)
    # Each host rounds all entries of its sum and half of the total; it decodes half of the sums, and of the results it
    # encodes one half and decodes the other.
    conversions_s = 10**7 * (1.5 * ROUNDING_S + 1.5 * CONVERSION_S)
    # Residuals are read and written: of the sum, and of its half of the total.
    residuals_s = 4 * 10**7 * (2 + 1) * 1e-11
    assert after.parts["sums"] - before.parts["sums"] == pytest.approx(conversions_s + residuals_s, rel=1e-3)


def test_short_vectors_are_gathered_where_each_rank_updates_everything() -> None:
    short = replace(MODEL, length=100, gathers=True)
    two = Cluster(CLUSTER.machine, 2)
    found = [predict_step(replace(short, shares_update=lambda *_, s=s: s), two, 1, 8) for s in (False, True)]
    assert [step.algorithm for step in found] == ["gather", "direct"]


def test_more_messages_of_buckets_are_counted() -> None:
    one, eight = (predict_step(model(f"train.bucket_mb={mb}"), CLUSTER, 1024, 1024) for mb in (0, 5))
    assert (one.algorithm, one.messages) == ("direct", 1023 * 4)
    assert (eight.algorithm, eight.messages) == ("direct", 1023 * 18)


def test_the_line_through_two_measurements_never_falls() -> None:
    assert Compute.through((8, 2.0), (32, 1.0), 0.5) == Compute(0, 1 / 32, 0.5)
    assert Compute.through((1, 2.0), (1, 2.0), 0.0) == Compute(0, 2.0)
    assert Compute.through((8, 0.1), (16, 1.0), 0.0) == Compute(0, 1 / 16)


def test_nodes_pay_while_half_of_their_time_counts() -> None:
    steps = scaling((8, 1.0), (8, 0.6), (8, 0.5), (8, 0.25))
    assert steps.efficiencies == pytest.approx([1, 1 / 1.2, 0.5, 0.5])
    assert most_that_pay(steps.steps, [1.0, 0.4, 0.9]) == 0


def test_the_adviser_counts_what_a_large_batch_is_worth() -> None:
    """At twice the noise scale a batch is worth as many samples again as three batches of half of it take."""
    weak = scaling((100, 1.0), (200, 1.0), (400, 1.0), (800, 1.0))
    assert weak.efficiencies == [1.0, 1.0, 1.0, 1.0]
    assert weak.towards(200.0) == pytest.approx([1, 1.5 / 2, 1.5 / 3, 1.5 / 5])
    found = Prediction("toy", CLUSTER, MODEL.compute, weak, scaling((100, 1.0), (100, 0.9)), 200.0)
    assert sentences(found) == [
        "weak scaling: 8 nodes pay, the most that were asked for, at an efficiency of 100 %",
        "strong scaling: 2 nodes pay, the most that were asked for, at an efficiency of 56 %",
        "critical batch about 200 samples: 2 times the batch of 100; twice the batch needs about 67 % of the steps",
        "with batches that grow, to the same loss: 4 nodes pay; 8 waste 70 % of their time",
    ]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    given = ["--nodes", "1-1024", "--tasks-per-node", "4", "--batch-per-rank", "128", "--memory", "100GB/s"]
    assert predict(*given, "--network", "100Gb/s,2us", "--step", "12ms", "--json", figures) == 0
    said = capsys.readouterr().out
    assert "weak scaling, 4 ranks a node, 128 samples a rank" in said
    assert "weak scaling: 1,024 nodes pay" in said
    assert "strong scaling ends where ranks outnumber the 512 samples of a step" in said
    found = json.loads(figures.read_text())
    assert [row["nodes"] for row in found["weak"]] == [2**power for power in range(11)]
    assert found["weak"][3]["seconds"] == pytest.approx(sum(found["weak"][3]["parts"].values()))
    assert found["strong"][-1]["ranks"] == 512


def test_a_step_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("--nodes", "1,2", "--steps", "2") == 0
    assert "memory is as fast as the ranks of this command find it" in capsys.readouterr().out


def test_a_run_says_how_many_nodes_pay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.toml").write_text((builtin_jobs() / "digits_mlp.toml").read_text())
    given = ["--run", tmp_path, "--step", "2ms", "--nodes", "1-16", "--batch-per-rank", "64", "--memory", "50"]
    with pytest.raises(HpcnnError, match=r"has no noise scale: its metrics\.jsonl names none"):
        predict(*given)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "noise_scale": 200.0}\n{"epoch": 2, "noise_scale": null}\n')
    assert predict(*given) == 0
    said = capsys.readouterr().out
    assert "critical batch about 200 samples: 3.1 times the batch of 64" in said
    assert "to the same loss: 4 nodes pay; 8 waste " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "8-1"], "'8-1' ends before it begins"),
        (["--nodes", "0"], "'0' must be an integer from 1"),
        (["--nodes", "1-999999", "--tasks-per-node", "64"], "must be at most 262,144 ranks"),
        (["--step", "12"], "'12' is no time. Give a number and us, ms or s, such as 12ms"),
        (["--step", "0ms"], "must be a positive number of seconds"),
        (["--hidden", "2"], "'2' must be a number from 0 to 1"),
        (["--memory", "0"], "'0' must be a positive number of GB/s"),
        (["a.toml", "--run", "runs"], "JOB and --run exclude each other"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        predict_scaling.main(arguments)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "fast"], "--network is 'fast', but must be a latency and a bandwidth"),
        (["--network", "none.json"], "--network: 'none.json' can't be read"),
        (["none.toml"], "none.toml"),
        (["--plot", "a.pdf"], "must be a .png or a .svg file"),
        (["--run", "none"], "there is no run folder 'none'"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HpcnnError, match=message):
        predict(*arguments, "--step", "1ms")


def test_a_network_measured_on_one_node_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"network": {"between": null, "memory_byte_s": 1e-11}}')
    given = ["--network", tmp_path / "one.json", "--step", "1ms", "--nodes"]
    with pytest.raises(HpcnnError, match="was measured on one node, which says nothing of 2"):
        predict(*given, "2")
    assert predict(*given, "1") == 0
