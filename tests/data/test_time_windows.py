"""Windows of rows in the order of time are those that one would make by hand."""

import msgspec
import numpy as np
import pytest

from hpcnn.data.columns import Columns
from hpcnn.data.load import load, read_inputs, read_samples
from hpcnn.data.time_windows import WindowRows
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from hpcnn.job.data_checks import check_data
from hpcnn.job.window import Window
from tests.data.helpers import take
from tests.require import require

ROWS = 40
X = np.random.default_rng(0).normal(size=(ROWS, 2, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(ROWS, 2)).astype(np.float32)
STORE = np.arange(ROWS) % 3


def by_hand(x, y, window):
    count = (len(x) - window.span) // window.stride + 1
    starts = [i * window.stride for i in range(count)]
    first = window.steps + window.gap
    return (np.array([x[s : s + window.steps] for s in starts]),
            np.array([y[s + first : s + first + window.horizon] for s in starts]))  # fmt: skip


def read(section, folder, **options):
    return load(section, **{"seed": 1, "dtype": "float32", "base": folder, **options})


def check(samples, expected):
    for rows, values in zip((samples.x, samples.y), expected, strict=True):
        np.testing.assert_array_equal(take(rows), values)
        order = np.array([2, 0, 2, 1]) % len(values)
        np.testing.assert_array_equal(take(rows, indices=order), values[order])


@pytest.fixture
def folder(tmp_path):
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    np.save(tmp_path / "x.npy", X)
    return tmp_path


@pytest.mark.parametrize(
    "window",
    [
        Window(steps=5),
        Window(steps=4, horizon=3, stride=2),
        Window(steps=1, horizon=2, gap=3),
        Window(steps=6, gap=-1),
        Window(steps=6, gap=-6, horizon=6, stride=7),
    ],
)
def test_windows_by_hand(window, folder):
    splits = read(schema.Npz(path="d.npz", window=window), folder)
    assert isinstance(splits.train.x, WindowRows)
    check(splits.train, by_hand(X, Y, window))
    held = read(schema.Npz(path="d.npz", window=window, validation_fraction=0.45), folder)
    check(held.train, by_hand(X[:22], Y[:22], window))
    check(held.validation, by_hand(X[22:], Y[22:], window))


@pytest.mark.parametrize("scale", ["standardize", "minmax"])
def test_scaling_is_that_of_the_rows_to_train_on(folder, scale):
    window = Window(steps=4)
    section = schema.Npz(path="d.npz", window=window, scale=scale, validation_fraction=0.25)
    splits = read(section, folder, dtype="float64")
    rows = X[:30].astype(np.float64)
    shift, width = (rows.mean(0), rows.std(0)) if scale == "standardize" else (rows.min(0), np.ptp(rows, axis=0))
    np.testing.assert_allclose(take(splits.train.x), by_hand((rows - shift) / width, Y, window)[0], atol=1e-12)
    other = read_samples("d.npz", section, folder, scaling=splits.scaling, features=24)
    np.testing.assert_allclose(take(other.x), by_hand((X - shift) / width, Y, window)[0], atol=1e-5)


def test_rows_forecast_themselves(folder):
    window = Window(steps=3, horizon=2)
    for section in (
        schema.Npz(path="d.npz", y="", window=window),
        schema.Npy(x_path="x.npy", y_path="", window=window),
    ):
        check(read(section, folder).train, by_hand(X, X, window))
        check(
            read_samples("x.npy" if isinstance(section, schema.Npy) else "d.npz", section, folder),
            by_hand(X, X, window),
        )


def test_prediction_goes_to_the_last_row_and_takes_windows_too(folder):
    section = schema.Npz(path="d.npz", window=Window(steps=5, horizon=2))
    expected = by_hand(X, Y, Window(steps=5, horizon=0))[0]
    assert len(expected) == ROWS - 4
    np.testing.assert_array_equal(take(read_inputs("d.npz", section, folder, features=30).x), expected)
    np.save(folder / "windows.npy", expected)
    np.testing.assert_array_equal(take(read_inputs("windows.npy", section, folder, features=30).x), expected)
    np.savez(folder / "windows.npz", x=expected[:7], y=Y[:7])
    np.testing.assert_array_equal(take(read_samples("windows.npz", section, folder, features=30).x), expected[:7])


def test_windows_do_not_cross_series(folder):
    window = Window(steps=3)
    lines = [f"{STORE[i]},{X[i, 0, 0]},{Y[i, 0]}" for i in range(ROWS)]
    (folder / "d.csv").write_text("\n".join(["store,price,sold", *lines]))
    section = schema.Csv(path="d.csv", targets=["sold"], group="store", window=window, validation_fraction=0.3)
    table = np.stack([X[:, 0, 0], Y[:, 0]], axis=1)  # the past of the target is among the inputs
    parts = [(table[one == STORE], Y[one == STORE, 0]) for one in range(3)]

    def ends(part, begin, stop):
        windows = [by_hand(x[begin(len(x)) : stop(len(x))], y[begin(len(x)) : stop(len(x))], window) for x, y in parts]
        x, y = (np.concatenate(one) for one in zip(*windows, strict=True))
        np.testing.assert_array_equal(take(part.x), x)
        np.testing.assert_array_equal(take(part.y).reshape(y.shape), y)

    splits = read(section, folder)
    ends(splits.train, lambda n: 0, lambda n: n - round(n * 0.3))
    ends(splits.validation, lambda n: n - round(n * 0.3), lambda n: n)
    ends(read_samples("d.csv", section, folder), lambda n: 0, lambda n: n)
    held = msgspec.structs.replace(section, validation_fraction=0.0, validation_path="d.csv")
    ends(read(held, folder).validation, lambda n: 0, lambda n: n)
    inputs = read_inputs("d.csv", section, folder, features=6, columns=Columns(("price", "sold")))
    np.testing.assert_array_equal(
        take(inputs.x), np.concatenate([by_hand(x, y, Window(steps=3, horizon=0))[0] for x, y in parts])
    )


def test_series_of_arrays(folder):
    np.savez(folder / "s.npz", x=X, y=Y, station=STORE)
    with require("h5py").File(folder / "s.h5", "w") as file:
        file["x"], file["y"], file["station"] = X, Y, STORE
    window = Window(steps=3)
    expected = [by_hand(X[one == STORE], Y[one == STORE], window) for one in range(3)]
    whole = [by_hand(X[one == STORE], Y[one == STORE], Window(steps=3, horizon=0))[0] for one in range(3)]
    for kind, name in ((schema.Npz, "s.npz"), (schema.Hdf5, "s.h5")):
        section = kind(path=name, group="station", window=window)
        joined = tuple(np.concatenate(one) for one in zip(*expected, strict=True))
        check(read(section, folder).train, joined)
        check(read_samples(name, section, folder), joined)
        np.testing.assert_array_equal(take(read_inputs(name, section, folder).x), np.concatenate(whole))


def test_windows_of_a_file_in_chunks(folder):
    window = Window(steps=4, horizon=2)
    with require("h5py").File(folder / "d.h5", "w") as file:
        file.create_dataset("x", data=X, chunks=(7, 2, 3))
        file["y"] = Y
    splits = read(schema.Hdf5(path="d.h5", window=window, order="windows", validation_fraction=0.45), folder)
    check(splits.train, by_hand(X[:22], Y[:22], window))
    np.testing.assert_array_equal(splits.train_index, np.arange(17))


@pytest.mark.parametrize(
    ("window", "fraction", "text"),
    [
        (Window(steps=40), 0.0, r"the training data: .*data\.window\.steps = 40, .* takes 41 rows, but there are 40"),
        (Window(steps=20), 0.25, "the validation data: .* takes 21 rows, but there are 10"),
    ],
)  # fmt: skip
def test_too_few_rows(window, fraction, text, folder):
    with pytest.raises(DataError, match=text):
        read(schema.Npz(path="d.npz", window=window, validation_fraction=fraction), folder)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (schema.Npz(path="d.npz", y=""), "data.y is empty, so that there are no targets"),
        (schema.Npy(x_path="x.npy", y_path=""), "data.y_path is empty"),
        (schema.Digits(window=Window(steps=2)), 'data.window is for rows in the order of time, .* "digits"'),
        (schema.Npz(path="d.npz", window=Window(steps=2, gap=-3)), "gap = -3 lets targets begin before .* at least -2"),
        (schema.Npz(path="d.npz", y="", window=Window(steps=2, gap=-1)), "which the model would be shown"),
        (schema.Npz(path="d.npz", weights="w", window=Window(steps=2)), "data.weights is of single samples"),
        (schema.Npz(path="d.npz", fold="1/2", window=Window(steps=2)), "data.fold is of single samples"),
        (
            schema.Npz(path="d.npz", validation_split="stratified", validation_fraction=0.5, window=Window(steps=2)),
            '"stratified" takes rows apart, but data.window holds out the end',
        ),
        (
            schema.Npz(path="d.npz", group="g", validation_x="v", validation_y="w", window=Window(steps=2)),
            "leave data.validation_x out",
        ),
        (schema.Csv(path="d", targets=["a"], inputs={"b": ["c"]}, window=Window(steps=2)), "a table of several"),
    ],
)
def test_bad_settings(section, text):
    with pytest.raises(JobError, match=text):
        check_data(section)


def test_several_inputs_are_refused(folder):
    with pytest.raises(JobError, match=r"data\.window makes windows of one array, but the data have the inputs x, y"):
        read(schema.Npz(path="d.npz", x=["x", "y"], window=Window(steps=2)), folder)
