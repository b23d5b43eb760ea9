"""What a run of a scaling study trains: the job itself, to the bit, and the same network in PyTorch."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.errors import CommunicatorError, DivergedError, JobError
from hpcnn.job.schema import Job
from hpcnn.runs.build import build_training
from hpcnn.tools.scaling import measure
from hpcnn.tools.scaling.figures import Figures, summary
from hpcnn.tools.scaling.measure import measure_run, take_turns
from hpcnn.tools.scaling.sides import own_side
from hpcnn.tools.scaling.torch_ddp import _interface_to, check_torch, make_module, make_optimizer
from tests.require import require
from tests.small_jobs import make_job, train
from tests.tools.test_scaling_plan import plan_of

DENSE: list[dict[str, Any]] = [
    {"type": "flatten"},
    {"type": "dense", "units": 9, "activation": "tanh"},
    {"type": "dropout", "rate": 0.0},
    {"type": "activation", "activation": "relu"},
    {"type": "dense", "units": 3, "activation": "softmax"},
]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure twice, after two steps: with two steps each, the six steps of two epochs."""
    monkeypatch.setattr(measure, "WARM_UP", 2)
    monkeypatch.setattr(measure, "ROUNDS", 2)


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_bits_are_those_of_the_training_itself(few: None, ranks: int) -> None:
    job = make_job()

    def body(comm: ThreadCommunicator | SerialCommunicator) -> dict[str, Any]:
        return take_turns(comm, [own_side(build_training(job, Path(), comm), comm)], 2)["hpcnn"]

    found = run_threads(ranks, body)[0] if ranks > 1 else body(SerialCommunicator())
    assert found["weights_sha256"] == train(job).fingerprint
    assert (found["steps"], found["samples"]) == (6, [17, 17])  # batches of 13, 13 and 4
    assert len(found["seconds"]) == 2
    assert min(found["seconds"]) > 0


def test_a_run_that_diverges_is_no_measurement(few: None) -> None:
    comm = SerialCommunicator()
    job = make_job(optimizer={"name": "sgd", "learning_rate": 1e30})
    with pytest.raises(DivergedError, match=r"step \d+: .* is not finite, so its time says nothing"):
        take_turns(comm, [own_side(build_training(job, Path(), comm), comm)], 9)


def test_a_run_on_one_rank(few: None) -> None:
    """PyTorch trains beside it, if it is installed, or the figures say why not."""
    plan = plan_of(nodes="1,2", tasks_per_node=1, steps=3)
    raw = measure_run(plan, plan.run("strong-1"), SerialCommunicator())
    assert json.loads(json.dumps(raw)) == raw
    run = Figures(raw)
    assert (run.nodes, run.ranks, raw["batch_size"], raw["shards"], raw["network"]) == (1, 1, 64, 8, None)
    assert raw["left_out"]["allreduce"].startswith("one rank has nothing to exchange")
    assert raw["left_out"]["horovod"].startswith("one rank has nothing to exchange")
    assert ("ddp" in raw["sides"]) != ("ddp" in raw["left_out"])
    if "ddp" in raw["sides"]:
        assert raw["sides"]["ddp"]["samples"] == raw["sides"]["hpcnn"]["samples"]
    assert "strong-1, 1 rank: hpcnn " in summary(raw)
    assert raw["environment"]["machine"]["processor"]


def test_another_number_of_ranks_than_the_plan_has() -> None:
    plan = plan_of()
    with pytest.raises(CommunicatorError, match=r"the run strong-2 of this study takes 4 ranks, .* started 1"):
        measure_run(plan, plan.run("strong-2"), SerialCommunicator())


@pytest.mark.parametrize(("boots", "said"), [(["a", "b", "b"], False), (["a", "a", "a"], True), (["", "", ""], False)])
def test_nodes_on_one_machine_are_told(boots: list[str], said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def body(comm: ThreadCommunicator) -> list[str]:
        everyone = comm.allgather
        monkeypatch.setattr(comm, "allgather", lambda value: everyone((value[0], boots[comm.rank])))
        return measure._shared_machine(comm)

    notes = run_threads(3, body, host_of_rank=[0, 1, 1])[0]
    assert bool(notes) == said
    if said:
        assert notes[0].startswith("2 nodes here are simulated on 1 machine, whose cores and memory they share")


# ------------------------------------------------------------------------------------------------ PyTorch


@pytest.mark.parametrize(
    ("loss", "last", "targets"),
    [
        ("sparse_categorical_crossentropy", {"units": 3, "activation": "softmax"}, {}),
        ("mse", {"units": 1, "activation": "linear"}, {"kind": "linear", "classes": None}),
    ],
)
def test_the_network_in_pytorch_is_the_same(loss: str, last: dict[str, Any], targets: dict[str, Any]) -> None:
    torch = require("torch")
    data = {"source": "synthetic", "kind": "classification", "samples": 37, "features": 5, "classes": 3}
    data = {key: value for key, value in (data | targets).items() if value is not None}
    layers = [*DENSE[:-1], {"type": "dense"} | last]
    job = make_job(model={"layers": layers}, loss={"name": loss}, data=data, train={"metrics": []})
    training = build_training(job, Path(), SerialCommunicator())
    training.shards.start_epoch(0)
    samples = training.shards.shards(0, 0, 8)
    module = make_module(job, training.spec.network.input_shape)
    ours = list(training.replica.weights().values())
    with torch.no_grad():
        for parameter, array in zip(module.parameters(), ours, strict=True):
            parameter.copy_(torch.from_numpy(array.T.copy()))
        outputs = module(torch.from_numpy(samples.x))
        y = torch.from_numpy(samples.y)
        functions = torch.nn.functional
        theirs = functions.mse_loss(outputs, y) if loss == "mse" else functions.cross_entropy(outputs, y)
    stats = training.replica.train_step(0, lambda first, stop: training.shards.shards(0, first, stop), factor=1.0)
    assert theirs.item() == pytest.approx(training.replica.model.layout.values(stats)["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        ({"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True}, "SGD"),
        ({"name": "adam"}, "Adam"),
        ({"name": "adamw", "weight_decay": 0.1}, "AdamW"),
    ],
)
def test_the_optimizer_in_pytorch_is_the_same(optimizer: dict[str, Any], kind: str) -> None:
    """Two steps on a vector of constant gradient, against the job's own arithmetic."""
    torch = require("torch")
    job = make_job(optimizer=optimizer, model={"layers": DENSE}, train={"metrics": []})
    weights = torch.nn.Parameter(torch.ones(3))
    made = make_optimizer(job, [weights])
    assert type(made).__name__ == kind
    for _ in range(2):
        weights.grad = torch.full((3,), 0.5)
        made.step()
    assert weights.detach().numpy() == pytest.approx(_by_hand(job), rel=1e-5)


def _by_hand(job: Job) -> np.ndarray:
    from hpcnn.optim.build import build_optimizer
    from hpcnn.optim.optimizer import BoundOptimizer
    from hpcnn.optim.transforms import Parameter

    params = np.ones(3, np.float32)
    optimizer = build_optimizer(job.optimizer)
    bound = BoundOptimizer(optimizer, params, [slice(0, 3)], [Parameter("w", (3,), 0)])
    for step in range(2):
        bound.begin(optimizer.step_info(step, 1.0), 1.0)
        bound.gradients[0][...] = 0.5
        assert bound.check(0)
        bound.update(0)
    return params


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"name": "mae"}}, "only the losses sparse_categorical_crossentropy, binary_crossentropy and mse"),
        ({"loss": {"name": "sparse_categorical_crossentropy", "label_smoothing": 0.1}}, "without options"),
        (
            {"model": {"layers": [*DENSE[:-1], {"type": "dense", "units": 3, "activation": "softplus"}]}},
            "only a last layer with activation = 'so",
        ),
        ({"model": {"layers": [{"type": "layer_norm"}, *DENSE]}}, "and this job has LayerNorm"),
        ({"model": {"layers": [{"type": "dense", "units": 4, "kernel_l2": 0.1}, *DENSE]}}, "dense layers without pen"),
        ({"model": {"layers": [{"type": "dense", "units": 4, "activation": "gelu"}, *DENSE]}}, "'gelu' is not transl"),
        ({"train": {"dtype": "float64"}}, "only float32 and data without augmentation"),
        ({"optimizer": {"name": "rmsprop"}}, "only sgd without decay, adam and adamw"),
        ({"optimizer": {"name": "adam", "clip_norm": 1.0}}, "clipped gradients are not translated"),
    ],
)
def test_what_is_not_translated(changes: dict[str, Any], message: str) -> None:
    require("torch")
    job = make_job(**({"model": {"layers": DENSE}, "train": {"metrics": []}} | changes))
    with pytest.raises(JobError, match=message):
        check_torch(job, (5,))


def test_the_reason_without_pytorch(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.distributed", None)
    plan = plan_of(nodes="1,2", tasks_per_node=1, steps=1, rivals=["ddp"])
    left_out = measure_run(plan, plan.run("strong-1"), SerialCommunicator())["left_out"]
    assert "PyTorch DDP needs the package 'torch', which is not installed" in left_out["ddp"]


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("tensorflow", "Horovod needs the package 'tensorflow', which is not inst"),
        ("horovod", "Horovod is not install"),
    ],
)
def test_the_reason_without_horovod(few: None, missing: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ModuleType("tensorflow")
    found.__spec__ = ModuleSpec("tensorflow", None)
    monkeypatch.setitem(sys.modules, "tensorflow", found)
    monkeypatch.setitem(sys.modules, missing, None)
    plan = plan_of(nodes="1,2", tasks_per_node=1, steps=1, rivals=["horovod"])
    for raw in run_threads(2, lambda comm: measure_run(plan, plan.run("strong-2"), comm)):
        assert raw["left_out"]["horovod"].startswith(reason)
        assert [*raw["sides"]] == ["hpcnn"]


def test_the_interface_by_which_a_host_is_reached() -> None:
    assert _interface_to("127.0.0.1") == "lo"
