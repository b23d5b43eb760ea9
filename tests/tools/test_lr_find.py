"""The learning-rate range test: the same on any number of ranks, for each optimizer, and honest where nothing falls."""

from __future__ import annotations

import csv
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hpcnn import lr_find
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.errors import DivergedError, HpcnnError
from hpcnn.runs.build import build_training
from hpcnn.tools.lr_find.measure import RangeTest, measure, rates_between
from hpcnn.tools.lr_find.outputs import COLUMNS, as_csv, as_json, chart, draw, sentences
from hpcnn.tools.lr_find.suggestion import Suggestion, smoothed, suggest
from hpcnn.tools.outputs import make_folder, write_whole
from tests.require import require
from tests.small_jobs import build, make_job

PLAIN = {"layers": [{"type": "dense", "units": 8, "activation": "tanh"},
                    {"type": "dense", "units": 3, "activation": "softmax"}]}  # fmt: skip


def plain_job(**changes):
    """Return a job without dropout, on samples enough that batches are alike."""
    return make_job(**{"model": PLAIN, "data": {"samples": 200}, "train": {"batch_size": 40, "shards": 4}} | changes)


def range_test(
    job, ranks: int = 1, *, low: float = 1e-6, high: float = 10.0, steps: int = 60, prepare=None
) -> RangeTest:
    def body(comm) -> RangeTest:
        training = build_training(job, Path(), comm)
        if prepare is not None:
            prepare(training)
        return measure(training, comm, low=low, high=high, steps=steps)

    first, *others = [body(SerialCommunicator())] if ranks == 1 else run_threads(ranks, body)
    for other in others:
        assert other.losses.tobytes() == first.losses.tobytes()
        assert suggest(other) == suggest(first)
    return first


def test_the_same_on_any_number_of_ranks() -> None:
    job = make_job(train={"batch_size": 13, "shards": 8})  # with dropout, penalties, and shards that are empty
    alone = range_test(job, steps=40)
    assert len(alone.losses) > 20
    for ranks in (2, 3):
        together = range_test(job, ranks, steps=40)
        assert together.losses.tobytes() == alone.losses.tobytes()
        assert together.rates.tobytes() == alone.rates.tobytes()
        assert (together.ended, suggest(together)) == (alone.ended, suggest(alone))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_each_optimizer_gets_a_rate_that_works(name: str) -> None:
    draws = {"batch_size": 40, "shards": 4, "seed": 6}  # a start that is not near the end already
    test = range_test(plain_job(optimizer={"name": name}, train=draws), steps=60)
    found = suggest(test)
    assert found is not None
    assert found.steepest <= found.lowest
    training = build(plain_job(optimizer={"name": name, "learning_rate": found.rate}, train=draws))
    losses = []
    for step in range(25):
        epoch, place = divmod(step, training.shards.steps_per_epoch)
        training.shards.start_epoch(epoch)
        sums = training.replica.train_step(step, partial(training.shards.shards, place), factor=1)
        losses.append(training.replica.model.layout.values(sums)["loss"])
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_rates_are_those_asked_for_whatever_the_job_says() -> None:
    seen = []

    def watch(training) -> None:
        step = training.replica.train_step

        def noted(number, load, *, factor):
            seen.append(training.replica.learning_rate(number, factor))
            return step(number, load, factor=factor)

        training.replica.train_step = noted

    changes = {"optimizer": {"name": "sgd", "learning_rate": 0.7, "decay": 0.3}}
    test = range_test(plain_job(**changes), prepare=watch, high=1e-2)
    np.testing.assert_allclose(seen, rates_between(1e-6, 1e-2, 60), rtol=1e-12)
    np.testing.assert_array_equal(test.rates, rates_between(1e-6, 1e-2, 60))
    other = range_test(plain_job(optimizer={"name": "sgd"}, schedule={"name": "cosine"}), high=1e-2)
    np.testing.assert_allclose(test.losses, other.losses, rtol=1e-5)


def test_it_ends_where_the_loss_diverges() -> None:
    rising = range_test(plain_job(optimizer={"name": "adam"}), high=1e3)
    assert rising.ended == "the loss rose to 4 times its low"
    assert len(rising.losses) == len(rising.rates) < 60
    linear = {"layers": [{"type": "dense", "units": 3}]}
    infinite = range_test(
        plain_job(optimizer={"name": "sgd"}, loss={"name": "mse"}, data={"samples": 99, "one_hot": True}, model=linear),
        low=1e20,
        high=1e30,
    )
    assert infinite.ended.endswith("was no longer finite")
    assert len(infinite.losses) == len(infinite.rates)
    assert np.isfinite(infinite.losses).all()


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_first_loss_that_is_not_finite_is_no_matter_of_the_rate(ranks: int) -> None:
    def spoil(training) -> None:
        training.replica.model.vector[...] = np.nan

    with pytest.raises(
        DivergedError, match=r"the loss is not finite in the first step, before any update \(the first ou"
    ):
        range_test(plain_job(), ranks, prepare=spoil)


def test_a_loss_that_never_falls_gets_no_suggestion() -> None:
    test = range_test(plain_job(), low=1e-12, high=1e-9)
    assert suggest(test) is None
    assert sentences(test, None)[-1].startswith("no suggestion: the loss does not fall at any of these rates")
    assert as_json("job", test, None)["suggested"] is None
    assert len(chart(test, None)) == 15
    flat = RangeTest(test.rates, np.full(60, 2.0), 60, "")
    assert suggest(flat) is None
    assert chart(flat, None)
    exploded = np.array([2.4, 900, 700, 300, 90, 30, 12, 8, 6, 5])  # it falls, but from what it rose to
    assert suggest(RangeTest(rates_between(0.5, 50, 40)[:10], exploded, 40, "")) is None


def made_up(noise: float = 0.0, ended: str = "") -> RangeTest:
    """Return a loss that falls by half around 1e-3, is lowest at 1e-1, and rises from there."""
    rates = rates_between(1e-6, 1.0, 121)
    place = np.log10(rates)
    losses = 2 - 1 / (1 + np.exp(-4 * (place + 3))) + 3 * np.maximum(0, place + 1) ** 2
    return RangeTest(rates, losses + noise * np.random.default_rng(1).standard_normal(121), 121, ended)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_what_is_read_off_a_curve(noise: float) -> None:
    found = suggest(made_up(noise))
    assert found is not None
    assert 0.5e-3 < found.steepest < 2e-3
    assert 0.3e-1 < found.lowest < 1.2e-1
    assert Suggestion(0.0012345, 0.05678).rate == 0.0012
    assert Suggestion(0.0012345, 0.05678).tenth == 0.0057


@pytest.mark.parametrize(("at", "by"), [(slice(20, 23), 3.0), (slice(-3, None), -2.2)], ids=["before", "after"])
def test_only_the_fall_to_the_lowest_loss_counts(at: slice, by: float) -> None:
    """Steeper falls there are before it, behind a bump, and after it, where the loss goes up and down."""
    test = made_up()
    test.losses[at] += by
    found = suggest(test)
    assert found is not None
    assert 0.5e-3 < found.steepest < 2e-3
    assert 0.3e-1 < found.lowest < 1.2e-1


def test_noise_is_no_fall() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).standard_normal(100)
        assert suggest(RangeTest(rates_between(1e-6, 1, 100), 2 + 0.3 * noise, 100, "")) is None


def test_smoothing_does_not_lag() -> None:
    straight = np.linspace(0, 10, 200)
    np.testing.assert_allclose(smoothed(straight, 200)[20:-20], straight[20:-20], rtol=1e-4)


def test_outputs(tmp_path: Path) -> None:
    test = made_up()
    found = suggest(test)
    assert found is not None
    words = sentences(test, found)
    assert words[0] == "121 of 121 steps, at learning rates from 1.0e-06 to 1.0e+00"
    assert words[-1] == f"put it into the job by: --set optimizer.learning_rate={found.rate:g}"
    lines = chart(test, found)
    assert len(lines) == 15
    assert max(map(len, lines)) <= 11 + COLUMNS
    assert sum(":" in line for line in lines) >= 10
    assert all("*" in "".join(lines)[at:] for at in (0, 100))
    rows = list(csv.DictReader(io.StringIO(as_csv(test))))
    assert [float(row["learning_rate"]) for row in rows] == test.rates.tolist()
    assert [float(row["loss"]) for row in rows] == test.losses.tolist()
    assert json.loads(json.dumps(as_json("job", test, found)))["suggested"] == found.rate
    require("matplotlib")
    draw("job", test, found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_loss_that_still_falls_at_the_end_says_so() -> None:
    test = RangeTest(rates_between(1e-3, 1, 100), np.linspace(3, 1, 100), 100, "")
    assert "the loss still falls at the highest rate: a higher --to may suggest a higher one" in sentences(
        test, suggest(test)
    )


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    make_folder(None)
    make_folder(tmp_path / "new" / "one")
    make_folder(tmp_path / "new" / "one")
    (tmp_path / "file").touch()
    with pytest.raises(HpcnnError, match=r"can't make the folder .*file' \(File exists\)\. Give another one by -o"):
        make_folder(tmp_path / "file")
    with pytest.raises(HpcnnError, match=r"can't write .*none/x\.csv'"):
        write_whole(tmp_path / "none" / "x.csv", "text")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "1", "--to", "0.1"], "--from 1 must be below --to 0.1"),
        (["--from", "0"], "'0' is not a learning rate: give a number above 0, for example 1e-5"),
        (["--to", "inf"], "'inf' is not a learning rate"),
        (["--steps", "19"], "'19' must be an integer from 20 to"),
    ],
)
def test_bad_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as left:
        lr_find.main(arguments)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
