import numpy as np
import pytest

from hpcnn.data import load as load_module
from hpcnn.data import rows as rows_module
from hpcnn.data.checks import column_label
from hpcnn.data.load import Scaling, load
from hpcnn.data.rows import ArrayRows
from hpcnn.data.samples import measure_scaling
from hpcnn.errors import DataError, HpcnnError, JobError
from hpcnn.job import data as schema
from tests.data.helpers import on_ranks, take

rng = np.random.default_rng(0)
X = np.column_stack([rng.normal(5, 3, 200), rng.normal(1e6, 1e-3, 200), np.full(200, 0.1), rng.integers(0, 9, 200)])
Y = rng.normal(size=200)


@pytest.fixture
def folder(tmp_path):
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    np.savez(tmp_path / "v.npz", x=X[:30] + 1, y=Y[:30])
    return tmp_path


def npz(folder, *, seed=0, dtype=np.float64, scaling=None, **settings):
    return load(schema.Npz(path="d.npz", **settings), seed=seed, dtype=dtype, base=folder, scaling=scaling)


def test_plain(folder):
    splits = npz(folder)
    assert splits.validation is None
    assert splits.scaling is None
    assert len(splits.train) == 200
    assert splits.train.x_shape == (4,)
    np.testing.assert_array_equal(take(splits.train.x), X)
    np.testing.assert_array_equal(take(splits.train.y), Y)


def test_samples_take_both(folder):
    x, y = np.empty((2, 4), np.float32), np.empty(2, np.float32)
    npz(folder, dtype=np.float32).train.take(np.array([7, 3]), x, y)
    np.testing.assert_array_equal(x, X[[7, 3]].astype(np.float32))
    np.testing.assert_array_equal(y, Y[[7, 3]].astype(np.float32))


def test_validation_file(folder):
    splits = npz(folder, validation_path="v.npz")
    np.testing.assert_array_equal(take(splits.validation.x), X[:30] + 1)
    np.testing.assert_array_equal(take(splits.validation.y), Y[:30])


def test_validation_fraction(folder):
    splits = npz(folder, validation_fraction=0.25)
    assert (len(splits.train), len(splits.validation)) == (150, 50)
    both = np.concatenate([take(splits.train.y), take(splits.validation.y)])
    np.testing.assert_array_equal(np.sort(both), np.sort(Y))
    pairs = {y: tuple(x) for x, y in zip(X, Y, strict=True)}
    for part in (splits.train, splits.validation):
        assert all(pairs[y] == tuple(x) for x, y in zip(take(part.x), take(part.y), strict=True))
    other = npz(folder, validation_fraction=0.25, seed=1)
    assert not np.array_equal(take(other.validation.y), take(splits.validation.y))


def test_validation_twice_is_refused(folder):
    with pytest.raises(JobError, match=r"validation_fraction = 0.5, but the job also names validation files"):
        npz(folder, validation_path="v.npz", validation_fraction=0.5)


def test_fraction_that_leaves_nothing(folder):
    with pytest.raises(DataError, match="leaves 0 for validation"):
        npz(folder, validation_fraction=0.001)


def test_flat_inputs_are_one_feature(tmp_path):
    np.savez(tmp_path / "d.npz", x=Y, y=Y)
    np.savez(tmp_path / "v.npz", x=Y[:3], y=Y[:3])
    splits = npz(tmp_path, validation_path="v.npz")
    assert splits.train.x_shape == splits.validation.x_shape == (1,)
    np.testing.assert_array_equal(take(splits.train.x)[:, 0], Y)


EXPECTED = {
    ("standardize", "feature"): lambda x: (x.mean(axis=0), x.std(axis=0)),
    ("standardize", "all"): lambda x: (x.mean(), x.std()),
    ("minmax", "feature"): lambda x: (x.min(axis=0), np.ptp(x, axis=0)),
    ("minmax", "all"): lambda x: (x.min(), np.ptp(x)),
}


@pytest.mark.parametrize("entries", [1, 24, 2**16])
@pytest.mark.parametrize("kind", EXPECTED)
def test_scaling_statistics(kind, entries, folder, monkeypatch):
    monkeypatch.setattr(rows_module, "LEAF_ENTRIES", entries)
    splits = npz(folder, validation_fraction=0.25, scale=kind[0], scale_over=kind[1])
    raw = npz(folder, validation_fraction=0.25)
    x = take(raw.train.x).astype(np.longdouble)
    shift, width = EXPECTED[kind](x)
    width = np.where(X.std(axis=0) < 1e-9, 1, width) if kind[1] == "feature" else width
    np.testing.assert_allclose(splits.scaling.shift, shift.astype(np.float64), rtol=1e-14)
    np.testing.assert_allclose(splits.scaling.scale, (1 / width).astype(np.float64), rtol=1e-8)
    assert splits.scaling.shift.shape == ((4,) if kind[1] == "feature" else ())
    for part, raw_part in ((splits.train, raw.train), (splits.validation, raw.validation)):
        expected = (take(raw_part.x) - splits.scaling.shift) * splits.scaling.scale
        np.testing.assert_array_equal(take(part.x), expected)


@pytest.mark.parametrize("kind", ["standardize", "minmax"])
@pytest.mark.parametrize("value", [0.1, 1e300, -7.0, 0.0])
def test_constant_columns_become_zero(kind, value):
    rows = ArrayRows(np.full((1000, 2), value))
    scaling = measure_scaling(rows, kind, "feature", load_module.SERIAL)
    assert scaling.scale.tolist() == [1, 1]
    assert not take(scaling.apply(rows)).any()


def test_images_have_one_pair_or_one_per_pixel(tmp_path):
    for over, shape in (("all", ()), ("feature", (8, 8))):
        data = schema.Digits(scale="minmax", scale_over=over)
        splits = load(data, seed=0, dtype=np.float32, base=tmp_path)
        assert splits.scaling.shift.shape == shape
        x = take(splits.train.x)
        assert (x.min(), x.max()) == (0, 1)


def test_a_known_scaling_is_used_as_it_is(folder):
    known = Scaling(np.arange(4.0), np.full(4, 2.0))
    for settings in ({}, {"scale": "standardize"}):
        splits = npz(folder, scaling=known, **settings)
        assert splits.scaling is known
        np.testing.assert_array_equal(take(splits.train.x), (X - np.arange(4.0)) * 2.0)


def test_a_known_scaling_of_another_shape(folder):
    with pytest.raises(DataError, match=r"inputs have shape \(4,\) per sample, but the run was trained.*shape \(3,\)"):
        npz(folder, scaling=Scaling(np.zeros(3), np.ones(3)))


def test_scaling_travels_in_a_checkpoint(folder):
    scaling = npz(folder, scale="standardize").scaling
    again = Scaling.from_dict({name: array.copy() for name, array in scaling.to_dict().items()})
    assert again.shift.tobytes() == scaling.shift.tobytes()
    assert again.scale.tobytes() == scaling.scale.tobytes()


@pytest.mark.parametrize("scale", ["none", "standardize"])
@pytest.mark.parametrize("limit", [0, 2**26])
def test_small_data_in_memory_are_converted_once_with_the_same_bits(scale, limit, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "d.npz", x=X, y=Y)
    monkeypatch.setattr(rows_module, "MATERIALIZE_BYTES", limit)
    splits = npz(tmp_path, scale=scale, dtype=np.float32, validation_fraction=0.1)
    assert (isinstance(splits.train.x, ArrayRows) and splits.train.x.dtype == np.float32) is (limit > 0)
    expected = X if scale == "none" else (X - splits.scaling.shift) * splits.scaling.scale
    x = np.concatenate([take(splits.train.x, np.float32), take(splits.validation.x, np.float32)])
    assert sorted(map(bytes, x)) == sorted(map(bytes, expected.astype(np.float32)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("kind", EXPECTED)
def test_any_number_of_ranks_scales_with_the_same_bits(kind, size, folder, monkeypatch):
    monkeypatch.setattr(rows_module, "LEAF_ENTRIES", 36)
    data = schema.Npz(path="d.npz", validation_fraction=0.2, scale=kind[0], scale_over=kind[1])
    alone = load(data, seed=0, dtype=np.float32, base=folder)

    def work(reduction):
        splits = load(data, seed=0, dtype=np.float32, base=folder, reduction=reduction)
        return splits, reduction.leaves

    results = on_ranks(size, work)
    for splits, _ in results:
        assert splits.scaling.shift.tobytes() == alone.scaling.shift.tobytes()
        assert splits.scaling.scale.tobytes() == alone.scaling.scale.tobytes()
        assert take(splits.train.x, np.float32).tobytes() == take(alone.train.x, np.float32).tobytes()
    calls = [[n_leaves for n_leaves, _, _ in leaves] for _, leaves in results]
    assert all(other == calls[0] for other in calls)
    assert max(calls[0]) > 7


DAMAGED = {
    "one": ({(17, 2): np.nan}, "inputs of the training data: column 2 holds 1 value of 200 .* first in row 17, all co"),
    "infinite": ({(3, 0): -np.inf, (9, 0): np.inf}, "column 0 holds 2 values of 200 .* first in row 3, all counted"),
    "several columns": ({(50, 1): np.nan, (2, 3): np.nan}, "column 1 holds 1 .* row 50, .*; 1 other column has"),
    "target": ({(30, "y"): np.nan}, "targets of the training data: the column holds 1 value .* row 30"),
}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("case", DAMAGED)
def test_values_that_are_not_finite(case, size, tmp_path, monkeypatch):
    """All ranks raise, though the value lies in the rows of one."""
    monkeypatch.setattr(rows_module, "LEAF_ENTRIES", 36)
    x, y = X.copy(), Y.copy()
    for (row, column), value in DAMAGED[case][0].items():
        if column == "y":
            y[row] = value
        else:
            x[row, column] = value
    np.savez(tmp_path / "d.npz", x=x, y=y)

    def work(reduction):
        return load(schema.Npz(path="d.npz"), seed=0, dtype=np.float64, base=tmp_path, reduction=reduction)

    for error in on_ranks(size, work):
        with pytest.raises(DataError, match=DAMAGED[case][1]):
            raise error


def test_validation_values_that_are_not_finite(folder):
    x = X[:30].copy()
    x[4, 1] = np.nan
    np.savez(folder / "v.npz", x=x, y=Y[:30])
    with pytest.raises(DataError, match=r"inputs of the validation data: column 1 holds 1 value of 30 .* row 4"):
        npz(folder, validation_path="v.npz")


def test_names_of_columns_stand_in_errors(tmp_path):
    (tmp_path / "d.csv").write_text("age,price,height\n1,2,3\n4,5,nan\n")
    data = schema.Csv(path="d.csv", targets=["price"])
    with pytest.raises(DataError, match=r"column 'height' \(number 1\) holds 1 value of 2 .* row 1"):
        load(data, seed=0, dtype=np.float32, base=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((2, (3,), None), "column 2"),
        ((2, (3,), ("a", "b", "c")), "column 'c' (number 2)"),
        ((11, (8, 8), None), "entry (1, 3) of a sample"),
        ((0, (), None), "the column"),
    ],
)
def test_column_labels(arguments, text):
    assert column_label(*arguments) == text


def test_too_large_for_float32(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([[1.0], [1e300]]), y=np.array([0.0, 1e300]))
    with pytest.raises(DataError, match=r"inputs .* too large for float32.* row 1"):
        npz(tmp_path, dtype=np.float32)
    assert npz(tmp_path, dtype=np.float64).train.x_shape == (1,)
    with pytest.raises(DataError, match=r"targets .* too large for float32.* row 1"):
        npz(tmp_path, dtype=np.float32, scale="minmax")


COUNTS = {
    "counts": ({"x": X, "y": Y[:9]}, r"training data: 200 inputs \(shape \(200, 4\)\), but 9 targets \(shape \(9,\)\)"),
    "no samples": ({"x": X[:0], "y": Y[:0]}, r"training data: inputs of shape \(0, 4\) are empty"),
    "no features": ({"x": X[:, :0], "y": Y}, r"training data: inputs of shape \(200, 0\) are empty"),
}


@pytest.mark.parametrize("case", COUNTS)
def test_counts(case, tmp_path):
    np.savez(tmp_path / "d.npz", **COUNTS[case][0])
    with pytest.raises(DataError, match=COUNTS[case][1]):
        npz(tmp_path)


VALIDATION = {
    "inputs": ({"x": X[:5, :3], "y": Y[:5]}, r"inputs have shape \(3,\) a sample in the validation.* \(4,\) in the tr"),
    "targets": ({"x": X[:5], "y": X[:5]}, r"targets have shape \(4,\) a sample in the validation data, but \(\) in"),
    "counts": ({"x": X[:5], "y": Y[:4]}, "the validation data: 5 inputs .* but 4 targets"),
}


@pytest.mark.parametrize("case", VALIDATION)
def test_validation_that_does_not_fit(case, folder):
    np.savez(folder / "v.npz", **VALIDATION[case][0])
    with pytest.raises(DataError, match=VALIDATION[case][1]):
        npz(folder, validation_path="v.npz")


def test_computed_data_are_not_read_to_check_them(tmp_path):
    data = schema.Synthetic(kind="linear", samples=10**12)
    splits = load(data, seed=0, dtype=np.float32, base=tmp_path)
    assert len(splits.train) == 10**12


def test_computed_data_can_be_split_and_scaled(tmp_path):
    data = schema.Synthetic(kind="classification", samples=5000, validation_fraction=0.2, scale="standardize")
    splits = load(data, seed=0, dtype=np.float32, base=tmp_path)
    x = take(splits.train.x)
    assert (x.mean(), x.std()) == pytest.approx((0, 1), abs=1e-9)
    assert len(splits.validation) == 1000


def test_all_names_are_there():
    assert all(hasattr(load_module, name) for name in load_module.__all__)
    assert issubclass(DataError, HpcnnError)
