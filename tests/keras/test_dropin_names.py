"""What `hpcnn.keras` offers, and what it costs to import: in plain processes, without TensorFlow where that can be."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hpcnn.keras as hvd
from hpcnn.errors import CommunicatorError, MissingExtraError
from hpcnn.keras import callbacks, numpy_calls
from hpcnn.keras.learning_rates import LearningRateSchedule, LearningRateWarmup

ASKED = """
init shutdown rank size local_rank local_size cross_rank cross_size allreduce grouped_allreduce allgather broadcast
broadcast_object allgather_object alltoall reducescatter barrier join is_initialized Average Sum Min Max Product
Compression ProcessSet add_process_set remove_process_set global_process_set DistributedOptimizer
PartialDistributedOptimizer broadcast_global_variables broadcast_variables load_model DistributedGradientTape callbacks
"""


def test_every_name_is_there() -> None:
    assert set(ASKED.split()) <= set(hvd.__all__) <= set(dir(hvd))
    assert all(getattr(hvd, name) is not None for name in hvd.__all__)


def test_importing_it_is_light() -> None:
    heavy = "tensorflow", "keras", "torch", "jax", "mpi4py"
    code = f"import sys, hpcnn.keras as hvd; hvd.rank; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elastic", "hpcnn.keras has no 'elastic'. Save checkpoints and start the job again"),
        ("Adasum", "hpcnn.keras has no 'Adasum'. Use op=hvd.Average"),
        ("alreduce", "hpcnn.keras has no 'alreduce'. Did you mean 'allreduce'?"),
    ],
)
def test_names_that_are_not_there(name: str, message: str) -> None:
    assert not hasattr(hvd, name)
    with pytest.raises(AttributeError, match="^" + message.replace("?", r"\?")):
        getattr(hvd, name)


def test_unknown_callbacks() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Broadcast'; it has BestModelCheckpoint, Broadcast"):
        _ = hvd.callbacks.Broadcast


def test_before_init() -> None:
    with pytest.raises(CommunicatorError, match=r"not connected: call init\(\) first"):
        hvd.size()


def test_ranks_are_those_of_the_launcher() -> None:
    with pytest.raises(CommunicatorError, match=r"init\(comm=\[0, 1\]\): the ranks are all that the launcher started"):
        hvd.init([0, 1])
    assert not hvd.is_initialized()


def test_without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(
        MissingExtraError, match=r"hpcnn.keras needs the package 'keras'.* pip install 'hpcnn\[keras\]'"
    ):
        numpy_calls.backend()


def test_with_keras_2(monkeypatch: pytest.MonkeyPatch) -> None:
    class Keras2:
        __version__ = "2.15.0"

    monkeypatch.setitem(sys.modules, "keras", Keras2)
    with pytest.raises(CommunicatorError, match=r"needs Keras 3, and this is 2.15.0"):
        numpy_calls.backend()


class Velocity:
    """A variable of an optimizer."""

    def __init__(self) -> None:
        self.value = 1.0

    def __mul__(self, factor: float) -> float:
        return self.value * factor

    def assign(self, value: float) -> None:
        self.value = value


class Optimizer:
    """As much of an optimizer as the callbacks see."""

    def __init__(self) -> None:
        self.learning_rate, self.momentum, self.momentums = 0.1, 0.9, [Velocity()]


def attached(callback: LearningRateSchedule, monkeypatch: pytest.MonkeyPatch) -> Optimizer:
    optimizer = Optimizer()
    callback.model = type("Model", (), {"optimizer": optimizer})
    monkeypatch.setattr(type(callback), "_rate", lambda self: optimizer.learning_rate)
    return optimizer


def test_the_warmup_ends_at_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.keras.learning_rates.size", lambda: 4)
    warmup = LearningRateWarmup(0.8, warmup_epochs=2, steps_per_epoch=5)
    optimizer = attached(warmup, monkeypatch)
    rates = []
    for epoch in range(3):
        warmup.on_epoch_begin(epoch)
        for batch in range(5):
            warmup.on_train_batch_begin(batch)
            rates.append(optimizer.learning_rate)
    expected = [0.2 + 0.6 * step / 10 for step in range(1, 11)] + [0.8] * 5
    assert rates == pytest.approx(expected)


def test_velocities_follow_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    for corrects in (True, False):
        schedule = LearningRateSchedule(0.1, {0: 1.0, 1: 0.1}.__getitem__, momentum_correction=corrects)
        optimizer = attached(schedule, monkeypatch)
        schedule.on_epoch_begin(0)
        assert optimizer.momentums[0].value == 1.0
        schedule.on_epoch_begin(1)
        assert optimizer.learning_rate == pytest.approx(0.01)
        assert optimizer.momentums[0].value == pytest.approx(0.1 if corrects else 1.0)


def test_a_schedule_acts_in_its_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = LearningRateSchedule(1.0, 0.5, start_epoch=1, end_epoch=2)
    optimizer = attached(schedule, monkeypatch)
    rates = []
    for epoch in range(3):
        optimizer.learning_rate = 0.1
        schedule.on_epoch_begin(epoch)
        rates.append(optimizer.learning_rate)
    assert rates == [0.1, 0.5, 0.1]


class Layer:
    """As much of a layer, and of a model, as the broadcast sees."""

    def __init__(self, *layers: Layer, built: bool) -> None:
        self.layers, self.built, self.weights = layers, built, ["weight"]
        self.train_function = self.given = print

    def _flatten_layers(self) -> list[Layer]:
        return [self, *self.layers]


def test_jax_has_no_first_step_that_could_make_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "backend", lambda: "jax")
    sent: list[object] = []
    monkeypatch.setattr(callbacks, "broadcast_variables", lambda variables, *where: sent.extend(variables))
    broadcast = callbacks._Broadcast(0)
    broadcast.model = Layer(Layer(built=False), built=True)  # a layer that no batch reaches
    broadcast.on_train_begin()
    assert sent == ["weight"]
    broadcast.model = Layer(built=False)
    with pytest.raises(
        CommunicatorError, match=r"the model has no weights yet: begin it with keras\.Input, or call it"
    ):
        broadcast.on_train_begin()
    assert broadcast.model.train_function is broadcast.model.given
