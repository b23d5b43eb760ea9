"""Weights of samples: what they mean, in every loss and metric, in both arithmetics, on any number of ranks."""

from functools import partial

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.data.readers.memory import array_source
from hpcnn.errors import DataError, JobError
from hpcnn.runs.build import build_replica, build_spec, build_training
from hpcnn.training.loop import TrainingLoop
from hpcnn.training.shard_by_shard import ShardByShard
from hpcnn.training.step_stats import COUNT, LOSS, WEIGHT
from tests.small_jobs import Keeper, cut, make_job, runs_through
from tests.training.metric_cases import METRICS_OF, metric_of, samples
from tests.training.several import job_of_several
from tests.training.several import samples as of_several

RNG = np.random.default_rng(4)
N, FEATURES, CLASSES = 17, 5, 3
X = RNG.normal(size=(N, FEATURES))
LABELS = RNG.integers(0, CLASSES, N)
WEIGHTS = RNG.integers(0, 4, N).astype(np.float64)
"""Whole numbers: how often each sample would be there without weights. Some are 0."""
TWICE = np.repeat(np.arange(N), WEIGHTS.astype(int))
TAIL = {"type": "dense", "units": CLASSES, "activation": "softmax", "kernel_l2": 0.01, "bias_l1": 0.02}
LAYERS = [{"type": "dense", "units": 6, "activation": "tanh"}, TAIL]
LINEAR = [LAYERS[0], {"type": "dense", "units": CLASSES}]
CASES = {
    "labels": (LAYERS, "sparse_categorical_crossentropy", ["accuracy", "f1", "perplexity"], LABELS),
    "rows": (LAYERS, "categorical_crossentropy", ["mse", "accuracy"], np.eye(CLASSES)[LABELS]),
    "values": (LINEAR, "mse", ["mae", "r2"], RNG.normal(size=(N, CLASSES))),
    "huber": (LINEAR, "huber", ["mse"], RNG.normal(size=(N, CLASSES))),
}
ARITHMETICS = ["native", "numpy"]


def job_of(case, arithmetic="native", rate=0.05, **train):
    layers, loss, metrics, y = CASES[case]
    train = {"dtype": "float64", "shards": 3, "metrics": metrics, "arithmetic": arithmetic, **train}
    parts = {"model": {"layers": layers}, "loss": {"name": loss}, "data": {"source": "memory"}}
    return make_job(**parts, optimizer={"name": "sgd", "learning_rate": rate}, train=train), y


def replica_of(job, **others):
    return build_replica(job, build_spec(job, (FEATURES,)), SerialCommunicator(), **others)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("case", CASES)
def test_a_weight_is_how_often_a_sample_counts(case, arithmetic):
    job, y = job_of(case, arithmetic)
    weighted, repeated = replica_of(job), replica_of(job)
    for step in range(3):
        ours = weighted.train_step(step, cut(X, y, 3, WEIGHTS), factor=1.0)
        theirs = repeated.train_step(step, cut(X[TWICE], y[TWICE], 3), factor=1.0)
        assert (ours[COUNT], ours[WEIGHT], theirs[COUNT]) == (N, WEIGHTS.sum(), len(TWICE))
        values = (replica.model.layout.values(sums) for replica, sums in ((weighted, ours), (repeated, theirs)))
        for one, other in zip(*(each.items() for each in values), strict=True):
            assert one == (other[0], pytest.approx(other[1], rel=1e-12))
    for name, array in weighted.weights().items():
        np.testing.assert_allclose(array, repeated.weights()[name], rtol=1e-11, atol=1e-13)
    evaluated = weighted.model.eval_piece(X, y, WEIGHTS), repeated.model.eval_piece(X[TWICE], y[TWICE])
    np.testing.assert_allclose(evaluated[0][:COUNT], evaluated[1][:COUNT], rtol=1e-10)
    np.testing.assert_allclose(evaluated[0][COUNT + 1 :], evaluated[1][COUNT + 1 :], rtol=1e-10)


def other_case(case, arithmetic):
    """Return a job of another kind of targets, with inputs and targets."""
    train = {"dtype": "float64", "shards": 3, "metrics": [], "arithmetic": arithmetic}
    if case == "several outputs":
        return job_of_several(train=train), *of_several(N)
    steps = [
        {"type": "dense", "units": 12},
        {"type": "reshape", "shape": [4, 3]},
        {"type": "dense", "units": 3, "activation": "softmax"},
    ]
    loss, y = {"name": "ctc"}, RNG.integers(1, 3, (N, 2))
    if case == "labels that do not count":
        loss, y = {"name": "sparse_categorical_crossentropy", "ignore_class": 255}, RNG.integers(0, 3, (N, 4))
        y[RNG.random((N, 4)) < 0.4] = 255
        train["metrics"] = ["accuracy", "mean_iou", "perplexity"]
    return make_job(model={"layers": steps}, loss=loss, data={"source": "memory"}, train=train), X, y


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("case", ["several outputs", "ctc", "labels that do not count"])
def test_a_weight_counts_in_the_same_way_for_other_targets(case, arithmetic):
    job, x, y = other_case(case, arithmetic)
    weighted, repeated = (build_replica(job, build_spec(job, x.shape[1:]), SerialCommunicator()) for _ in "12")
    for step, weights in enumerate([WEIGHTS, None, WEIGHTS / 2]):
        ours = weighted.train_step(step, cut(x, y, 3, weights), factor=1.0)
        chosen = slice(None) if weights is None else TWICE
        theirs = repeated.train_step(step, cut(x[chosen], y[chosen], 3), factor=1.0)
        values = (replica.model.layout.values(sums) for replica, sums in ((weighted, ours), (repeated, theirs)))
        for one, other in zip(*(each.items() for each in values), strict=True):
            assert one == (other[0], pytest.approx(other[1], rel=1e-10))
    np.testing.assert_allclose(weighted.model.vector, repeated.model.vector, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("classes", [None, np.array([0.5, 2.0, 1.0])], ids=["", "class weights"])
def test_weights_of_1_leave_every_bit(classes, arithmetic):
    job, y = job_of("labels", arithmetic)
    one, other = replica_of(job, class_weights=classes), replica_of(job, class_weights=classes)
    for step in range(3):
        sums = one.train_step(step, cut(X, y, 3, np.ones(N)), factor=1.0).copy()
        np.testing.assert_array_equal(sums, other.train_step(step, cut(X, y, 3), factor=1.0))
    assert one.model.fingerprint() == other.model.fingerprint()


def test_weights_of_classes_multiply_those_of_samples():
    job, y = job_of("labels")
    classes = np.array([0.5, 2.0, 1.0])
    both, product = replica_of(job, class_weights=classes), replica_of(job)
    first, second = both.train_step(0, cut(X, y, 3, WEIGHTS), factor=1.0), None
    second = product.train_step(0, cut(X, y, 3, WEIGHTS * classes[y]), factor=1.0)
    assert first[LOSS] == pytest.approx(second[LOSS], rel=1e-12)
    assert first[WEIGHT] == WEIGHTS.sum()  # those of the classes are in no mean, as without weights of samples


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_gradients_are_those_of_the_weighted_mean(arithmetic):
    job, y = job_of("values", arithmetic, rate=1.0)
    replica = replica_of(job)
    start, direction = replica.model.vector.copy(), RNG.normal(size=replica.model.vector.size)

    def loss(shift):
        replica.model.vector[...] = start + shift * direction
        return replica.model.layout.values(replica.model.eval_piece(X, y, WEIGHTS))["loss"]

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    replica.model.vector[...] = start
    replica.train_step(0, cut(X, y, 3, WEIGHTS), factor=1.0)
    assert float((start - replica.model.vector) @ direction) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_a_batch_without_weight_is_a_step_without_a_gradient_of_the_loss(arithmetic):
    job, y = job_of("labels", arithmetic, rate=0.5)
    replica = replica_of(job)
    before = replica.weights()
    sums = replica.train_step(0, cut(X, y, 3, np.zeros(N)), factor=1.0)
    assert (sums[COUNT], sums[WEIGHT], sums[LOSS]) == (N, 0, 0)
    after = replica.weights()
    np.testing.assert_array_equal(after["dense_1/kernel"], before["dense_1/kernel"])
    np.testing.assert_allclose(after["dense_2/kernel"], before["dense_2/kernel"] * (1 - 0.5 * 0.02), rtol=1e-12)


@pytest.mark.parametrize("metrics", [["accuracy", "f1", "perplexity"], ["confusion_matrix", "top_k_accuracy"]])
def test_all_shards_at_once_are_each_by_itself(metrics):
    job, y = job_of("labels", shards=5, metrics=metrics, top_k=2)
    at_once, in_turn = replica_of(job), replica_of(job)
    in_turn._pass = ShardByShard(
        in_turn.model, in_turn.updater.exchange.contributions, seed=job.train.seed, weights_of=lambda own: own.weights
    )
    weights = RNG.random(N)
    for step in range(3):
        first, second = (each.train_step(step, cut(X, y, 5, weights), factor=1.0).copy() for each in (at_once, in_turn))
        np.testing.assert_array_equal(first, second)
    assert at_once.model.fingerprint() == in_turn.model.fingerprint()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in METRICS_OF.items() for name in names])
def test_metrics_of_weights_are_those_of_repeated_samples(kind, name):
    outputs, targets, labels = samples(kind, np.float64)
    weights = RNG.integers(0, 3, len(outputs)).astype(np.float64)
    twice = np.repeat(np.arange(len(outputs)), weights.astype(int))
    metric = metric_of(kind, name, outputs, labels)
    ours, theirs = np.zeros(metric.size), np.zeros(metric.size)
    metric.add(ours, outputs, targets, weights)
    metric.add(theirs, outputs[twice], targets[twice])
    np.testing.assert_allclose(metric.value(ours), metric.value(theirs), rtol=1e-12)
    metric.add(theirs, outputs[:0], targets[:0], weights[:0])


@pytest.mark.parametrize("kind", ["labels", "binary", "many binary", "sequence labels"])
def test_auc_of_weights_is_that_of_repeated_samples(kind):
    outputs, targets, labels = samples(kind, np.float64)
    weights = RNG.integers(0, 3, len(outputs)).astype(np.float64)
    twice = np.repeat(np.arange(len(outputs)), weights.astype(int))
    metric = metric_of(kind, "auc", outputs, labels)
    rows, order = metric.rows(outputs, targets, weights / 2), RNG.permutation(len(outputs))
    value = metric.of_rows(rows)
    assert value == pytest.approx(metric.of_rows(metric.rows(outputs[twice], targets[twice])), rel=1e-12)
    again = metric.of_rows(metric.rows(outputs[order], targets[order], weights[order] / 2))
    assert value == again  # whatever the order


SOME = RNG.random(40) * 3


def trained(comm, weights=SOME, epochs=2, **train):
    job = make_job(data={"source": "memory", "validation_fraction": 0.25, "scale": "standardize", "prefetch": 2},
                   train={"epochs": epochs, "metrics": ["accuracy", "auc"], **train})  # fmt: skip
    rng = np.random.default_rng(1)
    source = array_source((rng.normal(size=(40, FEATURES)), rng.integers(0, 3, 40)), sample_weight=weights)
    training = build_training(job, None, comm, source=source)
    loop = TrainingLoop(training, comm, callbacks=[], save=Keeper(training), should_stop=lambda: False)
    assert runs_through(loop)
    return training.replica.model.fingerprint(), loop.progress.values


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_any_number_of_ranks_has_the_same_bits(arithmetic):
    alone = trained(SerialCommunicator(), arithmetic=arithmetic)
    assert alone != trained(SerialCommunicator(), None, arithmetic=arithmetic)
    for ranks in (2, 3, 5):
        assert run_threads(ranks, partial(trained, arithmetic=arithmetic)) == [alone] * ranks


def test_a_batch_without_weight_is_told_once(capsys):
    weights = np.zeros(40)
    weights[::9] = 1
    values = trained(SerialCommunicator(), weights, batch_size=2)[1]
    assert np.isfinite(values["loss"])
    assert capsys.readouterr().out.count("all samples of the batch have the weight 0") == 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(np.arange(40) == 7, -1, 1), r"weights of the training data: 1 are negative, the first in row 7"),
        (np.where(np.arange(40) == 7, np.nan, 1), r"weights of the training data: .* not finite .* in row 7"),
        (np.zeros(40), "all weights of the training data are 0"),
        (np.ones(39), r"weights of the training data have shape \(39,\), but 40 samples need \(40,\)"),
        (np.ones((40, 2)), r"have shape \(40, 2\)"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        trained(SerialCommunicator(), weights)


def test_a_loss_that_compares_samples_takes_no_weights():
    job = make_job(data={"source": "memory"}, loss={"name": "contrastive"}, train={"metrics": []},
                   model={"layers": [{"type": "dense", "units": 6}, {"type": "reshape", "shape": [2, 3]}]})  # fmt: skip
    source = array_source((X, LABELS), sample_weight=WEIGHTS)
    with pytest.raises(JobError, match="'contrastive' compares samples with each other and takes none"):
        build_training(job, None, SerialCommunicator(), source=source)
