"""`hpcnn.fit`, `hpcnn.load` and `hpcnn.Trainer` in one process; on several ranks they are tested in tests/mpi."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.api import loop
from hpcnn.api.jobs import check_alike, prepare_job
from hpcnn.api.loop import Trainer
from hpcnn.blas import _openblas_libraries, fingerprint, one_thread
from hpcnn.comm.collective import agree
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.errors import CheckpointError, CommunicatorError, DataError, DivergedError, JobError, ModelError
from hpcnn.job.load import load_job
from hpcnn.nn import Dense, Network
from hpcnn.training.trained import evaluate_trained
from tests.require import missing

DRAW = np.random.default_rng(0)
X = DRAW.normal(3, 2, size=(60, 4))
Y = (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > 4)
HELD = X[:20], Y[:20]
JOB: dict[str, Any] = {
    "data": {"scale": "standardize"},
    "model": {"layers": ({"type": "dense", "units": np.int64(8), "activation": "relu"}, {"type": "dense", "units": 3})},
    "loss": {"name": "sparse_categorical_crossentropy"},
    "train": {"epochs": 3, "batch_size": 16, "shards": 4, "metrics": ["accuracy"], "early_stopping": None},
    "run": {"display": "quiet"},
}


def fit(folder: Path, data: Any = (X, Y), job: Any = JOB, **options: Any) -> hpcnn.Fitted:
    return hpcnn.fit(job, data, **{"validation": HELD, "out": folder / "run", **options})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> hpcnn.Fitted:
    """A model that nothing disturbed."""
    return fit(tmp_path_factory.mktemp("fitted"))


# ------------------------------------------------------------------------------------------------------------ results


def test_what_a_fit_gives(fitted: hpcnn.Fitted) -> None:
    assert fitted.complete
    assert [line["epoch"] for line in fitted.history] == [1, 2, 3]
    assert fitted.values == {
        name: fitted.history[-1][name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")
    }
    assert f"weights_sha256='{fitted.weights_sha256}'" in repr(fitted)
    assert len(repr(fitted)) < 500
    assert {"dense_1/kernel", "dense_2/bias"} <= fitted.weights().keys()


def test_evaluate_gives_the_values_of_the_last_epoch(fitted: hpcnn.Fitted) -> None:
    values = fitted.evaluate(*HELD)
    assert values == {"loss": fitted.values["val_loss"], "accuracy": fitted.values["val_accuracy"]}
    right = np.mean(fitted.predict(HELD[0]).argmax(axis=1) == HELD[1])
    assert right == pytest.approx(values["accuracy"])


def test_predict_takes_any_number_of_samples(fitted: hpcnn.Fitted) -> None:
    many = np.concatenate([X] * 6)  # more than a piece
    outputs = fitted.predict(many)
    assert outputs.shape == (360, 3)
    np.testing.assert_allclose(outputs[:60], fitted.predict(X.tolist()), rtol=1e-5)
    with pytest.raises(DataError, match=r"shape \(3,\) a sample"):
        fitted.predict(X[:, :3])
    with pytest.raises(DataError, match="not finite"):
        fitted.predict(np.full((1, 4), np.nan))


def test_arrays_and_the_source_of_the_job_give_the_same_bits(tmp_path: Path) -> None:
    short = {"train.epochs": 1, "run.display": "quiet"}
    from_job = hpcnn.fit(overrides=short, out=tmp_path / "a")
    from_arrays = hpcnn.fit(data=hpcnn.load_digits(), overrides=short, out=tmp_path / "b")
    assert from_arrays.weights_sha256 == from_job.weights_sha256
    timings = ("seconds", "samples_per_s")
    first, second = (
        [{k: v for k, v in e.items() if k not in timings} for e in f.history] for f in (from_job, from_arrays)
    )
    assert first == second


def test_saved_and_loaded(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model.safetensors")
    for loaded in (
        hpcnn.load(tmp_path / "model.safetensors"),
        hpcnn.load(fitted.folder),
        hpcnn.load(str(fitted.folder)),
    ):
        assert loaded.weights_sha256 == fitted.weights_sha256
        assert loaded.values == fitted.values
        assert loaded.complete
        np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert hpcnn.load(fitted.folder, "last").history == fitted.history
    assert hpcnn.load(tmp_path / "model.safetensors").history == []
    with pytest.raises(CheckpointError, match="can't be saved"):
        fitted.save(tmp_path / "none" / "model.safetensors")
    with pytest.raises(CheckpointError, match="there is no run"):
        hpcnn.load(tmp_path / "none")


def test_history_without_a_line_that_was_cut_off(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    folder = shutil.copytree(fitted.folder, tmp_path / "run")
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-20])
    assert hpcnn.load(folder).history == fitted.history[:-1]
    metrics.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"metrics.jsonl' can't be read .*Mend it, or delete it"):
        hpcnn.load(folder)
    with pytest.raises(CheckpointError, match=r"metrics.jsonl' can't be read"):  # of a run that is complete
        fit(tmp_path, resume="auto")


def test_each_fit_accounts_for_its_own_time(tmp_path: Path) -> None:
    hpcnn.connect().activity.seconds["other"] += 1e6  # of what was before it
    folder = fit(tmp_path).folder
    lines = [json.loads(line) for line in (folder / "time.jsonl").read_text().splitlines()]
    assert 0 < sum(sum(line["seconds"][phase]) for line in lines for phase in line["seconds"]) < 1e6


def test_a_second_fit_in_one_process(fitted: hpcnn.Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path).weights_sha256 == fitted.weights_sha256
    assert capsys.readouterr().out == f"weights sha256 {fitted.weights_sha256}\n"


def test_on_a_thread(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    results: list[hpcnn.Fitted] = []
    thread = threading.Thread(target=lambda: results.append(fit(tmp_path)))
    thread.start()
    thread.join()
    assert results[0].weights_sha256 == fitted.weights_sha256


def test_commands_say_that_the_data_were_in_memory(fitted: hpcnn.Fitted) -> None:
    with pytest.raises(DataError, match=r"arrays in the memory of a Python program.*; commands take files .--data"):
        evaluate_trained(fitted.trained, SerialCommunicator(), None)
    job = load_job(fitted.folder / "job.toml").job
    assert job.run.stall_abort_s == 0, "it would end the user's process"
    settings = job.data
    assert (settings.x_shape, settings.y_shape, settings.validation_samples) == ([60, 4], [60], 20)  # type: ignore[union-attr]


# --------------------------------------------------------------------------------------------------- jobs and arrays


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"job": {**JOB, "lost": {}}}, r"^fit: unknown section or key 'lost' in the job file. Did you mean 'loss'\?"),
        ({"job": {**JOB, "train": {"epochs": 0}}}, r"^fit: train.epochs = 0: expected an integer >= 1"),
        ({"overrides": {"train.epochs": -1}}, r"^fit with --set train.epochs: train.epochs = -1"),
        ({"overrides": "train.epochs=1"}, "expected a dict"),
        ({"job": 7}, "the job is int; expected the path of a job file"),
        ({"job": "nowhere.toml"}, r"no job file 'nowhere.toml'"),
        ({"job": {**JOB, "data": 3}}, r"data = 3: expected a table"),
        ({"job": {**JOB, "data": {"path": "x"}}}, r"unknown key 'path' in \[data\] of source 'memory'"),
        ({"overrides": {"data.validation_fraction": 0.2}}, "both give validation data. Leave out one of them"),
        ({"job": {**JOB, "model": {"layers": [{"type": "dense", "units": 1}]}}}, "one output for each class|outputs"),
    ],
)
def test_a_job_that_does_not_fit(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((JobError, ModelError), match=message):
        fit(tmp_path, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, r"data is ndarray; needed is a pair of arrays: data=\(x, y\)"),
        ((X, Y[:-1]), "60 inputs .* but 59 targets"),
        ((X.astype(object), Y), "x of data has dtype object"),
        ((X, Y.astype(complex)), "y of data has dtype complex128"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "x of data can't be made an array"),
        ((X[:0], Y[:0]), "hold nothing"),
        ((1.0, 2.0), "is a single number"),
    ],
)
def test_arrays_that_are_no_data(data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        fit(tmp_path, data, validation=None)


def test_validation_alone_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"validation=\(x, y\) is given, but data=\(x, y\) is not"):
        fit(tmp_path, None)


def test_a_job_object_and_a_file_mean_the_same(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    job = load_job(fitted.folder / "job.toml").job
    assert fit(tmp_path / "a", job=job).weights_sha256 == fitted.weights_sha256
    assert fit(tmp_path / "b", job=fitted.folder / "job.toml").weights_sha256 == fitted.weights_sha256


def test_the_dict_of_a_job_stays_as_it_is(tmp_path: Path) -> None:
    before = repr(JOB)
    fit(tmp_path, overrides=["train.epochs=1", "run.loggers=[]"])
    assert repr(JOB) == before


def test_overrides_are_values_and_no_text(tmp_path: Path) -> None:
    arrays = {"train.epochs": np.int64(1), "train.metrics": np.array(["accuracy"]), "train.shards": None}
    job, _ = prepare_job(JOB, {**arrays, "train.early_stopping": {"patience": 3}, "name": "𝄞=x"}, (X, Y), HELD)
    train = job.job.train
    assert (train.epochs, train.metrics, train.shards, job.job.name) == (1, ["accuracy"], "auto", "𝄞=x")
    assert train.early_stopping is not None
    assert train.early_stopping.patience == 3
    with pytest.raises(JobError, match=r"optimizer.learning_rate = Infinity: expected a number > 0"):
        prepare_job(JOB, {"optimizer.learning_rate": np.inf}, (X, Y), HELD)
    with pytest.raises(JobError, match=r"--set train..epochs: expected key=value"):
        prepare_job(JOB, {"train..epochs": 1}, (X, Y), HELD)


def test_ranks_must_be_given_the_same() -> None:
    job = load_job().job
    others = [{"out": "a"}, {"out": "a"}, {"out": "b"}]
    with pytest.raises(JobError, match=r'rank 2 gives hpcnn.fit other things than rank 0 does: out: "a" -> "b"'):
        run_threads(3, lambda comm: agree(comm, lambda: check_alike(comm, job, **others[comm.rank])))
    run_threads(2, lambda comm: agree(comm, lambda: check_alike(comm, job, **others[comm.rank])))


# --------------------------------------------------------------------------------------------------- stop and resume


@dataclass
class Interrupter(hpcnn.Callback):
    """Sends this process a signal at some step, as Ctrl-C does."""

    step: int
    times: list[int] = field(default_factory=list)

    def on_step(self, step_in_epoch: int) -> None:
        self.times.append(step_in_epoch)
        if len(self.times) == self.step:
            signal.raise_signal(signal.SIGINT)


def test_interrupted_and_gone_on_with(fitted: hpcnn.Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        hpcnn.TrainingStoppedError, match=r"stopped after step 6, 1 epochs done.*resume='auto'"
    ) as stopped:
        fit(tmp_path, callbacks=[Interrupter(5)])  # seen by the step after it
    assert stopped.value.exit_code == 75
    half = stopped.value.fitted
    assert not half.complete
    assert half.predict(X).shape == (60, 3)
    assert hpcnn.load(half.folder, "last").weights_sha256 == half.weights_sha256 != fitted.weights_sha256
    assert not hpcnn.load(half.folder, "last").complete
    half.save(tmp_path / "half.safetensors")
    assert hpcnn.load(tmp_path / "half.safetensors").weights_sha256 == half.weights_sha256
    whole = fit(tmp_path, resume="auto")
    with pytest.raises(CheckpointError, match=r"last.safetensors' holds other weights than this model.*Save a model"):
        half.save(tmp_path / "half.safetensors")
    assert hpcnn.load(tmp_path / "half.safetensors").weights_sha256 == half.weights_sha256
    assert whole.weights_sha256 == fitted.weights_sha256
    assert [line["epoch"] for line in whole.history] == [1, 2, 3]
    again = fit(tmp_path, resume=whole.folder, out=None)
    assert (again.weights_sha256, again.values, again.complete) == (whole.weights_sha256, whole.values, True)
    assert "is complete already" in capsys.readouterr().out


def test_a_second_interrupt_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.api.ranks.REPEAT_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, callbacks=[Interrupter(2), Interrupter(2)])


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    def state() -> tuple[Any, ...]:
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
        hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
        return *map(signal.getsignal, signals), *hooks, fingerprint(), threading.active_count()

    class Look(hpcnn.Callback):
        def on_train_end(self, replica: Any) -> None:
            assert signal.getsignal(signal.SIGINT) != before[0]

    before = state()
    fit(tmp_path, callbacks=[Look()])
    assert state() == before
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path / "b", overrides={"run.stop_at_step": 1})
    with pytest.raises(DataError):
        fit(tmp_path / "c", (X, Y[:-1]))
    assert state() == before


def test_other_arrays_are_refused_on_resume(tmp_path: Path) -> None:
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path, overrides={"run.stop_at_step": 2})
    changed = X.copy()
    changed[7, 1] += 1e-9
    with pytest.raises(CheckpointError, match=r"started with other settings.*data.sha256"):
        fit(tmp_path, (changed, Y), resume="auto")
    with pytest.raises(CheckpointError, match=r"data.validation_samples: 20 -> 0"):
        fit(tmp_path, resume="auto", validation=None)


def test_one_blas_thread_within_the_block() -> None:
    library = next(_openblas_libraries(), None)
    if library is None:
        missing("NumPy is not linked to OpenBLAS")
    before = library.threads()
    library.use(2)
    try:
        with one_thread():
            assert library.threads() == 1
        assert library.threads() == 2
    finally:
        library.use(before)


# ---------------------------------------------------------------------------------------------------------- callbacks


class Counting(hpcnn.Callback):
    """Counts epochs, over resumes too, and halves the rate."""

    def __init__(self, most: int = 99) -> None:
        self.epochs, self.most = 0, most

    def on_epoch_end(self, report: hpcnn.EpochReport, replica: Any, control: hpcnn.Control) -> None:
        self.epochs += 1
        if self.epochs == self.most:
            control.finish = "enough"

    def rate_factor(self) -> float:
        return 0.5**self.epochs

    def state(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load(self, state: Any, arrays: Any) -> None:
        self.epochs = state["epochs"]


def test_callbacks_of_a_user(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    counting = Counting(most=2)
    ended = fit(tmp_path, callbacks=[counting, Counting()])
    assert counting.epochs == len(ended.history) == 2
    assert ended.complete
    assert ended.history[1]["learning_rate"] == pytest.approx(ended.history[0]["learning_rate"] / 4)


def test_the_state_of_callbacks_is_kept(tmp_path: Path) -> None:
    whole = fit(tmp_path / "a", callbacks=[Counting()])
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path / "b", callbacks=[Counting()], overrides={"run.stop_at_step": 6})
    counting = Counting()
    assert fit(tmp_path / "b", callbacks=[counting], resume="auto").weights_sha256 == whole.weights_sha256
    assert counting.epochs == 3


def test_an_error_of_a_callback_is_the_users(tmp_path: Path) -> None:
    class Wrong(hpcnn.Callback):
        def on_epoch_end(self, report: Any, replica: Any, control: Any) -> None:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(tmp_path, callbacks=[Wrong()], overrides={"run.timeline": True})
    activity = hpcnn.connect().activity
    assert (activity.on_enter, activity.beside) == (None, None), "the timeline still listens"


class Keeping(hpcnn.Callback):
    """Keeps whatever it is given, but for a start nothing."""

    def __init__(self, state: Any = None, arrays: Any = None) -> None:
        self.before = self.kept = {}, {}
        self.after = state, arrays

    def on_step(self, step_in_epoch: int) -> None:
        self.kept = self.after

    def state(self) -> Any:
        return self.kept[0]

    def arrays(self) -> Any:
        return self.kept[1]

    def load(self, state: Any, arrays: Any) -> None:
        self.before = state, arrays


def test_a_state_of_any_kind_is_kept(tmp_path: Path) -> None:
    state = {"text": "ä", "list": [1, {"a": None}], "flag": True, "none": None}
    arrays = {"row": np.arange(5), "one": np.array(2.5), "flags": np.zeros((2, 0), bool)}
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path, callbacks=[Keeping(state, arrays)], overrides={"run.stop_at_step": 2})
    assert not hpcnn.load(tmp_path / "run", "last").complete
    again = Keeping({}, {})
    fit(tmp_path, callbacks=[again], resume="auto")
    assert again.before[0] == state
    assert again.before[1].keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again.before[1][name], array, strict=True)


@pytest.mark.parametrize(
    ("state", "arrays", "message"),
    [
        ({"best": np.float32(1)}, {}, r"the state of callback Keeping_1 can't be saved: Object of type float32 is not"),
        ([1], {}, r"the state of callback Keeping_1 can't be saved: it is list. Let its state\(\) return a dict"),
        ({"text": "\ud800"}, {}, r"the state of callback Keeping_1 can't be saved: 'utf-8' codec"),
        ({}, {"x": np.array(["a"])}, r"array 'x' of callback Keeping_1 can't be saved: it is <U1. Let its arrays"),
        ({}, {"x": [1.0]}, r"array 'x' of callback Keeping_1 can't be saved: it is <class 'list'>"),
    ],
)
def test_a_state_that_no_file_can_hold(state: Any, arrays: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        fit(tmp_path, callbacks=[Keeping(state, arrays)])
    assert not list(tmp_path.rglob("*.safetensors"))


# ------------------------------------------------------------------------------------------------------------ trainer

LAYERS = Dense("dense_1", 8, activation="relu"), Dense("dense_2", 3)
LOSS = "sparse_categorical_crossentropy"
RATE = {"name": "adam", "learning_rate": 0.01}


def trainer(**options: Any) -> Trainer:
    return hpcnn.Trainer(Network(LAYERS, (4,)), LOSS, RATE, **{"shards": 4, "metrics": ["accuracy"], **options})


def test_a_loop_by_hand_gives_the_bits_of_a_job(tmp_path: Path) -> None:
    table = {**JOB, "data": {}, "optimizer": RATE, "train": {**JOB["train"], "batch_size": "full", "shuffle": False}}
    by_job = fit(tmp_path, job=table, validation=None)
    by_hand = trainer()
    values = [by_hand.step(X, Y) for _ in range(3)]
    assert by_hand.weights_sha256 == by_job.weights_sha256
    assert [v["accuracy"] for v in values] == [line["accuracy"] for line in by_job.history]
    np.testing.assert_array_equal(by_hand.predict(X), by_job.predict(X))
    assert by_hand.evaluate(X, Y) == by_job.evaluate(X, Y)


def test_ranks_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = trainer(dtype="float64")
    for _ in range(2):
        alone.step(X, Y, factor=0.5)
    local = threading.local()
    monkeypatch.setattr(loop, "connect", lambda: local.comm)

    def body(comm: Any) -> tuple[str, Any]:
        local.comm = comm
        mine = trainer(dtype="float64")
        for _ in range(2):
            mine.step(X, Y, factor=0.5)
        return mine.weights_sha256, mine.evaluate(X, Y)

    assert run_threads(3, body) == [(alone.weights_sha256, alone.evaluate(X, Y))] * 3

    def parts(comm: Any) -> None:
        local.comm = comm
        trainer().step(X[comm.rank :: 2], Y[comm.rank :: 2])

    with pytest.raises(DataError, match=r"rank 1 gives another batch than rank 0. Give every rank the whole batch"):
        run_threads(2, parts)
    with pytest.raises(CommunicatorError, match="5 ranks for 4 gradient shards"):
        run_threads(5, body)


def test_a_loop_goes_on_from_a_file(tmp_path: Path) -> None:
    first, second = trainer(), trainer(seed=1)
    first.step(X, Y)
    first.save(tmp_path / "state.safetensors")
    second.restore(tmp_path / "state.safetensors")
    assert second.steps == 1
    for one in (first, second):
        one.step(X, Y)
    assert first.weights_sha256 == second.weights_sha256
    second.load_weights(trainer().weights())
    assert second.weights_sha256 == trainer().weights_sha256 != first.weights_sha256
    with pytest.raises(CheckpointError, match="could not be saved"):
        first.save(tmp_path / "none" / "state.safetensors")
    other = hpcnn.Trainer(Network(LAYERS, (4,)), LOSS, "sgd", shards=1)
    with pytest.raises(CheckpointError, match="the optimizer state is another's"):
        other.restore(tmp_path / "state.safetensors")


def test_a_trainer_takes_all_of_a_file_or_nothing(tmp_path: Path) -> None:
    run = fit(tmp_path, overrides={"data.scale": "none", "train.epochs": 1}).folder
    first = trainer()
    first.step(X, Y)
    before = first.weights_sha256
    with pytest.raises(CheckpointError, match=r"is none of a trainer: no number of steps .* Trainer.save wrote"):
        first.restore(run / "checkpoints" / "last.safetensors")
    sgd = hpcnn.Trainer(Network(LAYERS, (4,)), LOSS, "sgd", shards=1, seed=7)
    sgd.save(tmp_path / "sgd.safetensors")
    with pytest.raises(CheckpointError, match="the optimizer state is another's"):
        first.restore(tmp_path / "sgd.safetensors")
    assert (first.weights_sha256, first.steps) == (before, 1)


def test_a_trainer_predicts_no_nothing() -> None:
    with pytest.raises(DataError, match=r"inputs of shape \(0, 4\) hold nothing"):
        trainer().predict(X[:0])


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X, Y[:-1], DataError, "the batch: 60 inputs"),
        (X, Y + 5, DataError, "the batch"),
        (X[:, :2], Y, DataError, "the model takes"),
        (np.full((2, 4), 3e38), [0, 1], DivergedError, "step 1: the loss is not finite"),
    ],
)
def test_a_batch_that_does_not_fit(x: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trainer().step(x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mses"}, "unknown loss 'mses'"),
        ({"optimizer": {"name": "adam", "rate": 1.0}}, "unknown key 'rate' in .optimizer. of name 'adam'"),
        ({"metrics": ["mae"]}, "'mae' compares rows of outputs"),
    ],
)
def test_settings_of_a_trainer_are_checked_as_in_a_job(options: dict[str, Any], message: str) -> None:
    settings = {"loss": LOSS, "optimizer": "adam", "shards": 2, **options}
    with pytest.raises(JobError, match=message):
        hpcnn.Trainer(Network(LAYERS, (4,)), **settings)


# ------------------------------------------------------------------------------------------------- names and the page


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert "1 ranks, accuracy" in capsys.readouterr().out
    assert names["fitted"].complete
    assert names["trainer"].steps == 20


def test_what_the_package_offers() -> None:
    assert set(hpcnn.__all__) <= set(dir(hpcnn))
    assert set(hpcnn.__all__) - {"__version__"} == hpcnn._HOMES.keys()
    with pytest.raises(AttributeError, match="module 'hpcnn' has no attribute 'fti'"):
        hpcnn.fti  # noqa: B018
    assert hpcnn.connect() is hpcnn.connect()
