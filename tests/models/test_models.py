"""Networks by name: what they are made of, what becomes of them in training, and what is refused."""

from __future__ import annotations

import inspect
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.errors import JobError, ModelError
from hpcnn.job import model as schema
from hpcnn.job.load import check_table
from hpcnn.job.models import OPTIONS
from hpcnn.models import fno, lstm_stack, mobilenet, resnet, tcn, transformer, unet, vgg
from hpcnn.models.build import MODELS, build_network
from hpcnn.nn import Context, Network
from hpcnn.nn.build import model_section
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.step_stats import LOSS
from tests.models.cases import SMALL, batch_of, name_of, section
from tests.small_jobs import cut, make_job


@pytest.mark.parametrize("case", SMALL)
def test_the_same_as_from_its_layers_one_by_one(case):
    options, shape = SMALL[case]
    network = build_network(section(case), shape)
    assert network.layers == Network(MODELS[name_of(case)](**options), shape).layers
    listed = msgspec.convert(model_section(network), schema.Model)
    assert build_network(listed, shape).layers == network.layers
    assert network.recordable


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_arguments_with_the_same_defaults(name):
    arguments = inspect.signature(MODELS[name]).parameters
    assert {key: each.default for key, each in arguments.items()} == msgspec.structs.asdict(OPTIONS[name]())


def test_all_models_are_named_and_tried():
    assert set(OPTIONS) == set(MODELS) == {name_of(case) for case in SMALL}
    (field,) = (each for each in msgspec.structs.fields(schema.Model) if each.name == "name")
    assert set(field.type.__args__[0].__args__) == set(OPTIONS)


@pytest.mark.parametrize(
    ("layers", "shape", "trainable"),
    [
        # 4n + 3 convolutions of 3 x 3, shortcuts of 1 x 1, and gamma and beta of each normalisation
        (resnet.layers(20), (32, 32, 3), 272_474),
        (resnet.layers(56), (32, 32, 3), 855_770),
        (vgg.layers(16, classes=1000), (224, 224, 3), 138_357_544),
        (vgg.layers(19, classes=1000), (224, 224, 3), 143_667_240),
        (vgg.layers(11, classes=1000), (224, 224, 3), 132_863_336),
        (mobilenet.layers(classes=1000), (224, 224, 3), 4_231_976),
        (mobilenet.layers(filters=16, classes=1000), (224, 224, 3), 1_331_592),
    ],
)
def test_known_numbers_of_parameters(layers, shape, trainable):
    assert Network(layers, shape).layout.trainable_size == trainable


def test_numbers_of_parameters_by_formula():
    width, hidden, heads = 8, 12, 2
    block = 2 * 2 * width + 4 * (width * width + width) + 2 * width * hidden + hidden + width
    decoder = transformer.layers("decoder", layers=3, width=width, heads=heads, hidden=hidden, vocabulary=5)
    expected = 5 * width + 10 * width + 3 * block + 2 * width + width * 5 + 5
    assert Network(decoder, (10,)).layout.size == expected
    lstms = lstm_stack.layers(units=4, layers=2, outputs=3, bidirectional=True)
    assert Network(lstms, (7, 2)).layout.size == 2 * 4 * 4 * (2 + 4 + 1) + 2 * 4 * 4 * (8 + 4 + 1) + 8 * 3 + 3
    operator = fno.layers(modes=3, width=4, layers=2, hidden=5)
    assert Network(operator, (8, 2)).layout.size == 3 * 4 + 2 * (3 * 2 * 16 + 4 * 5) + 5 * 5 + 6
    steps = tcn.layers(filters=4, levels=2, kernel_size=3)
    assert Network(steps, (9, 2)).layout.size == (2 * 4 + 4) + (3 * 2 * 4 + 4) + 3 * (3 * 16 + 4) + 5
    halved = unet.layers(filters=2, levels=1, classes=3, batch_normalization=False)
    inner = (9 * 2 + 2) + (9 * 4 + 2) + (9 * 8 + 4) + (9 * 16 + 4) + (4 * 8 + 2) + (9 * 8 + 2) + (9 * 4 + 2)
    assert Network(halved, (4, 4, 1)).layout.size == inner + 2 * 3 + 3


def test_a_step_of_a_tcn_does_not_see_those_after_it():
    options, shape = SMALL["tcn_of_each_step"]
    network = Network(tcn.layers(**options), shape)
    params = network.layout.views(np.random.default_rng(0).normal(size=network.layout.size))
    x = np.random.default_rng(1).normal(size=(1, *shape))
    before = network.forward(params, x, Context())[0].copy()
    x[0, 5] += 1
    after = network.forward(params, x, Context())[0]
    np.testing.assert_array_equal(after[0, :5], before[0, :5])
    assert (after[0, 5:] != before[0, 5:]).all(axis=-1)[0]


def test_an_operator_of_a_finer_grid_with_the_same_weights():
    """What it makes of a wave does not depend on how many points the wave is given at."""
    outputs = []
    for points in (32, 64):
        network = Network(fno.layers(modes=4, width=3, layers=2, hidden=5), (points, 1))
        vector = np.random.default_rng(0).normal(size=network.layout.size) / 3
        x = np.sin(2 * np.pi * np.arange(points) / points)[np.newaxis, :, np.newaxis]
        outputs.append(network.forward(network.layout.views(vector), x, Context())[0].copy())
    np.testing.assert_allclose(outputs[1][:, ::2], outputs[0], atol=2e-3)


LOSS_BEHIND = {"softmax": "sparse_categorical_crossentropy", "sigmoid": "binary_crossentropy", "linear": "mse"}


def job_of(case, arithmetic, dtype="float64", *, dropout=True):
    """Return a job of the model, whose data nobody reads."""
    options, shape = SMALL[case]
    if not dropout and "dropout" in msgspec.structs.asdict(OPTIONS[name_of(case)]()):
        options = options | {"dropout": 0.0}
    return make_job(
        model={"layers": None, "name": name_of(case), "options": options},
        loss={"name": LOSS_BEHIND[build_network(section(case), shape).head]},
        train={"arithmetic": arithmetic, "dtype": dtype, "metrics": [], "shards": 4},
    )


def trained(case, job, comm, steps, start=None):
    """Return the losses of some steps on one batch, and the weights."""
    replica = build_replica(job, build_spec(job, SMALL[case][1]), comm, None)
    if start is not None:
        replica.load_weights(start)
    x, y = batch_of(case, replica.model.network)
    stats = [replica.train_step(step, cut(x, y, 4), factor=0.1).copy() for step in range(steps)]
    return [each[LOSS] for each in stats], replica.weights()


@pytest.mark.parametrize("case", SMALL)
def test_both_arithmetics_learn_the_same(case):
    network = build_network(section(case), SMALL[case][1])
    rng = np.random.default_rng(3)
    start = {spec.name: 0.5 + 0.3 * rng.normal(size=spec.shape) for spec in network.layout.specs}
    results = []
    for arithmetic in ("native", "numpy"):
        job = job_of(case, arithmetic, dropout=False)
        results.append(trained(case, job, SerialCommunicator(), 3, start))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-9)
    for name, array in results[0][1].items():
        np.testing.assert_allclose(array, results[1][1][name], rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("case", SMALL)
def test_the_same_bits_on_one_rank_and_on_three(case):
    job = job_of(case, "native", "float32")

    def body(comm):
        losses, weights = trained(case, job, comm, 2)
        return losses, {name: array.tobytes() for name, array in weights.items()}

    alone = body(SerialCommunicator())
    assert all(each == alone for each in run_threads(3, body))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet.layers(depth=21), r"a depth of 6n \+ 2, such as 20, 32, .* but got 21"),
        (lambda: resnet.layers(depth=2), r"a depth of 6n \+ 2, .* but got 2"),
        (lambda: vgg.layers(depth=12), "a vgg has a depth of 11, 13, 16, 19, but got 12"),
        (lambda: transformer.layers("coder"), "unknown kind of transformer 'coder'.* Known: "),
        (lambda: transformer.layers(width=10, heads=4), "a multiple of its heads, but got 10 and 4"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ModelError, match=message):
        make()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "resnt"}, "model.name: unknown name 'resnt'. Did you mean 'resnet'.* Known: fno, lstm_stack"),
        ({"options": {"dept": 20}}, r"unknown key 'dept' in \[model.options\]. Did you mean 'depth'"),
        ({"options": {"depth": 0}}, "model.options.depth = 0: expected an integer >= 1 and <= 2000"),
        ({"options": {"depth": 21}}, r"model.options.depth = 21: expected 6n \+ 2, such as 20"),
        ({"options": {"statistics": "all"}}, "model.options.statistics: unknown statistics 'all'"),
        ({"name": "vgg", "options": {"depth": 12}}, "model.options.depth = 12: expected one of 11, 13, 16, 19"),
        (
            {"name": "transformer", "options": {"heads": 3}},
            "model.options.width = 64: expected a multiple of model.options.heads = 3",
        ),
        ({"layers": [{"type": "flatten"}]}, r"\[model\] has both layers and name: keep one of them"),
        ({"entry": "a:b"}, r"\[model\] has both name and entry: keep one of them"),
    ],
)
def test_refused_in_a_job(model, message):
    table = {"data": {"source": "digits"}, "loss": {"name": "mse"}, "model": {"name": "resnet"} | model}
    with pytest.raises(JobError, match=message):
        check_table(table, Path("job.toml"))


def test_a_size_that_does_not_fit_the_samples_is_refused_under_the_name_of_the_network():
    model = schema.Model(name="unet", options={"levels": 2})
    with pytest.raises(ModelError, match=r'model.name = "unet" .* does not fit samples of shape \(9, 9, 1\): layer'):
        build_network(model, (9, 9, 1))
