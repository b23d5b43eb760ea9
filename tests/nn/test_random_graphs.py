"""Networks drawn at random: both arithmetics, all ways to cut a batch and Keras find the same."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.nn import Network, TimeDistributed
from hpcnn.nn.build import LAYERS
from hpcnn.nn.native import NATIVE, NativeArithmetic
from hpcnn.nn.plain import NumpyArithmetic
from hpcnn.tools.export.onnx_file import onnx_model
from tests.nn import keras_graphs
from tests.nn.helpers import Model, normal
from tests.nn.random_graphs import Graph, drawn
from tests.nn.ranks_in_step import EACH_ALONE, ONE_RANK, SIZES, computed
from tests.require import require

SEEDS = range(200)
SOME = 10
"""Graphs in a test."""
SAMPLES = sum(SIZES)
WITH_KERAS = 200
"""How many of them are compared with Keras, too."""
GROUPS = pytest.mark.parametrize("seeds", [SEEDS[first : first + SOME] for first in SEEDS[::SOME]], ids=lambda s: s[0])


def passes(graph: Graph, dtype, *, arithmetic=None, training: bool, again: bool = False) -> dict[str, np.ndarray]:
    """Return outputs and gradients of one pass that is one shard."""
    model = Model(graph.layers, graph.input_shape, dtype=dtype).shake()
    if arithmetic is not None:
        model.ctx.arithmetic = arithmetic
    if again:
        model.network.recompute_activations()
    state = {spec.name: np.zeros(spec.shape) for spec in model.network.state}
    model.ctx.begin(training=training, random_key=(1, 2), new_state=state)
    y, backward = model.network.forward(model.params, graph.samples(SAMPLES, dtype), model.ctx)
    y = y.copy()
    dx = backward(normal(*y.shape, seed=1, dtype=dtype), model.grads, need_dx=True)
    return {"y": y, "dx": dx, **model.grads, **(state if training else {})}


def close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], tolerance: float, what: object) -> None:
    """Compare arrays, each with its largest number; where that is 0 but for rounding, with a part of the largest."""
    assert ours.keys() == theirs.keys()
    largest = max(np.abs(array).max(initial=0) for array in theirs.values())
    for name, array in theirs.items():
        allowed = tolerance * (np.abs(array).max(initial=0) + 1e-3 * largest)
        difference = np.abs(np.asarray(ours[name], np.float64) - array).max(initial=0)
        assert difference <= allowed, f"{what}, {name}: {difference} > {allowed}"


@GROUPS
def test_native_is_numpy(seeds) -> None:
    for seed in seeds:
        graph, training = drawn(seed), seed % 2 == 0
        native = passes(graph, np.float64, arithmetic=NATIVE, training=training)
        close(native, passes(graph, np.float64, training=training), 1e-10, seed)


@GROUPS
def test_no_bit_depends_on_ranks_or_on_what_is_computed_again(seeds) -> None:
    for seed in seeds:
        graph, dtype = drawn(seed, noise=True), (np.float32, np.float64)[seed % 2]
        model = Model(graph.layers, graph.input_shape, dtype=dtype).shake()
        if graph.shares:
            continue
        x = graph.samples(SAMPLES, dtype)
        dy = normal(SAMPLES, *model.network.output_shape, seed=1, dtype=dtype)
        again = Network(graph.layers, graph.input_shape)
        again.recompute_activations()
        expected = computed(model.network, model.params, x, dy, ONE_RANK, times=2)
        assert all(np.isfinite(array).all() for array in expected.values()), seed
        for network, cuts in ((model.network, EACH_ALONE), (again, ONE_RANK), (again, (0, 1, 4))):
            for name, array in computed(network, model.params, x, dy, cuts).items():
                assert array.tobytes() == expected[name].tobytes(), (seed, name, cuts)


@GROUPS
def test_computing_again_changes_no_bit_of_a_pass_that_is_one_shard(seeds) -> None:
    for seed in seeds:
        graph = drawn(seed, noise=True)
        for make in (NumpyArithmetic, NativeArithmetic):
            one, other = (
                passes(graph, np.float32, arithmetic=make(), training=True, again=again) for again in (False, True)
            )
            for name, array in one.items():
                assert array.tobytes() == other[name].tobytes(), (seed, name, make)


def compare_with_keras(seed: int) -> None:
    """Compare outputs, gradients and new state; every fifth graph in float32, every second in training."""
    single, training = seed % 5 == 0, seed % 2 == 0
    dtype = np.float32 if single else np.float64
    graph = drawn(seed, pooling_3d=single)
    model = Model(graph.layers, graph.input_shape, dtype=dtype).shake()
    dy = normal(SAMPLES, *model.network.output_shape, seed=1, dtype=dtype)
    x = graph.samples(SAMPLES, dtype)
    theirs = keras_graphs.passes(graph, model.params, x, dy, dtype, training=training)
    ours = passes(graph, dtype, training=training)
    if graph.ids:
        del ours["dx"]
    close(ours, theirs, 1e-4 if single else 1e-9, seed)


@pytest.mark.parametrize(
    "seeds", [range(first, min(first + SOME, WITH_KERAS)) for first in range(0, WITH_KERAS, SOME)], ids=lambda s: s[0]
)
def test_keras_finds_the_same(seeds) -> None:
    require("tensorflow")
    for seed in seeds:
        compare_with_keras(seed)


@GROUPS
def test_onnxruntime_finds_the_same(seeds) -> None:
    require("onnx")
    runtime = require("onnxruntime")
    for seed in seeds:
        graph = drawn(seed, noise=True)
        model = Model(graph.layers, graph.input_shape, dtype=np.float32).shake()
        x = graph.samples(SAMPLES, np.float32)
        made = onnx_model(model.network, model.network.layout.state_dict(model.vector), None).SerializeToString()
        session = runtime.InferenceSession(made, providers=["CPUExecutionProvider"])
        (outputs,) = session.run(["output"], {"input": x})
        logits, _ = model.forward(x, training=False)
        close({"y": outputs}, {"y": model.network.head_forward(logits, model.ctx)}, 1e-4, seed)


def test_the_comparison_notices_a_small_error() -> None:
    right = {"y": np.ones(3), "dx": np.full(2, 1e-3)}
    close({"y": np.ones(3) + 1e-10, "dx": np.full(2, 1e-3)}, right, 1e-9, 0)
    for name, size in (("y", 1e-8), ("dx", 1e-11)):
        with pytest.raises(AssertionError, match=name):
            close({**right, name: right[name] + size}, right, 1e-9, 0)


def test_graphs_are_of_all_kinds_of_layers() -> None:
    graphs = [drawn(seed, noise=True) for seed in SEEDS]
    kinds = {type(layer) for graph in graphs for layer in Network(graph.layers, graph.input_shape).layers}
    inner = {type(layer.inner) for graph in graphs for layer in graph.layers if isinstance(layer, TimeDistributed)}
    assert set(LAYERS.values()) == kinds
    assert len(inner) > 3
    assert sum(graph.shares for graph in graphs) > 20
