"""Data that a formula computes: images to segment, the heat equation, time series."""

import math
import tracemalloc
from decimal import Decimal

import numpy as np
import pytest

from hpcnn.data import random_numbers
from hpcnn.data import rows as rows_module
from hpcnn.data.load import load, prepare_targets
from hpcnn.data.random_numbers import cosines
from hpcnn.data.readers import heat, read_source, series, shapes
from hpcnn.errors import DataError
from hpcnn.job import data as schema
from tests.data.helpers import on_ranks, take

N = 60
SETTINGS = {
    "shapes": schema.Shapes(samples=N, size=16),
    "coloured shapes": schema.Shapes(samples=N, size=11, channels=3, shapes=5, noise=0.0, seed=2),
    "heat": schema.Heat(samples=N),
    "heat, few points": schema.Heat(samples=N, points=3, modes=1, time=0.0, seed=2),
    "series": schema.Series(samples=N),
    "series, far ahead": schema.Series(samples=N, length=5, horizon=9, stride=7, components=1, noise=0.0, seed=2),
}


def source_of(case, **changes):
    data = SETTINGS[case]
    return read_source(type(data)(**{name: getattr(data, name) for name in data.__struct_fields__} | changes), None)


@pytest.mark.parametrize("case", SETTINGS)
def test_a_row_is_a_function_of_seed_and_place(case, monkeypatch):
    source, again, other = source_of(case), source_of(case, samples=2 * N), source_of(case, seed=9)
    indices = np.random.default_rng(0).integers(0, N, 150)
    values = [take(rows) for rows in (source.x, source.y)]
    for rows, more, differs, whole in zip(source.arrays, again.arrays, other.arrays, values, strict=True):
        assert take(more, indices=range(N)).tobytes() == whole.tobytes()
        assert not np.array_equal(take(differs), whole)
        assert take(rows, indices=indices).tobytes() == whole[indices].tobytes()
        assert b"".join(take(rows, indices=[i]).tobytes() for i in indices) == whole[indices].tobytes()
        assert take(rows, np.float32).tobytes() == whole.astype(np.float32).tobytes()
    monkeypatch.setattr(rows_module, "BLOCK_BYTES", 200)
    for rows, whole in zip(source_of(case).arrays, values, strict=True):
        assert take(rows).tobytes() == whole.tobytes()


@pytest.mark.parametrize("case", SETTINGS)
def test_any_size_without_memory(case):
    source = source_of(case, samples=10**12)
    indices = np.random.default_rng(0).integers(0, 10**12, 100)
    x, y = (np.empty((100, *rows.shape[1:]), np.float32) for rows in source.arrays)

    def take_all():
        source.x.take(indices, x)
        source.y.take(indices, y)

    take_all()
    tracemalloc.start()
    try:
        take_all()
        assert tracemalloc.get_traced_memory()[1] < 2**18  # NumPy's own buffers
    finally:
        tracemalloc.stop()
    assert len(np.unique(x.reshape(100, -1), axis=0)) == 100


@pytest.mark.parametrize("case", SETTINGS)
def test_any_number_of_ranks_loads_the_same(case):
    data, labels = SETTINGS[case], "shapes" in case
    kind = {"kind": "labels", "loss_name": "sparse"} if labels else {"kind": "values", "loss_name": "mse"}

    def work(reduction):
        settings = {name: getattr(data, name) for name in data.__struct_fields__}
        section = type(data)(**settings | {"validation_fraction": 0.25, "scale": "standardize", "scale_over": "all"})
        splits = load(section, seed=1, dtype=np.float32, base=None, reduction=reduction)
        shape = (*splits.train.y.shape[1:], *((4,) if labels else ()))
        splits = prepare_targets(splits, one_hot=False, output_shape=shape, reduction=reduction, **kind)
        assert (len(splits.train), len(splits.validation)) == (45, 15)
        return [
            take(rows, np.float32).tobytes() for part in (splits.train, splits.validation) for rows in (part.x, part.y)
        ]

    (alone,) = on_ranks(1, work)
    assert all(other == alone for other in on_ranks(3, work))


# --------------------------------------------------------------------------------------------------------------- cosine


def test_cosine():
    turns = np.concatenate([np.random.default_rng(0).uniform(size=2000), np.linspace(0, 1, 1001)])
    exact = [math.cos(2 * math.pi * (turn if turn < 0.5 else turn - 1)) for turn in turns]  # as exact as libm is
    out = cosines(turns.copy(), np.empty_like(turns), np.empty_like(turns))
    assert np.abs(out - exact).max() < 1e-15
    assert np.abs(out).max() <= 1
    quarters = np.array([0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(cosines(quarters, np.empty(5), np.empty(5)), [1, 0, -1, 0, 1], rtol=0, atol=2e-16)


@pytest.mark.parametrize("exponent", [0.0, 1e-20, 0.3, 1.0, 17.5, 700.0, 1e5, math.inf])
def test_decay(exponent):
    assert heat.decay(exponent) == pytest.approx(math.exp(-exponent), rel=4e-16, abs=0)
    assert heat.decay(exponent) == float(Decimal(-exponent).exp())


# --------------------------------------------------------------------------------------------------------------- shapes


def test_shapes_are_where_their_labels_say():
    source = read_source(schema.Shapes(samples=200, size=24, channels=3, noise=0.2), None)
    x, y = take(source.x), take(source.y)
    assert (x.shape, y.shape, y.dtype) == ((200, 24, 24, 3), (200, 24, 24), np.uint8)
    background, painted = x[y == 0], x[y > 0]
    assert 0 <= background.min() < background.max() < 0.2
    assert background.mean() == pytest.approx(0.1, abs=0.002)
    assert 0.5 <= painted.min() < painted.max() < 1.2
    assert (np.bincount(y.ravel(), minlength=4) > 5000).all()


def test_without_noise_a_shape_has_one_brightness():
    source = read_source(schema.Shapes(samples=50, size=32, shapes=1, noise=0.0), None)
    for image, labels in zip(take(source.x)[..., 0], take(source.y), strict=True):
        (kind,) = np.unique(labels[labels > 0])
        assert len(np.unique(image)) == 2
        assert (image > 0).tolist() == (labels == kind).tolist()


@pytest.mark.parametrize(("kind", "area"), [(shapes.CIRCLE, math.pi), (shapes.SQUARE, 1.75**2), (shapes.TRIANGLE, 2)])
def test_areas(kind, area):
    box = (slice(0, 401), slice(0, 401))
    mask = shapes.Shape(0, kind, 200.0, 200.0, 150.0, box).mask()
    assert mask.sum() == pytest.approx(area * 150**2, rel=0.02)
    inside = shapes.Shape(0, kind, 200.0, 200.0, 150.0, (slice(50, 351), slice(50, 351))).mask()
    assert inside.sum() == mask.sum()  # nothing is outside of the box that is drawn
    np.testing.assert_array_equal(mask, mask[:, ::-1])


# ----------------------------------------------------------------------------------------------------------------- heat


def test_heat_against_finite_differences():
    data = schema.Heat(samples=5, points=128, modes=3, diffusivity=0.02, time=0.3)
    source = read_source(data, None)
    u, step = take(source.x)[..., 0], 1e-3
    for _ in range(round(data.time / step)):
        u = u + step * data.diffusivity * data.points**2 * (np.roll(u, 1, 1) - 2 * u + np.roll(u, -1, 1))
    np.testing.assert_allclose(take(source.y)[..., 0], u, atol=3e-3)


def test_heat_has_the_modes_it_says():
    source = read_source(schema.Heat(samples=4000, points=16, modes=5, diffusivity=0.01, time=1.0), None)
    x, y = (np.fft.rfft(take(rows)[..., 0]) for rows in source.arrays)
    power = (np.abs(x) ** 2).mean(axis=0)
    assert power[1:6] == pytest.approx([power[1]] * 5, rel=0.1)
    assert power[[0, 6, 7, 8]] == pytest.approx(0, abs=1e-20)
    for k in range(1, 6):
        np.testing.assert_allclose(y[:, k], x[:, k] * math.exp(-((2 * math.pi * k) ** 2) * 0.01), atol=1e-13)
    assert take(source.x).var() == pytest.approx(1, rel=0.05)
    np.testing.assert_array_equal(take(source_of("heat", time=0.0).y), take(source_of("heat").x))


# --------------------------------------------------------------------------------------------------------------- series


def test_windows_are_of_one_series():
    whole = take(source_of("series", samples=1, length=400).x)[0, :, 0]
    assert len(whole) == 400
    data = schema.Series(samples=20, length=16, horizon=3, stride=5)
    source = read_source(data, None)
    x, y = take(source.x)[..., 0], take(source.y)
    assert (x.shape, y.shape) == ((20, 16), (20, 3))
    np.testing.assert_array_equal(y[:-3], x[3:, 1:4])  # step 16 of a window is step 1 of the third after it
    np.testing.assert_array_equal(x[:-1, 5:], x[1:, :-5])


def test_the_end_is_held_out_without_overlap():
    data = schema.Series(samples=20, length=6, horizon=2, stride=3, validation_fraction=0.2)
    source = read_source(data, None)
    assert (source.x.shape, source.validation[0].shape) == ((16, 6, 1), (4, 6, 1))
    whole = read_source(schema.Series(samples=1000, length=6, horizon=2), None)
    end = 15 * 3 + 8
    np.testing.assert_array_equal(take(source.x), take(whole.x, indices=range(0, 48, 3)))
    np.testing.assert_array_equal(take(source.validation[0]), take(whole.x, indices=range(end, end + 12, 3)))
    np.testing.assert_array_equal(take(source.validation[1]), take(whole.y, indices=range(end, end + 12, 3)))
    with pytest.raises(DataError, match=r"validation_fraction = 0\.01 of 20 samples leaves 0 for validation"):
        read_source(schema.Series(samples=20, validation_fraction=0.01), None)


def test_series_are_sine_waves_and_noise():
    clean, noisy = (take(source_of("series", samples=1, length=4096, components=2, noise=noise).x)[0, :, 0]
                    for noise in (0.0, 0.3))  # fmt: skip
    power = np.abs(np.fft.rfft(clean * np.hanning(4096))) ** 2
    assert np.sort(power)[-12:].sum() > 0.999 * power.sum()
    assert np.flatnonzero(power > 0.01 * power.max()).max() <= 1024 + 2  # no period below 4 steps
    assert 2 * 0.25 / 2 <= clean.var() <= 1
    noise = (noisy - clean) / 0.3
    assert (noise.mean(), noise.std()) == pytest.approx((0, 1), abs=0.06)
    assert np.corrcoef(noise[:-1], noise[1:])[0, 1] == pytest.approx(0, abs=0.05)


def test_a_wave_keeps_its_phase_at_any_step():
    """Far away the wave is the same: a phase that were a rounded product would have lost its digits."""
    far = schema.Series(samples=10**15, length=64, components=1, noise=0.0)
    window = take(read_source(far, None).x, indices=[10**15 - 100])[0, :, 0]
    # A sine wave fulfils u[t + 1] + u[t - 1] = 2 cos(w) u[t].
    ratios = (window[2:] + window[:-2])[np.abs(window[1:-1]) > 0.1] / window[1:-1][np.abs(window[1:-1]) > 0.1]
    near = take(read_source(far, None).x, indices=[0])[0, :, 0]
    wanted = ((near[2:] + near[:-2]) / near[1:-1])[np.abs(near[1:-1]) > 0.1]
    np.testing.assert_allclose(ratios, wanted[0], rtol=1e-12)


# ---------------------------------------------------------------------------------- the same with Python's own numbers

MASK = random_numbers.MASK
COSINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(12)]


def bits_of(seed, stream, width, row, column):
    key = int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])
    z = (key + random_numbers.GAMMA * (row * width + column + 1)) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def uniform_of(*key):
    return (bits_of(*key) >> 11) * 2.0**-53


def cosine_of(turns):
    angle = (abs(turns - 0.5) - 0.25) * (2 * math.pi)
    value = COSINE[-1]
    for coefficient in COSINE[-2::-1]:
        value = value * (angle * angle) + coefficient
    return value * angle


def test_series_bit_for_bit():
    data = schema.Series(samples=10**12, length=12, horizon=4, stride=3, components=2, noise=0.0, seed=4)
    source = read_source(data, None)

    def step(t):
        total = 0.0
        for wave in range(2):
            frequency, amplitude = (
                uniform_of(4, stream, 2, 0, wave) for stream in (series.FREQUENCY, series.AMPLITUDE)
            )
            rate = int((1 / 12 + frequency * (0.25 - 1 / 12)) * 2.0**64)
            turns = (((t * rate + bits_of(4, series.PHASE, 2, 0, wave)) & MASK) >> 11) * 2.0**-53
            total += cosine_of(turns) * (0.5 + 0.5 * amplitude)
        return total

    for row in (0, 5, 10**12 - 1):
        assert take(source.x, indices=[row]).ravel().tolist() == [step(3 * row + i) for i in range(12)]
        assert take(source.y, indices=[row]).ravel().tolist() == [step(3 * row + 12 + i) for i in range(4)]


def test_heat_bit_for_bit():
    data = schema.Heat(samples=9, points=10, modes=2, diffusivity=0.03, time=0.7, seed=4)
    amplitudes = np.empty((9, 4))
    random_numbers.NormalHash(4, heat.RADIUS, heat.ANGLE, 4).normal(np.arange(9), amplitudes)

    def value(row, place, time):
        total = 0.0
        for mode in (1, 2):
            turn = 2 * math.pi * mode
            scale = float(Decimal(-(turn * turn * 0.03 * time)).exp()) / math.sqrt(2)
            for wave, shift in enumerate((0, 10)):
                angle = (4 * mode * place - shift) % 40 / 40
                total += amplitudes[row, 2 * (mode - 1) + wave] * (cosine_of(angle) * scale)
        return total

    for rows, time in zip(read_source(data, None).arrays, (0.0, 0.7), strict=True):
        assert take(rows)[..., 0].tolist() == [[value(row, place, time) for place in range(10)] for row in range(9)]


def test_shapes_bit_for_bit():
    data = schema.Shapes(samples=40, size=9, channels=2, shapes=2, noise=0.5, seed=4)

    def inside(kind, dy, dx, radius):
        if kind == shapes.CIRCLE:
            return dy * dy + dx * dx <= radius * radius
        if kind == shapes.SQUARE:
            return max(abs(dx), abs(dy)) <= 0.875 * radius
        return 2 * abs(dx) <= dy + radius and dy <= radius

    def pixel(image, row, column):
        kind, brightness = 0, [0.0, 0.0]
        for number in range(2):
            y, x, u = (uniform_of(4, stream, 2, image, number) for stream in (shapes.ROW, shapes.COLUMN, shapes.RADIUS))
            this = 1 + bits_of(4, shapes.KIND, 2, image, number) % 3
            if inside(this, row - y * 8, column - x * 8, 9 * (1 + u) / 8):
                kind = this
                brightness = [uniform_of(4, shapes.BRIGHTNESS, 4, image, 2 * number + c) * 0.5 + 0.5 for c in (0, 1)]
        place = 2 * (9 * row + column)
        return kind, [uniform_of(4, shapes.NOISE, 162, image, place + c) * 0.5 + brightness[c] for c in (0, 1)]

    source = read_source(data, None)
    for image, colours, classes in zip(range(40), take(source.x), take(source.y), strict=True):
        expected = [[pixel(image, row, column) for column in range(9)] for row in range(9)]
        assert classes.tolist() == [[kind for kind, _ in line] for line in expected]
        assert colours.tolist() == [[colour for _, colour in line] for line in expected]
