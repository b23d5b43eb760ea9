"""What threads of a program may share: each gets what it would get alone, or is refused in one message."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec.inspect
import numpy as np
import pytest

import hpcnn
from hpcnn.api import ranks
from hpcnn.api.sharing import Shared, collective
from hpcnn.comm.threads import run_threads
from hpcnn.errors import CommunicatorError, HpcnnError
from hpcnn.job.validate import job_type
from hpcnn.nn import Dense, Dropout, Layer, LayerNorm, Network, Residual
from hpcnn.nn.context import Context
from hpcnn.nn.losses import LOSSES
from hpcnn.tools.explain.gradients import input_gradient, saliency
from hpcnn.tools.export.npz_file import write_npz
from hpcnn.training.metrics import build_metric
from tests.api.fitting import HELD, JOB, X, Y, fit
from tests.at_once import PATIENCE_S, at_once

LAYERS = [
    {"type": "layer_norm"},
    {"type": "dense", "units": 32, "activation": "gelu", "kernel_l2": 0.01},
    {"type": "dropout", "rate": 0.3},
    {"type": "residual", "layers": [{"type": "dense", "units": 32, "activation": "softplus", "bias_l1": 0.01}]},
    {"type": "dense", "units": 3, "activation": "softmax"},
]
MANY = np.random.default_rng(1).normal(3, 2, size=(1500, 4))
LABELS = np.arange(1500) % 3
REPEATS = 8
OUT = Dense(3, name="out")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> hpcnn.Fitted:
    """A model with every kind of scratch memory, as it was loaded."""
    folder = tmp_path_factory.mktemp("threads")
    return hpcnn.load(fit(folder, job={**JOB, "model": {"layers": LAYERS}}).folder)


def test_predictions_and_values_of_a_model_that_threads_share(model: hpcnn.Fitted) -> None:
    alone, held = model.predict(MANY), model.predict(HELD[0])
    values = model.evaluate(MANY, LABELS)

    def body(number: int) -> None:
        for _ in range(REPEATS):
            assert np.array_equal(model.predict(MANY), alone)
            assert np.array_equal(model.predict(HELD[0]), held)
            assert model.evaluate(MANY, LABELS) == values

    at_once(body)


def test_explanations_and_exports_beside_predictions(model: hpcnn.Fitted, tmp_path: Path) -> None:
    gradient, sample = input_gradient(model.trained), MANY[0]
    alone, explained = model.predict(MANY), saliency(gradient, sample, 1).values

    def body(number: int) -> None:
        for repeat in range(REPEATS):
            assert np.array_equal(saliency(gradient, sample, 1).values, explained)
            assert np.array_equal(model.predict(MANY), alone)
            write_npz(model.trained, tmp_path / f"{number}-{repeat}.npz")
            model.save(tmp_path / f"{number}-{repeat}.safetensors")
            assert model.weights().keys() == model.trained.model.weights().keys()

    at_once(body)
    assert len({path.read_bytes() for path in tmp_path.glob("*.safetensors")}) == 1


def test_predictions_do_not_wait_for_each_other(model: hpcnn.Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting, network = threading.Barrier(2, timeout=PATIENCE_S), model.trained.spec.network
    forward = network.forward  # type: ignore[attr-defined]

    def meet(*arguments: Any) -> Any:
        meeting.wait()
        return forward(*arguments)

    monkeypatch.setattr(network, "forward", meet)
    at_once(lambda number: model.predict(HELD[0]), 2)


def test_networks_losses_and_metrics_that_threads_share() -> None:
    inner = Residual((Dense(16, activation="tanh", name="inner"),), name="block")
    layers = [LayerNorm(name="norm"), Dense(16, activation="elu", name="hidden"), Dropout(0.5, name="drop"), inner, OUT]
    network, loss = Network(layers, (4,), head="softmax"), LOSSES["sparse_categorical_crossentropy"]().bind("softmax")
    vector = np.empty(network.layout.size)
    network.layout.initialize(vector, 3)
    params, metric = network.layout.views(vector), build_metric("f1", outputs=3, labels=True)

    def one_pass(ctx: Context, key: int) -> tuple[Any, ...]:
        gradient, sums = np.empty(network.layout.trainable_size), np.zeros(metric.size)
        ctx.begin(training=True, random_key=(key,))
        logits, backward = network.forward(params, MANY, ctx)
        total, outputs, loss_backward = loss(logits, LABELS, None, ctx)
        metric.add(sums, outputs, LABELS)
        backward(loss_backward(), network.layout.gradient_views(gradient))
        return total, metric.value(sums), gradient.tobytes()

    alone, shared = [one_pass(Context(), key) for key in range(4)], Context()
    for passes in at_once(lambda number: [one_pass(shared, number) for _ in range(REPEATS)]):
        assert set(passes) <= set(alone)
        assert len(set(passes)) == 1


# ---------------------------------------------------------------------------------------------------------- trainings


def test_the_first_fits_at_once(fitted: hpcnn.Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """msgspec crashes where two threads are the first to use a type, so only one of them may be in it."""
    both = threading.Barrier(2)

    def meeting(prepare: Any) -> Any:
        def meet(*arguments: Any) -> Any:
            try:
                both.wait(0.1)
            except threading.BrokenBarrierError:
                return prepare(*arguments)
            pytest.fail("two threads are in msgspec at once")

        return meet

    job_type.cache_clear()
    for module, name in ((msgspec, "convert"), (msgspec.inspect, "type_info")):
        monkeypatch.setattr(module, name, meeting(getattr(module, name)))
    hashes = at_once(lambda number: fit(tmp_path / str(number)).weights_sha256, 2)
    assert set(hashes) == {fitted.weights_sha256}


def test_types_are_prepared_in_one_place() -> None:
    package = Path(hpcnn.__file__).parent
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(
            r"msgspec\.convert\(|(inspect|kinds)\.(multi_)?type_info\(\w+\)$|\.decode\(.*type=", path.read_text(), re.M
        )
    }
    assert {user for user in users if not user.startswith("tools/doctor/")} == {"core/conversion.py"}


def test_fits_and_predictions_at_once(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    alone = fitted.predict(X)

    def body(number: int) -> str:
        assert np.array_equal(fitted.predict(X), alone)
        return fit(tmp_path / str(number)).weights_sha256

    assert set(at_once(body)) == {fitted.weights_sha256}


def test_a_fit_within_a_fit_keeps_accounts_of_its_own(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    class Other(hpcnn.Callback):
        def on_epoch_end(self, report: Any, replica: Any, control: Any) -> None:
            if report.epoch == 1:
                at_once(lambda number: fit(tmp_path / "inner", overrides={"run.timeline": True}), 1)

    outer = fit(tmp_path / "outer", callbacks=[Other()], overrides={"run.timeline": True})
    assert outer.weights_sha256 == hpcnn.load(tmp_path / "inner" / "run").weights_sha256 == fitted.weights_sha256
    seconds = {}
    for name in ("inner", "outer"):
        lines = [json.loads(line) for line in (tmp_path / name / "run" / "time.jsonl").read_text().splitlines()]
        spent = [one for line in lines for (one,) in line["seconds"].values()]
        assert min(spent) >= 0
        seconds[name] = sum(spent)
    assert seconds["inner"] < seconds["outer"], "the inner fit took from the outer one's time"


def test_all_threads_are_given_the_same_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    made, connect_once = threading.Event(), ranks.connect_once

    def slowly() -> Any:
        made.wait(0.1)
        return connect_once()

    monkeypatch.setattr(ranks, "connect_once", slowly)
    monkeypatch.setattr(ranks._Process, "comm", None)
    first, second = at_once(lambda number: hpcnn.connect(), 2)
    assert first is second


def test_collective_calls_of_two_threads_on_several_ranks() -> None:
    def fit_in_a_thread(comm: Any) -> None:
        at_once(lambda number: collective(comm, "hpcnn.fit").__enter__(), 1)

    def body(comm: Any) -> None:
        refused = pytest.raises(
            CommunicatorError, match=r"hpcnn.fit was called while another thread is in Trainer.step"
        )
        with collective(comm, "hpcnn.fit"), collective(comm, "Trainer.step"), refused:  # the second: of a callback
            fit_in_a_thread(comm)
        fit_in_a_thread(comm)

    run_threads(2, body)


# ------------------------------------------------------------------------------------------------------------ trainers


@dataclass(frozen=True)
class Waiting(Layer):
    """Passes on what it is given: in training, once it may."""

    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def forward(self, params: Any, x: Any, ctx: Context) -> Any:
        if ctx.training:
            self.reached.set()
            assert self.go.wait(PATIENCE_S)
        return x, lambda dy, grads, need_dx=True: dy


def test_threads_that_share_a_trainer() -> None:
    waiting = Waiting(name="wait")
    trainer = hpcnn.Trainer(Network([waiting, OUT], (4,), head="softmax"), JOB["loss"], shards=2)
    waiting.go.set()
    trainer.step(X, Y)
    before = trainer.predict(X)
    assert all(np.array_equal(outputs, before) for outputs in at_once(lambda number: trainer.predict(X)))
    assert len({str(values) for values in at_once(lambda number: trainer.evaluate(X, Y))}) == 1

    waiting.go.clear()
    waiting.reached.clear()
    step = threading.Thread(target=trainer.step, args=(X, Y))
    step.start()
    assert waiting.reached.wait(PATIENCE_S)
    outputs: list[Any] = []
    prediction = threading.Thread(target=lambda: outputs.append(trainer.predict(X)))
    prediction.start()
    with pytest.raises(HpcnnError, match=r"Trainer.step was called while another thread is in Trainer.step. The order"):
        trainer.step(X, Y)
    with pytest.raises(HpcnnError, match=r"Trainer.load_weights was called while another thread is in Trainer.step"):
        trainer.load_weights({})
    assert not outputs, "it was made of weights that change"
    waiting.go.set()
    for thread in (step, prediction):
        thread.join(PATIENCE_S)
    assert trainer.steps == 2
    assert np.array_equal(outputs[0], trainer.predict(X))
    assert not np.array_equal(outputs[0], before)


def test_who_changes_an_object_may_read_it() -> None:
    shared = Shared()
    with shared.change("Trainer.step"), shared.read():
        pass
    with shared.read(), shared.read():
        pass


@pytest.mark.parametrize("block", [lambda shared: shared.read(), lambda shared: shared.change("Trainer.step")])
def test_ctrl_c_while_one_waits_for_others_locks_nobody_out(block, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(others_are_done: Any) -> None:
        raise KeyboardInterrupt

    shared = Shared()
    with monkeypatch.context() as patch:
        patch.setattr(shared._condition, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            block(shared).__enter__()
    with shared.change("Trainer.step"):
        change = shared.change("Trainer.load_weights")
        with pytest.raises(HpcnnError, match=r"another thread is in Trainer\.step"):
            change.__enter__()
        with pytest.raises(HpcnnError, match=r"another thread is in Trainer\.step"):  # still
            shared.change("Trainer.fit").__enter__()
