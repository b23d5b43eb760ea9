"""Optimizers that need norms or masks, written with nothing but a transform: LAMB, and decay without biases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.optim.optimizer import NORM_BLOCK, Optimizer
from hpcnn.optim.transforms import (
    AddDecayedWeights,
    ClipByNorm,
    Parameter,
    ScaleByAdam,
    ScaleByLearningRate,
    StepInfo,
    Transform,
)
from hpcnn.training.step_stats import LOSS, WEIGHT
from hpcnn.training.updater import make_updater
from tests.small_jobs import fetched

SHARDS, STEPS, COUNT_OF_SHARD = 6, 4, 2.0
RATE, DECAY, BETA_1, BETA_2, EPSILON = 0.05, 0.1, 0.9, 0.99, 1e-6


@dataclass(frozen=True)
class ScaleByTrustRatio(Transform):
    """u <- u x norm of the parameter / norm of u (You et al., 2020, arXiv:1904.00962)."""

    needs = "per_parameter"

    def at(self, info: StepInfo, factor: float) -> tuple[None, float]:
        norms = info.norms
        ratio = norms.params / norms.updates if norms.params > 0 and norms.updates > 0 else 1.0
        return None, factor * ratio


class DecayWithoutBiases(AddDecayedWeights):
    """Weight decay of matrices alone."""

    def applies_to(self, parameter: Parameter) -> bool:
        return len(parameter.shape) > 1


ADAM = ScaleByAdam(BETA_1, BETA_2, EPSILON)
LAMB = [ADAM, DecayWithoutBiases(DECAY), ScaleByTrustRatio(), ScaleByLearningRate()]
CHAINS = {
    "lamb": LAMB,
    "clipped lamb": [ClipByNorm(0.5), *LAMB],
    "masked decay": [ADAM, DecayWithoutBiases(DECAY), ScaleByLearningRate()],
    "lamb, then clipped": [*LAMB[:3], ClipByNorm(2.0), ScaleByLearningRate()],
}


def _normal(shape, generator):
    return generator.normal(size=shape)


def _zeros(shape, generator):
    return np.zeros(shape)


LAYOUT = ParamLayout([
    ParamSpec("first", (150, 240), _normal),
    ParamSpec("frozen", (50,), _normal, trainable=False),
    ParamSpec("bias", (7,), _normal),
    ParamSpec("empty", (0, 3), _normal),
    ParamSpec("second", (100, 330), _normal),
    ParamSpec("last", (1001,), _zeros),
])  # fmt: skip
SIZE = LAYOUT.trainable_size
TRAINED = [spec for spec in LAYOUT.specs if spec.trainable]
assert any(LAYOUT.offsets[spec.name] % NORM_BLOCK for spec in TRAINED)  # parameters begin within blocks


def leaf(step: int, shard: int) -> np.ndarray:
    return np.random.default_rng([step, shard]).normal(size=SIZE) * (0.002 if step % 2 else 0.05)


def trained(comm, chain, dtype, arithmetic, *, sharded, bucket=0):
    """Return parameters and state after some steps."""
    updater = make_updater(
        comm, LAYOUT, Optimizer(chain, RATE), shards=SHARDS, dtype=dtype, stats_length=2,
        sharded=sharded, bucket=bucket, arithmetic=arithmetic,
    )  # fmt: skip
    if updater.store.writes:
        LAYOUT.initialize(updater.store.array, seed=3)
    updater.store.barrier()
    for step in range(STEPS):
        updater.start(updater.optimizer.step_info(step, 1 - 0.1 * step))
        for each in updater.exchange.contributions:
            lo, hi = each.subtree
            each.vector[...] = tree_sum(step, lo, hi, dtype)
            each.stats[WEIGHT], each.stats[LOSS] = COUNT_OF_SHARD * (hi - lo), 1.0
        updater.exchange.ready(0)
        assert updater.finish()
    state = fetched(updater.optimizer_state())
    return updater.store.array.tobytes(), state and {name: value.tobytes() for name, value in state.items()}


def tree_sum(step, lo, hi, dtype):
    if hi - lo == 1:
        return leaf(step, lo).astype(dtype)
    middle = (lo + hi) // 2
    return tree_sum(step, lo, middle, dtype) + tree_sum(step, middle, hi, dtype)


def formula(name: str) -> np.ndarray:
    """Restate the chains on whole arrays in float64."""
    store = np.empty(LAYOUT.size)
    LAYOUT.initialize(store, seed=3)
    params = store[:SIZE]
    segments = [
        slice(LAYOUT.offsets[spec.name], LAYOUT.offsets[spec.name] + spec.size) for spec in TRAINED if spec.size
    ]
    matrices = [len(spec.shape) > 1 for spec in TRAINED if spec.size]
    m, v = np.zeros(SIZE), np.zeros(SIZE)
    for step in range(STEPS):
        g = sum(leaf(step, shard) for shard in range(SHARDS)) / (SHARDS * COUNT_OF_SHARD)
        if name == "clipped lamb":
            g = g * min(1, 0.5 / np.linalg.norm(g))
        m, v = BETA_1 * m + (1 - BETA_1) * g, BETA_2 * v + (1 - BETA_2) * g**2
        u = m / (np.sqrt(v) + EPSILON) * np.sqrt(1 - BETA_2 ** (step + 1)) / (1 - BETA_1 ** (step + 1))
        for each, matrix in zip(segments, matrices, strict=True):
            if matrix:
                u[each] += DECAY * params[each]
            if "lamb" in name and params[each].any():
                u[each] *= np.linalg.norm(params[each]) / np.linalg.norm(u[each])
        if name == "lamb, then clipped":
            u *= min(1, 2.0 / np.linalg.norm(u))
        params -= RATE * (1 - 0.1 * step) * u
    return store


@pytest.mark.parametrize("name", CHAINS)
def test_the_weights_are_those_of_the_formula(name, optim_arithmetic):
    params, _ = trained(SerialCommunicator(), CHAINS[name], "float64", optim_arithmetic, sharded=False)
    np.testing.assert_allclose(np.frombuffer(params), formula(name), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CHAINS)
def test_any_number_of_ranks_comes_to_the_same_bits(name, dtype, optim_arithmetic):
    chain = CHAINS[name]
    alone = trained(SerialCommunicator(), chain, dtype, optim_arithmetic, sharded=False)
    assert trained(SerialCommunicator(), chain, dtype, optim_arithmetic, sharded=True) == alone
    for hosts in ([0, 0, 0], [0, 1, 0]):
        for sharded, bucket in ((False, 0), (True, 0), (True, 20_000)):

            def body(comm, sharded=sharded, bucket=bucket):
                return trained(comm, chain, dtype, optim_arithmetic, sharded=sharded, bucket=bucket)

            first, *others = run_threads(3, body, host_of_rank=hosts)
            assert first == alone
            assert {params for params, _ in others} == {alone[0]}


def test_each_of_it_counts(optim_arithmetic):
    """Proves that the tests above can fail."""
    results = {name: formula(name) for name in CHAINS}
    for name, result in results.items():
        assert not any(np.allclose(result, other, rtol=1e-4) for key, other in results.items() if key != name)
    chains = [ADAM, AddDecayedWeights(DECAY), ScaleByLearningRate()], CHAINS["masked decay"]
    one, other = (trained(SerialCommunicator(), chain, "float64", optim_arithmetic, sharded=False) for chain in chains)
    assert one[0] != other[0]


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_gradient_that_is_not_finite_is_named(sharded, wrong, optim_arithmetic):
    def body(comm):
        updater = make_updater(
            comm, LAYOUT, Optimizer(LAMB, RATE), shards=SHARDS, dtype="float32", stats_length=2, sharded=sharded,
            arithmetic=optim_arithmetic,
        )  # fmt: skip
        updater.start(updater.optimizer.step_info(0))
        for each in updater.exchange.contributions:
            each.vector[...], each.stats[...] = 1.0, 1.0
        if comm.rank == 1:
            updater.exchange.contributions[0].vector[LAYOUT.offsets["second"] + 99] = wrong
        return updater.finish(), updater.first_bad_gradient()

    replies = run_threads(3, body)
    assert [finite for finite, _ in replies] == [False] * 3
    assert [name for _, name in replies if name] == ["second"] * (1 if sharded else 3)
