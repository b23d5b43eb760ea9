"""From the sections of a job file to networks and losses, and from users' own functions."""

from __future__ import annotations

import re
import sys

import msgspec
import numpy as np
import pytest

from hpcnn.errors import JobError, ModelError
from hpcnn.job import layers as sections
from hpcnn.job import model as schema
from hpcnn.models.build import build_network
from hpcnn.nn import (
    Activation,
    BatchNormalization,
    Context,
    Dense,
    Dropout,
    Flatten,
    GroupNormalization,
    LayerNorm,
    Network,
    Reshape,
    Residual,
    RMSNormalization,
)
from hpcnn.nn.build import LAYERS, build_loss, model_section
from hpcnn.nn.losses import LOSSES, Huber

ALL = [
    sections.Flatten(),
    sections.Dense(
        units=6,
        activation="relu",
        use_bias=False,
        kernel_initializer="he_normal",
        bias_initializer="ones",
        kernel_l1=0.1,
        kernel_l2=0.2,
        bias_l1=0.3,
        bias_l2=0.4,
        trainable=False,
    ),
    sections.Residual(
        layers=[sections.LayerNorm(epsilon=0.1, center=False), sections.Dense(units=6), sections.Dropout(rate=0.5)]
    ),
    sections.ActivationLayer(activation="elu", name="mine"),
    sections.Reshape(shape=[2, -1]),
    sections.LayerNorm(scale=False, trainable=False),
    sections.BatchNormalization(
        momentum=0.9, epsilon=0.2, center=False, scale=False, statistics="shard", trainable=False
    ),
    sections.GroupNormalization(groups=1, epsilon=0.3, center=False, scale=False, trainable=False),
    sections.RMSNormalization(epsilon=0.4, trainable=False),
    sections.Dense(units=4, activation="softmax"),
]


def test_all_layers_with_their_options_and_names():
    network = build_network(schema.Model(layers=ALL), (2, 3))
    assert network.layers == (
        Flatten(name="flatten_1"),
        Dense(
            6,
            activation="relu",
            use_bias=False,
            kernel_initializer="he_normal",
            bias_initializer="ones",
            kernel_l1=0.1,
            kernel_l2=0.2,
            bias_l1=0.3,
            bias_l2=0.4,
            trainable=False,
            name="dense_1",
        ),
        Residual(
            (
                LayerNorm(epsilon=0.1, center=False, name="layer_norm_1"),
                Dense(6, name="dense_2"),
                Dropout(0.5, name="dropout_1"),
            ),
            name="residual_1",
        ),
        Activation("elu", name="mine"),
        Reshape((2, -1), name="reshape_1"),
        LayerNorm(scale=False, trainable=False, name="layer_norm_2"),
        BatchNormalization(
            momentum=0.9,
            epsilon=0.2,
            center=False,
            scale=False,
            statistics="shard",
            trainable=False,
            name="batch_normalization_1",
        ),
        GroupNormalization(
            groups=1, epsilon=0.3, center=False, scale=False, trainable=False, name="group_normalization_1"
        ),
        RMSNormalization(epsilon=0.4, trainable=False, name="rms_normalization_1"),
        Dense(4, name="dense_3"),
    )
    assert (network.head, network.input_shape, network.output_shape) == ("softmax", (2, 3), (2, 4))


def test_defaults_agree_with_the_schema():
    layers = [
        sections.Dense(units=2),
        sections.LayerNorm(),
        sections.Dropout(rate=0.1),
        sections.ActivationLayer(activation="relu"),
        sections.Flatten(),
        sections.BatchNormalization(),
        sections.GroupNormalization(),
        sections.RMSNormalization(),
    ]
    built = build_network(schema.Model(layers=layers), (32, 3)).layers
    assert built == (
        Dense(2, name="dense_1"),
        LayerNorm(name="layer_norm_1"),
        Dropout(0.1, name="dropout_1"),
        Activation("relu", name="activation_1"),
        Flatten(name="flatten_1"),
        BatchNormalization(name="batch_normalization_1"),
        GroupNormalization(name="group_normalization_1"),
        RMSNormalization(name="rms_normalization_1"),
    )


def test_every_section_has_a_layer_and_every_loss_section_a_loss():
    assert LAYERS.keys() == {cls.__struct_config__.tag for cls in sections.Layer.__args__}
    assert LOSSES.keys() | {"function"} == {cls.__struct_config__.tag for cls in schema.Loss.__args__}


HEADS = {
    "dense": ([sections.Dense(units=2, activation="tanh")], "tanh", 1),
    "linear": ([sections.Dense(units=2)], "linear", 1),
    "activation": (
        [sections.Dense(units=2, activation="relu"), sections.ActivationLayer(activation="softmax")],
        "softmax",
        1,
    ),
    "alone": ([sections.ActivationLayer(activation="relu")], "linear", 1),
    "other": ([sections.Dense(units=2, activation="relu"), sections.Flatten()], "linear", 2),
}


@pytest.mark.parametrize("case", HEADS)
def test_the_last_activation_becomes_the_head(case):
    layers, head, count = HEADS[case]
    network = build_network(schema.Model(layers=layers), (3,))
    assert (network.head, len(network.layers)) == (head, count)


def test_an_activation_before_the_last_layer_stays():
    network = build_network(schema.Model(layers=HEADS["activation"][0]), (3,))
    assert network.layers == (Dense(2, activation="relu", name="dense_1"),)


@pytest.mark.parametrize("shape", [[2, 3], [2, 3, 1], [1, 2, 3]])
def test_the_models_input_shape_may_differ_by_axes_of_length_1(shape):
    network = build_network(schema.Model(layers=[sections.Flatten()], input_shape=shape), (2, 3))
    assert network.input_shape == tuple(shape)


@pytest.mark.parametrize("shape", [[6], [3, 2]])
def test_the_models_input_shape_may_not_differ_otherwise(shape):
    message = re.escape(f"model.input_shape is {tuple(shape)}, but a sample of the data has shape (2, 3).")
    with pytest.raises(ModelError, match=message):
        build_network(schema.Model(layers=[sections.Flatten()], input_shape=shape), (2, 3))


@pytest.mark.parametrize(
    ("layers", "head"),
    [
        (
            [Flatten(), Dense(3, activation="tanh", kernel_l2=0.1), Dense(2, activation="softmax", use_bias=False)],
            "linear",
        ),
        ([Reshape((2, -1)), LayerNorm(scale=False), Activation("elu")], "linear"),
        ([Flatten(), Residual((Dense(6), Dropout(0.5, name="mine"))), Dense(6)], "sigmoid"),
        ([Flatten(), Dense(2, activation="relu")], "softmax"),
        ([Flatten(), Dense(2, activation="relu"), Activation("linear")], "linear"),
        ([Activation("relu")], "linear"),
        ([Activation("relu")], "tanh"),
    ],
)
def test_a_network_is_built_again_from_its_section(layers, head):
    network = Network(layers, (2, 3), head)
    section = msgspec.convert(msgspec.toml.decode(msgspec.toml.encode(model_section(network))), schema.Model)
    again = build_network(section, (2, 3))
    assert (again.layers, again.head, again.ending) == (network.layers, network.head, network.ending)


# --- losses ---


@pytest.mark.parametrize("section", [schema.Huber(delta=2.0), schema.BinaryCrossentropy(label_smoothing=0.1)])
def test_losses_take_their_options_and_the_networks_head(section):
    network = build_network(schema.Model(layers=[sections.Dense(units=2, activation="sigmoid")]), (3,))
    bound = build_loss(section, network.output_shape, network.head)
    assert bound.head == "sigmoid"
    expected = Huber(delta=2.0) if isinstance(section, schema.Huber) else LOSSES["binary_crossentropy"](0.1)
    assert bound.loss == expected


@pytest.mark.parametrize("weights", ["none", "balanced", [1.0, 2.0]])
def test_class_weights_are_left_to_the_caller(weights):
    network = build_network(schema.Model(layers=[sections.Dense(units=2, activation="softmax")]), (3,))
    section = schema.SparseCategoricalCrossentropy(class_weights=weights)
    assert build_loss(section, network.output_shape, network.head).loss == LOSSES["sparse_categorical_crossentropy"]()


def test_a_loss_that_does_not_fit_the_network():
    network = build_network(schema.Model(layers=[sections.Dense(units=1, activation="softmax")]), (3,))
    with pytest.raises(ModelError, match="Use activation 'sigmoid' with the loss 'binary_crossentropy'"):
        build_loss(schema.Mse(), network.output_shape, network.head)


# --- entries ---

CODE = """
from hpcnn.errors import DataError
from hpcnn.nn import Dense, Network

def make_model(input_shape, width=4):
    return Network([Dense(width, name="a")], input_shape, "tanh")

def other_shape(input_shape):
    return Network([Dense(4, name="a")], (99,))

def nothing(input_shape):
    pass

def long(input_shape):
    raise ValueError("first\\n  second")

def leaving(input_shape):
    raise SystemExit(3)

def broken(input_shape):
    return 1 / 0

def broken_network(input_shape):
    return Network([], input_shape)

def raises_ours(input_shape):
    raise DataError("no such table")

constant = 3
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "users_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "models.py").write_text(CODE)
    (folder / "imports_missing.py").write_text("import a_module_that_is_missing")
    (folder / "raises.py").write_text("1 / 0")
    (folder / "exits.py").write_text("raise SystemExit('usage')")
    monkeypatch.syspath_prepend(tmp_path)
    yield "users_package"
    for name in [name for name in sys.modules if name.split(".")[0] == "users_package"]:
        del sys.modules[name]


@pytest.mark.parametrize("options", [{}, {"width": 7}])
def test_an_entry_gets_the_shape_and_the_options(package, options):
    network = build_network(schema.Model(entry=f"{package}.models:make_model", options=options), (3,))
    assert isinstance(network, Network)
    assert (network.input_shape, network.output_shape, network.head) == ((3,), (options.get("width", 4),), "tanh")
    assert (
        network.forward(network.layout.views(np.zeros(network.layout.size)), np.ones((2, 3)), Context())[0].shape[0]
        == 2
    )


def test_an_entry_gets_the_models_input_shape(package):
    network = build_network(schema.Model(entry=f"{package}.models:make_model", input_shape=[1, 3]), (3,))
    assert network.input_shape == (1, 3)


MESSAGES = {
    "form": ("users_package.models", JobError, "model.entry must look like 'package.module:function', but is 'users_p"),
    "form_function": (
        "users_package.models:",
        JobError,
        "model.entry must look like 'package.module:function', but is",
    ),
    "module": (
        "users_package.model:x",
        JobError,
        "no module 'users_package.model'. Did you mean 'users_package.models'?",
    ),
    "package": ("user_package.models:x", JobError, "there is no module 'user_package'. Did you mean 'users_package'?"),
    "function": (
        "users_package.models:make_modle",
        JobError,
        "module 'users_package.models' has no function 'make_modle'. Did you mean 'make_model'?",
    ),
    "constant": ("users_package.models:constant", JobError, "holds no function, but something else, under 'constant'"),
    "import": (
        "users_package.imports_missing:x",
        ModelError,
        "its module can't be imported: No module named 'a_module_that_is_missing'",
    ),
    "import_raises": (
        "users_package.raises:x",
        ModelError,
        "importing its module failed with ZeroDivisionError: division",
    ),
    "none": ("users_package.models:nothing", ModelError, "must return an hpcnn.nn.Network, but returned NoneType"),
    "raises": (
        "users_package.models:broken",
        ModelError,
        "models:broken' failed with ZeroDivisionError: division by zero",
    ),
    "raises lines": ("users_package.models:long", ModelError, "models:long' failed with ValueError: first second"),
    "exits": ("users_package.models:leaving", ModelError, "models:leaving' failed with sys.exit(3)"),
    "import_exits": ("users_package.exits:x", ModelError, "importing its module failed with sys.exit('usage')"),
    "network": ("users_package.models:broken_network", ModelError, "a network needs at least one layer, but got none"),
    "shape": (
        "users_package.models:other_shape",
        ModelError,
        "returned a network for samples of shape (99,), but was asked for (3,)",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages_of_entries(package, case):
    entry, error, message = MESSAGES[case]
    with pytest.raises(error, match=re.escape(message)) as caught:
        build_network(schema.Model(entry=entry), (3,))
    if case in ("import", "import_raises", "raises"):
        assert caught.value.__cause__ is not None


def test_options_that_the_function_does_not_know(package):
    with pytest.raises(ModelError, match=r"failed with TypeError: make_model.* unexpected keyword argument 'wdith'"):
        build_network(schema.Model(entry=f"{package}.models:make_model", options={"wdith": 3}), (3,))


def test_options_may_not_hold_the_shape(package):
    with pytest.raises(JobError, match=r"model\.options can't hold 'input_shape'"):
        build_network(schema.Model(entry=f"{package}.models:make_model", options={"input_shape": [3]}), (3,))


def test_the_working_folder_comes_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = "from hpcnn.nn import Dense, Network\nmake = lambda input_shape: Network([Dense(1)], input_shape)\n"
    for name in ("model_that_lies_here", "statistics"):
        (tmp_path / f"{name}.py").write_text(text)
    network = build_network(schema.Model(entry="model_that_lies_here:make"), (3,))
    assert network.input_shape == (3,)
    assert sys.path[-1] == str(tmp_path)
    with pytest.raises(JobError, match=r"has no function 'make'.*'statistics.py' in the working folder is not it, but"):
        build_network(schema.Model(entry="statistics:make"), (3,))


@pytest.mark.parametrize(
    ("layers", "entry", "given"), [([], "", "none"), ([sections.Flatten()], "a:b", "layers and entry")]
)
def test_layers_or_an_entry(layers, entry, given):
    with pytest.raises(JobError, match=rf"needs one of layers .* and an entry .* but has {given}"):
        build_network(schema.Model(layers=layers, entry=entry), (3,))
