"""One update of the replica, against gradients by hand and against Keras."""

import tracemalloc

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.gradient_pass import Shards
from hpcnn.training.step_stats import COUNT, LOSS, PENALTY, STOP
from tests.keras_type import keras_type
from tests.require import require
from tests.small_jobs import cut, fetched, make_job

N, FEATURES, CLASSES = 24, 5, 3


def data(n=N, *, features=FEATURES, classes=CLASSES):
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, features)), rng.integers(0, classes, n)


def replica_of(job, x, *, class_weights=None):
    return build_replica(job, build_spec(job, x.shape[1:]), SerialCommunicator(), class_weights)


def double(**changes):
    train = {"dtype": "float64", "shards": 1, **changes.pop("train", {})}
    return make_job(train=train, **changes)


LINEAR = [{"type": "dense", "units": CLASSES, "activation": "softmax", "kernel_l1": 0.01, "kernel_l2": 0.02,
           "bias_l1": 0.03, "bias_l2": 0.04}]  # fmt: skip
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0])


@pytest.mark.parametrize("shards", [1, 7, 40])
@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS], ids=["unweighted", "weighted"])
def test_a_step_of_softmax_regression_by_hand(weights, shards):
    x, y = data()
    job = double(model={"layers": LINEAR}, optimizer={"name": "sgd", "learning_rate": 0.5}, train={"shards": shards})
    replica = replica_of(job, x, class_weights=weights)
    replica.model.vector += np.random.default_rng(1).normal(size=replica.model.vector.size)
    kernel, bias = replica.weights().values()
    sums = replica.train_step(0, cut(x, y, shards), factor=0.5, stop=True)

    z = x @ kernel + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    each = np.ones(N) if weights is None else weights[y]
    dz = (p - np.eye(CLASSES)[y]) * each[:, None] / N
    penalty = 0.01 * abs(kernel).sum() + 0.02 * (kernel**2).sum() + 0.03 * abs(bias).sum() + 0.04 * (bias**2).sum()
    new_kernel = kernel - 0.25 * (x.T @ dz + 0.01 * np.sign(kernel) + 2 * 0.02 * kernel)
    new_bias = bias - 0.25 * (dz.sum(axis=0) + 0.03 * np.sign(bias) + 2 * 0.04 * bias)
    np.testing.assert_allclose(replica.weights()["dense_1/kernel"], new_kernel, rtol=1e-12)
    np.testing.assert_allclose(replica.weights()["dense_1/bias"], new_bias, rtol=1e-12)
    assert (sums[COUNT], sums[STOP]) == (N, 1)
    assert sums[LOSS] == pytest.approx(-(each * np.log(p[np.arange(N), y])).sum(), rel=1e-12)
    assert sums[PENALTY] == pytest.approx(N * penalty, rel=1e-12)
    values = replica.model.layout.values(sums)
    assert values["loss"] == pytest.approx(sums[LOSS] / N + penalty, rel=1e-12)
    assert values["accuracy"] == np.mean(p.argmax(axis=1) == y)


def keras_model(keras, job, replica, shape):
    """Return the job's network in Keras, with the replica's weights."""
    layers = keras.layers
    tensor = inputs = keras.Input(shape)
    for place, layer in enumerate(job.model.layers):
        last = place == len(job.model.layers) - 1
        if type(layer).__name__ == "LayerNorm":
            tensor = layers.LayerNormalization(epsilon=layer.epsilon)(tensor)
        elif type(layer).__name__ == "Residual":
            tensor = layers.Add()([tensor, dense(keras, layer.layers[0])(tensor)])
        else:
            tensor = dense(keras, layer)(tensor)
        assert last or tensor.shape[-1] > 1
    model = keras.Model(inputs, tensor)
    given = iter(replica.weights().items())
    for variable in model.weights:
        name, array = next(given)
        assert variable.shape == array.shape, name
        variable.assign(array)
    assert next(given, None) is None
    return model


def dense(keras, s):
    def penalty(l1, l2):
        return keras.regularizers.L1L2(l1, l2) if l1 or l2 else None

    return keras.layers.Dense(
        s.units,
        activation=s.activation,
        use_bias=s.use_bias,
        kernel_regularizer=penalty(s.kernel_l1, s.kernel_l2),
        bias_regularizer=penalty(s.bias_l1, s.bias_l2),
    )


# Penalties that float32 holds exactly: Keras takes them as such, whatever the type of the model.
DEEP = [
    {"type": "dense", "units": 9, "activation": "tanh", "kernel_l1": 1 / 256, "kernel_l2": 1 / 64, "bias_l2": 1 / 32},
    {"type": "layer_norm"},
    {"type": "residual", "layers": [{"type": "dense", "units": 9, "activation": "sigmoid", "use_bias": False}]},
    {"type": "dense", "units": CLASSES, "activation": "softmax", "bias_l1": 1 / 128},
]
WEIGHTED = {"name": "sparse_categorical_crossentropy", "class_weights": CLASS_WEIGHTS.tolist()}
AGAINST_KERAS = {
    "sgd": {},
    "class weights": {"loss": WEIGHTED},
    "adam": {"optimizer": {"name": "adam", "learning_rate": 0.01}},
    "adamw, class weights": {"optimizer": {"name": "adamw", "learning_rate": 0.01}, "loss": WEIGHTED},
    "rmsprop, clipped": {"optimizer": {"name": "rmsprop", "clip_norm": 0.05}},
    "one-hot": {"loss": {**WEIGHTED, "name": "categorical_crossentropy"}, "data": {"one_hot": True}},
}
SAMPLE_WEIGHTS = np.random.default_rng(9).random(N) * 4


@pytest.mark.parametrize(
    ("changes", "of_samples"),
    [*((changes, None) for changes in AGAINST_KERAS.values()), (AGAINST_KERAS["adamw, class weights"], SAMPLE_WEIGHTS)],
    ids=[*AGAINST_KERAS, "weights of samples and classes"],
)
def test_steps_are_those_of_keras(changes, of_samples):
    keras = require("keras")
    with keras_type(keras, "float64"):
        compare_with_keras(keras, double(model={"layers": DEEP}, **changes), of_samples)


def compare_with_keras(keras, job, of_samples):
    x, y = data()
    weights = None if getattr(job.loss, "class_weights", "none") == "none" else np.array(job.loss.class_weights)
    targets = np.eye(CLASSES)[y] if job.data.one_hot else y
    replica = replica_of(job, x, class_weights=weights)
    model = keras_model(keras, job, replica, x.shape[1:])
    loss = job.loss.__struct_config__.tag
    model.compile(optimizer=keras_optimizer(keras, job.optimizer), loss=loss, run_eagerly=True)
    given = {"class_weight": None if weights is None else dict(enumerate(weights))}
    if of_samples is not None:  # Keras divides by the number of samples
        given = {"sample_weight": weights[y] * of_samples * N / of_samples.sum()}
    for step in range(3):
        theirs = model.train_on_batch(x, targets, **given, return_dict=True)
        load = cut(x, targets, 1, of_samples)
        ours = replica.model.layout.values(replica.train_step(step, load, factor=1.0, stop=False))
        model.reset_metrics()
        assert ours["loss"] == pytest.approx(float(theirs["loss"]), rel=1e-10)
    for variable, (name, array) in zip(model.weights, replica.weights().items(), strict=True):
        np.testing.assert_allclose(array, np.asarray(variable), rtol=1e-10, atol=1e-10, err_msg=name)


def keras_optimizer(keras, section):
    options = {name: getattr(section, name) for name in section.__struct_fields__}
    options["global_clipnorm"] = options.pop("clip_norm") or None
    options["clipvalue"] = options.pop("clip_value") or None
    options.pop("decay", None)
    exact = {name: np.float64(value) if isinstance(value, float) else value for name, value in options.items()}
    name = {"Sgd": "SGD", "RmsProp": "RMSprop"}.get(type(section).__name__, type(section).__name__)
    return getattr(keras.optimizers, name)(**exact)


@pytest.mark.parametrize(("one_hot", "classes"), [(False, 3), (True, 3), (False, 2)], ids=["labels", "rows", "binary"])
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_class_weights_weigh_the_training_loss_and_nothing_else(one_hot, classes, dtype):
    x, y = data(classes=classes)
    binary = classes == 2
    if not binary and not one_hot and dtype is np.float64:
        dtype = np.int32
    name = "binary_crossentropy" if binary else "categorical_crossentropy" if one_hot else WEIGHTED["name"]
    last = {"type": "dense", "units": 1 if binary else 3, "activation": "sigmoid" if binary else "softmax"}
    job = double(model={"layers": [last]}, loss={"name": name}, data={"one_hot": one_hot})
    targets = (y[:, None] if binary else np.eye(3)[y] if one_hot else y).astype(dtype)
    weights = np.array([0.5, 3.0]) if binary else CLASS_WEIGHTS
    plain, weighted = replica_of(job, x), replica_of(job, x, class_weights=weights)
    for replica in (plain, weighted):
        replica.model.vector += 0.5
    losses = [plain.model.eval_piece(x[i : i + 1], targets[i : i + 1])[LOSS] for i in range(N)]
    in_evaluation = weighted.model.eval_piece(x, targets)
    np.testing.assert_array_equal(in_evaluation, plain.model.eval_piece(x, targets))
    in_training = weighted.train_step(0, cut(x, targets, 1), factor=1.0, stop=False)
    assert in_training[LOSS] == pytest.approx(float(weights[y] @ losses), rel=1e-10)
    assert in_training[COUNT] == N  # not the sum of the weights, as in Keras
    np.testing.assert_array_equal(in_training[STOP + 1 :], in_evaluation[STOP + 1 :])


def test_dropout_is_drawn_anew_for_each_step_and_shard_and_only_in_training():
    job = double(model={"layers": [{"type": "dropout", "rate": 0.5}, {"type": "dense", "units": 3}]},
                 loss={"name": "mse"}, train={"shards": 2, "metrics": [], "arithmetic": "numpy"})  # fmt: skip
    x, y = np.ones((8, 40)), np.zeros((8, 3))
    replica = replica_of(job, x)
    start = replica.weights()

    def loss(step, load):
        replica.load_weights(start)
        return float(replica.train_step(step, load, factor=0.0, stop=False)[LOSS])

    def load(starts):
        return lambda first, stop: Shards(*(a[starts[first] : starts[stop]] for a in (x, y)), starts[first : stop + 1])

    first, second = load((0, 4, 4)), load((0, 0, 4))
    assert len({loss(0, first), loss(0, second), loss(1, first), loss(1, second)}) == 4
    assert loss(0, first) == loss(0, first)
    assert replica.model.eval_piece(x, y)[LOSS] == replica.model.eval_piece(x, y)[LOSS]
    np.testing.assert_array_equal(replica.model.predict_piece(x)[0], replica.model.predict_piece(x)[1])


def test_evaluation_and_prediction_leave_the_model_as_it_is():
    x, y = data()
    replica = replica_of(double(), x)
    before, state = replica.model.fingerprint(), fetched(replica.state())
    outputs = replica.model.predict_piece(x).copy()
    sums = replica.model.eval_piece(x, y)
    np.testing.assert_allclose(outputs.sum(axis=1), 1)
    assert sums[LOSS] == pytest.approx(-np.log(outputs[np.arange(N), y]).sum(), rel=1e-10)
    assert (sums[COUNT], sums[PENALTY], sums[STOP]) == (N, 0, 0)
    assert replica.model.fingerprint() == before
    assert all(np.array_equal(state[name], value) for name, value in fetched(replica.state()).items())


@pytest.mark.parametrize(("shards", "optimizer"), [(1, "adam"), (8, "adam"), (8, "sgd")])
def test_a_steady_step_allocates_no_large_array(shards, optimizer):
    layers = [{"type": "dense", "units": 512, "activation": "relu", "kernel_l2": 1e-4},
              {"type": "dropout", "rate": 0.2},
              {"type": "dense", "units": 512, "activation": "relu"},
              {"type": "dense", "units": 10, "activation": "softmax"}]  # fmt: skip
    job = make_job(model={"layers": layers}, train={"shards": shards, "batch_size": 128}, optimizer={"name": optimizer})
    x, y = data(128, features=784, classes=10)
    x = x.astype(np.float32)
    replica = replica_of(job, x, class_weights=np.ones(10))
    load = cut(x, y, shards)
    for step in range(2):
        replica.train_step(step, load, factor=1.0, stop=False)
    tracemalloc.start()
    try:
        replica.train_step(2, load, factor=1.0, stop=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000  # NumPy's own buffer for a sum in float64 has 65,536, a vector of these parameters 2,678,824
