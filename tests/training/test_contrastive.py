"""The contrastive loss: all samples of a batch count, whatever ranks and shards they lie on."""

import msgspec
import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import JobError, ModelError
from hpcnn.job.checks import check_job
from hpcnn.nn import Context
from hpcnn.nn.losses import Contrastive
from hpcnn.nn.native import NATIVE
from hpcnn.nn.plain import NUMPY
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.step_stats import COUNT, LOSS
from tests.nn.helpers import check_gradient, normal
from tests.small_jobs import cut, make_job, train

ARITHMETICS = {"native": NATIVE, "numpy": NUMPY}
LAYERS = [
    {"type": "dense", "units": 12, "activation": "tanh"},
    {"type": "dense", "units": 8},
    {"type": "reshape", "shape": [2, 4]},
]


def job(arithmetic="native", dtype="float32", layers=LAYERS, symmetric=True, **settings):
    return make_job(
        model={"layers": layers},
        loss={"name": "contrastive", "temperature": 0.2, "symmetric": symmetric},
        train={"arithmetic": arithmetic, "dtype": dtype, "metrics": []} | settings,
    )


def formula(outputs, temperature, symmetric):
    """Return the loss of each sample, by the definition."""
    units = outputs / np.linalg.norm(outputs, axis=2, keepdims=True)
    scores = units[:, 0] @ units[:, 1].T / temperature
    rows, columns = (-np.diag(s - np.log(np.exp(s).sum(axis=1, keepdims=True))) for s in (scores, scores.T))
    return (rows + columns) / 2 if symmetric else rows


@pytest.mark.parametrize("head", ["linear", "tanh"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_value_and_gradient(arithmetic, symmetric, head):
    context = Context(arithmetic=ARITHMETICS[arithmetic])
    loss, logits = Contrastive(0.3, symmetric).bind(head), normal(70, 2, 5)

    def function(z):
        return loss(z, np.empty(70), None, context)[0]

    total, outputs, backward = loss(logits, np.empty(70), None, context)
    np.testing.assert_allclose(outputs, np.tanh(logits) if head == "tanh" else logits, rtol=1e-14)
    assert total == pytest.approx(formula(outputs, 0.3, symmetric).sum(), rel=1e-10)
    gradient = backward().copy()
    check_gradient(function, [logits], [gradient])


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_a_piece_of_one_sample_has_nothing_to_learn_and_an_empty_one_adds_nothing(arithmetic):
    context, loss = Context(arithmetic=ARITHMETICS[arithmetic]), Contrastive().bind("linear")
    total, _, backward = loss(normal(1, 2, 5), np.empty(1), None, context)
    assert total == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(backward(), 0, atol=1e-12)
    total, _, backward = loss(np.empty((0, 2, 5)), np.empty(0), None, context)
    assert total == 0
    assert backward().shape == (0, 2, 5)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_an_embedding_of_zeros_has_a_finite_gradient(arithmetic):
    logits = normal(6, 2, 5)
    logits[2, 1] = 0
    total, _, backward = Contrastive().bind("linear")(
        logits, np.empty(6), None, Context(arithmetic=ARITHMETICS[arithmetic])
    )
    assert np.isfinite(total)
    assert np.isfinite(backward()).all()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_any_number_of_ranks_trains_to_the_same_bits(arithmetic, symmetric):
    """The last batch of an epoch has 4 samples for 8 shards."""
    settings = job(arithmetic, symmetric=symmetric)
    one = train(settings)
    for ranks in (2, 3, 5):
        assert train(settings, ranks).bits() == one.bits()
    values = [report.values for report in one.reports]
    assert all(np.isfinite(each["loss"]) and np.isfinite(each["val_loss"]) for each in values)


def after_two_steps(settings, x, weights=None):
    replica = build_replica(settings, build_spec(settings, (5,)), SerialCommunicator())
    if weights is not None:
        replica.load_weights(weights)
    start = replica.weights()
    load = cut(x, np.zeros(len(x)), settings.train.shards)
    sums = [replica.train_step(step, load, factor=1.0).copy() for step in range(2)]
    return start, np.concatenate([*(array.reshape(-1) for array in replica.weights().values()), *sums]), sums


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_the_loss_does_not_depend_on_the_number_of_shards(arithmetic):
    """But for rounding; 32 shards are more than there are samples."""
    x = np.random.default_rng(3).normal(size=(23, 5))
    results = [after_two_steps(job(arithmetic, "float64", shards=shards), x) for shards in (1, 4, 7, 32)]
    for _, other, _ in results[1:]:
        np.testing.assert_allclose(other, results[0][1], rtol=1e-9, atol=1e-12)
    start, _, sums = results[0]
    hidden = np.tanh(x @ start["dense_1/kernel"] + start["dense_1/bias"])
    outputs = (hidden @ start["dense_2/kernel"] + start["dense_2/bias"]).reshape(-1, 2, 4)
    assert sums[0][COUNT] == 23
    assert sums[0][LOSS] == pytest.approx(formula(outputs, 0.2, symmetric=True).sum(), rel=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_arithmetics_compute_the_same_steps(dtype):
    x = np.random.default_rng(3).normal(size=(23, 5)).astype(dtype)
    start, ours, _ = after_two_steps(job("native", dtype, shards=4), x)
    _, theirs, _ = after_two_steps(job("numpy", dtype, shards=4), x, start)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9 if dtype == "float64" else 2e-4, atol=1e-5)


def test_beside_batch_normalisation_and_with_recomputed_activations():
    layers = [LAYERS[0], {"type": "batch_normalization"}, {"type": "dropout", "rate": 0.2}, *LAYERS[1:]]
    settings = job(layers=layers)
    one = train(settings)
    assert train(settings, 3).bits() == one.bits()
    again = train(job(layers=layers, checkpoint_activations=True))
    assert again.fingerprint == one.fingerprint


def test_two_views_by_a_shared_encoder():
    noise = {"type": "gaussian_noise", "stddev": 0.3}
    layers = [
        {**noise, "name": "one", "inputs": ["input"]},
        {"type": "dense", "units": 6, "name": "encoder"},
        {**noise, "name": "other", "inputs": ["input"]},
        {"type": "shared", "layer": "encoder", "name": "again"},
        {"type": "concatenate", "inputs": ["encoder", "again"]},
        {"type": "reshape", "shape": [2, 6]},
    ]
    settings = job(layers=layers)
    assert train(settings, 2).bits() == train(settings).bits()


def test_what_is_refused():
    with pytest.raises(ModelError, match=r"needs outputs of shape \(2, dim\), two embeddings .* returns \(8,\). Join"):
        build_spec(job(layers=LAYERS[:2]), (5,))
    with pytest.raises(JobError, match="'mae' compares outputs with targets, but the loss 'contrastive' reads no targ"):
        build_spec(job(metrics=["mae"]), (5,))
    with pytest.raises(ModelError, match="compares samples with each other, and takes no weights of samples or class"):
        Contrastive().bind("linear")(normal(4, 2, 3), np.empty(4), np.ones(4), Context())
    with pytest.raises(ModelError, match="needs a temperature above 0, but got -1"):
        Contrastive(temperature=-1.0)
    with pytest.raises(JobError, match=r'contrastive" compares all samples of a batch .* Set backend = "numpy", or'):
        check_job(msgspec.structs.replace(job(), backend="keras"))
    one_hot = make_job(data={"one_hot": True}, model={"layers": LAYERS}, loss={"name": "contrastive"},
                       train={"metrics": []})  # fmt: skip
    with pytest.raises(JobError, match="one_hot = true makes one-hot rows of the targets, but the loss 'contrastive'"):
        train(one_hot)
