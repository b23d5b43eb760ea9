"""Each rank for its own parts, or all alike: the same bits, wherever the ranks are and whenever gradients travel."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pytest

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.core.tree import fold_leaves
from hpcnn.errors import CheckpointError
from hpcnn.job import optimizer as job
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.optim.arithmetic import Arithmetic
from hpcnn.optim.arithmetics import arithmetic
from hpcnn.optim.build import build_optimizer
from hpcnn.optim.numpy_arithmetic import NUMPY
from hpcnn.training.step_stats import LOSS, WEIGHT
from hpcnn.training.updater import Updater, make_updater
from tests.optim.cases import CASES, PLAIN, gradient
from tests.small_jobs import fetched

SHARDS, STATS, SAMPLES = 7, 3, 2
"""`SAMPLES` in each shard."""


def _normal(shape, generator):
    return generator.normal(size=shape)


LAYOUT = ParamLayout([
    ParamSpec("first", (150, 240), _normal, l2=0.01),
    ParamSpec("frozen", (50,), _normal, trainable=False, l1=1.0, l2=1.0),
    ParamSpec("bias", (7,), _normal, l1=0.02),
    ParamSpec("second", (100, 330), _normal, l1=0.001, l2=0.002),
    ParamSpec("last", (1001,), _normal),
])  # fmt: skip
SIZE = LAYOUT.trainable_size
assert BLOCK < 36_000 < 2 * BLOCK < SIZE  # the penalized matrices lie over the borders of blocks

ONE = [0]
HOSTS = {"one rank": ONE, "one node": [0, 0, 0], "1 + 2": [0, 1, 1], "2 + 2 cyclic": [0, 1, 0, 1],
         "2 + 1 + 2": [0, 0, 1, 2, 2]}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One way to do the same thing."""

    hosts: tuple[int, ...] = (0,)
    sharded: bool = False
    bucket: int = 0
    arithmetic: Arithmetic = field(default=NUMPY, repr=False)  # its address would be in names of tests

    def run(self, body):
        if len(self.hosts) == 1:
            return [body(SerialCommunicator())]
        return run_threads(len(self.hosts), body, host_of_rank=self.hosts)

    def updater(self, comm: Communicator, section, dtype="float32") -> Updater:
        updater = make_updater(
            comm, LAYOUT, build_optimizer(section), shards=SHARDS, dtype=dtype, stats_length=STATS,
            sharded=self.sharded, bucket=self.bucket, arithmetic=self.arithmetic,
        )  # fmt: skip
        if updater.store.writes:
            LAYOUT.initialize(updater.store.array, seed=3)
        updater.store.barrier()
        return updater


@lru_cache(maxsize=64)
def leaf(step: int, shard: int, dtype: str):
    return (gradient(step, SIZE, seed=shard) * SAMPLES).astype(dtype)


def fill(updater: Updater, step: int) -> None:
    """Write the contributions to `step`: by turns their mean's norm is above the limit of the tables' `clip_norm`, \
and below."""
    dtype = updater.store.array.dtype.name
    for each in updater.exchange.contributions:
        each.vector[...] = fold_leaves(each.subtree, lambda shard: leaf(step, shard, dtype), np.add)
        each.stats[...] = 0
        each.stats[WEIGHT] = each.stats[LOSS] = SAMPLES * (each.subtree[1] - each.subtree[0])


def do_steps(updater: Updater, steps) -> None:
    for step in steps:
        updater.start(updater.optimizer.step_info(step))
        fill(updater, step)
        updater.exchange.ready(SIZE // 2)
        assert updater.finish()


def bits_of(updater: Updater):
    """Return parameters and state, on rank 0; the parameters alone elsewhere."""
    state = fetched(updater.optimizer_state())
    named = {} if state is None else {name: value.tobytes() for name, value in state.items()}
    return updater.store.array.tobytes(), named


@lru_cache(maxsize=256)
def reference(section, dtype="float32", n_steps=2, arithmetic=NUMPY):
    """What one rank comes to that has no parts."""
    updater = Way(arithmetic=arithmetic).updater(SerialCommunicator(), section, dtype)
    do_steps(updater, range(n_steps))
    return bits_of(updater)


def check_bits(way: Way, section, dtype="float32", n_steps=2) -> None:
    params, state = reference(section, dtype, n_steps, way.arithmetic)

    def body(comm):
        updater = way.updater(comm, section, dtype)
        do_steps(updater, range(n_steps))
        return bits_of(updater)

    first, *others = way.run(body)
    assert first[0] == params
    assert first[1] == state
    assert all(found == params for found, _ in others)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_optimizer_sharded_comes_to_the_same_bits(case, optim_arithmetic):
    for hosts in HOSTS.values():
        check_bits(Way(tuple(hosts), sharded=True, arithmetic=optim_arithmetic), case.section)
    check_bits(Way((0, 1, 1), sharded=True, arithmetic=optim_arithmetic), case.section, "float64")


@pytest.mark.parametrize("bucket", [20_000, 40_000])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("case", [*PLAIN, *CASES[-10:]], ids=lambda case: case.id)
def test_gradients_that_travel_in_buckets_come_to_the_same_bits(case, sharded, bucket):
    for hosts in ((0, 0), (0, 1, 0, 1)):
        check_bits(Way(hosts, sharded, bucket), case.section)


@pytest.mark.parametrize("hosts", HOSTS.values(), ids=HOSTS)
def test_every_rank_for_itself_comes_to_the_same_bits(hosts):
    for section in (job.Adam(clip_norm=2.0), job.Sgd(momentum=0.9)):
        check_bits(Way(tuple(hosts)), section)
        check_bits(Way(tuple(hosts)), section, "float64")


def test_the_limits_are_hit_and_penalties_count():
    """Proves that the tests above can fail."""
    plain = reference(job.Sgd())[0]
    assert reference(job.Sgd(clip_norm=2.0))[0] != plain
    assert reference(job.Sgd(clip_value=0.4))[0] != plain
    assert reference(job.Sgd(clip_norm=2.0), n_steps=1) != reference(job.Sgd(clip_norm=1.9), n_steps=1)


WAYS = [Way(), Way((0, 0, 0)), Way((0, 0), sharded=True), Way((0, 1, 1), sharded=True),
        Way((0, 1, 0, 1), sharded=True, bucket=20_000), Way((0, 0, 1, 2, 2), bucket=20_000)]  # fmt: skip


@pytest.mark.parametrize("section", [job.Adam(clip_norm=2.0), job.RmsProp(momentum=0.5, centered=True)], ids=str)
@pytest.mark.parametrize(("before", "after"), [(WAYS[i], WAYS[(i + j) % 6]) for i in range(6) for j in (1, 3)], ids=str)
def test_state_taken_out_on_some_ranks_goes_on_on_others(before, after, section):
    def first_half(comm):
        updater = before.updater(comm, section)
        do_steps(updater, range(1))
        state, params = fetched(updater.optimizer_state()), updater.store.array.copy()
        assert (state is None) == (before.sharded and comm.rank > 0)
        do_steps(updater, range(1, 2))  # what was taken out stays as it was
        return params, state

    params, state = before.run(first_half)[0]
    kept = {name: value.copy() for name, value in state.items()}

    def second_half(comm):
        updater = after.updater(comm, section)
        if updater.store.writes:
            updater.store.array[...] = params
        updater.store.barrier()
        updater.load_optimizer_state(state)
        do_steps(updater, range(1, 2))
        return bits_of(updater)

    assert after.run(second_half)[0] == reference(section)
    for name, value in state.items():  # what was loaded is not what is worked on
        assert value.tobytes() == kept[name].tobytes()


@pytest.mark.parametrize("way", [Way(), Way((0, 0, 0)), Way((0, 1), sharded=True)], ids=str)
def test_the_state_of_another_optimizer_or_model_is_refused(way):
    def body(comm):
        updater = way.updater(comm, job.Adam())
        good = {"first_moment": np.zeros(SIZE), "second_moment": np.zeros(SIZE)}
        for wrong in ({}, good | {"velocity": np.zeros(SIZE)}, good | {"second_moment": np.zeros(SIZE - 1)}):
            with pytest.raises(CheckpointError, match=r"does not match this optimizer: the file holds .* needs"):
                updater.load_optimizer_state(wrong)
        updater.load_optimizer_state(good)

    way.run(body)


EVERYWHERE = [Way(), Way((0, 0, 0)), *(Way(tuple(hosts), sharded=True) for hosts in HOSTS.values()),
              Way((0, 1, 0), sharded=True, bucket=20_000), Way((0, 0), bucket=20_000)]  # fmt: skip


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("section", [job.Sgd(), job.Adam(clip_norm=1.0), job.Adam(clip_value=1.0)], ids=str)
@pytest.mark.parametrize("way", EVERYWHERE, ids=str)
def test_a_gradient_that_is_not_finite_is_known_to_all_and_named_by_who_has_it(way, section, wrong):
    place = LAYOUT.offsets["second"] + 1234

    def body(comm):
        updater = way.updater(comm, section)
        updater.start(updater.optimizer.step_info(0))
        fill(updater, 0)
        if comm.rank == comm.size - 1:
            updater.exchange.contributions[-1].vector[place] = wrong
        return updater.finish(), updater.first_bad_gradient()

    replies = way.run(body)
    assert {finite for finite, _ in replies} == {False}
    assert [name for _, name in replies if name] == ["second"] * (1 if way.sharded else len(replies))


@pytest.mark.parametrize("way", EVERYWHERE, ids=str)
def test_a_square_that_overflows_is_not_finite_and_has_no_name(way):
    def body(comm):
        updater = way.updater(comm, job.Sgd())
        updater.start(updater.optimizer.step_info(0))
        fill(updater, 0)
        for each in updater.exchange.contributions:
            each.vector[0] = 1e30
        with np.errstate(all="ignore"):  # as in training
            return updater.finish(), updater.first_bad_gradient()

    assert set(way.run(body)) == {(False, None)}


@pytest.mark.parametrize("section", [job.Sgd(), job.Adam(clip_norm=1.0)], ids=str)
@pytest.mark.parametrize("way", EVERYWHERE, ids=str)
def test_where_the_loss_is_not_finite_nothing_is_updated(way, section):
    def body(comm):
        updater = way.updater(comm, section)
        before = bits_of(updater)
        for wrong in (np.nan, np.inf):
            updater.start(updater.optimizer.step_info(0))
            fill(updater, 0)
            if comm.rank == 0:
                updater.exchange.contributions[0].stats[LOSS] = wrong
            assert updater.finish()
            assert not np.isfinite(updater.exchange.stats[LOSS])
        assert bits_of(updater) == before

    way.run(body)


def test_sharded_state_is_held_once_and_parameters_once_a_host():
    updaters = run_threads(5, lambda comm: Way(sharded=True).updater(comm, job.Adam()), host_of_rank=[0, 0, 1, 2, 2])
    sizes = [updater._bound.state["first_moment"].size for updater in updaters]
    assert sum(sizes) == SIZE
    assert max(sizes) < SIZE / 4
    assert len({updater.store.array.ctypes.data for updater in updaters}) == 3


@pytest.mark.parametrize("hosts", [None, [0, 0, 0], [0, 1, 2]])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("bucket", [0, 40])
def test_native_sums_of_tiny_numbers_are_those_of_the_core(hosts, sharded, bucket):
    """Within one rank the core adds them with gradual underflow; between ranks NumPy does, in any thread."""
    tiny, n = np.finfo(np.float32).tiny, 100
    leaves = [np.full(n, share * tiny, np.float32) for share in (1.0, 1.25, -0.75)]
    layout = ParamLayout([ParamSpec("all", (n,), lambda shape, generator: np.zeros(shape))])

    def body(comm):
        updater = make_updater(
            comm, layout, build_optimizer(job.Sgd(learning_rate=1.0)), shards=3, dtype="float32", stats_length=STATS,
            sharded=sharded, bucket=bucket, arithmetic=arithmetic("native"),
        )  # fmt: skip
        if updater.store.writes:
            updater.store.array[...] = 0
        updater.store.barrier()
        updater.start(updater.optimizer.step_info(0))
        for each in updater.exchange.contributions:
            each.vector[...] = fold_leaves(each.subtree, leaves.__getitem__, np.add)
            each.stats[...] = 0
            each.stats[WEIGHT] = (each.subtree[1] - each.subtree[0]) / 3
        updater.exchange.ready(0)
        assert updater.finish()
        return updater.store.array.copy()

    found = [body(SerialCommunicator())] if hosts is None else run_threads(3, body, host_of_rank=hosts)
    for params in found:
        assert np.array_equal(params, np.full(n, np.float32(-1.5 * tiny)))
