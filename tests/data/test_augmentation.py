"""Changes of training images: what they do, and that a sample depends on seed, epoch and its number alone."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data.augmentation import Augmentation
from hpcnn.data.image_changes import Draws, Placement, bilinear, nearest
from hpcnn.data.rows import ArrayRows, OneHotRows
from hpcnn.data.samples import Samples
from hpcnn.errors import JobError
from hpcnn.job.augment import Augment
from hpcnn.runs.build import build_training
from tests.data.helpers import take
from tests.small_jobs import make_job, train

N, HEIGHT, WIDTH = 300, 6, 5
IMAGES = np.random.default_rng(0).uniform(1, 2, (N, HEIGHT, WIDTH, 3)).astype(np.float32)
LABELS = np.arange(N) % 4
ALL = {"flip": "both", "crop_padding": 2, "shift": 0.2, "rotate": 30.0, "contrast": 0.5, "brightness": 0.3,
       "cutout": 2, "mixup": 0.4}  # fmt: skip


def augmented(x=IMAGES, y=LABELS, *, seed=3, epoch=1, outside=0, **settings):
    rows = [one if hasattr(one, "take") and not isinstance(one, np.ndarray) else ArrayRows(one) for one in (x, y)]
    changed = Augmentation(Augment(**settings), Samples(*rows), seed, mixes=True, outside=outside)
    changed.start_epoch(epoch)
    return changed


def images(indices=None, **settings):
    return take(augmented(**settings).x, np.float32, indices)


def test_a_sample_depends_on_seed_epoch_and_its_number_alone():
    whole = images(**ALL)
    order = np.random.default_rng(1).permutation(N)
    assert np.array_equal(images(order, **ALL), whole[order])
    assert np.array_equal(images([7], **ALL), whole[7:8])
    again = augmented(**ALL)
    take(again.x, np.float32)
    again.start_epoch(2)
    again.start_epoch(1)
    assert np.array_equal(take(again.x, np.float32), whole)
    for other in (images(**ALL, epoch=2), images(**ALL, seed=4)):
        same = [np.array_equal(one, two) for one, two in zip(whole, other, strict=True)]
        assert np.mean(same) < 0.02


def test_each_change_draws_for_itself():
    """A change that is added leaves the draws of the others as they were."""
    flipped, both = images(flip="horizontal"), images(flip="horizontal", brightness=0.5)
    offset = both - flipped
    assert np.ptp(offset, axis=(1, 2, 3)).max() < 1e-6
    assert 0.4 < np.abs(offset).max() <= 0.5
    assert stats.kstest(offset[:, 0, 0, 0], stats.uniform(-0.5, 1).cdf).pvalue > 0.01


@pytest.mark.parametrize(("flip", "axes"), [("horizontal", [(), (2,)]), ("vertical", [(), (1,)]),
                                            ("both", [(), (1,), (2,), (1, 2)])])  # fmt: skip
def test_flip(flip, axes):
    found = images(flip=flip)
    kinds = [(found == np.flip(IMAGES, axis)).all(axis=(1, 2, 3)) for axis in axes]
    assert np.sum(kinds, axis=0).tolist() == [1] * N
    assert stats.chisquare(np.sum(kinds, axis=1)).pvalue > 0.01


def test_crop():
    padding = 2
    padded = np.pad(IMAGES, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    windows = {
        (row, column): padded[:, row : row + HEIGHT, column : column + WIDTH]
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
    }
    found = images(crop_padding=padding)
    counts = [(found == window).all(axis=(1, 2, 3)).sum() for window in windows.values()]
    assert sum(counts) == N
    assert stats.chisquare(counts).pvalue > 0.01


def test_turning_is_that_of_scipy():
    draws = Draws(Augment(rotate=40.0, shift=0.3), (HEIGHT, WIDTH), N, 0)
    turned = []
    for image, placement in zip(IMAGES[:40], draws.placements(draws.uniform(np.arange(40))), strict=True):
        sine, cosine = placement.turn
        assert abs(np.hypot(sine, cosine) - 1) < 1e-15
        turned.append(np.degrees(np.arctan2(sine, cosine)))
        assert np.abs(np.array(placement.shift) / (HEIGHT, WIDTH)).max() <= 0.3
        middle, matrix = (np.array([HEIGHT, WIDTH]) - 1) / 2, np.array([[cosine, -sine], [sine, cosine]])
        offset = middle - matrix @ (middle + placement.shift)
        expected = np.stack(
            [ndimage.affine_transform(plane, matrix, offset, order=1, mode="grid-constant") for plane in
             np.moveaxis(image.astype(np.float64), 2, 0)], axis=2,
        )  # fmt: skip
        np.testing.assert_allclose(bilinear(image.astype(np.float64), placement), expected, atol=1e-12)
    assert np.abs(turned).max() <= 40
    assert min(turned) < -20
    assert max(turned) > 20


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(quarters):
    sine, cosine = {1: (1.0, 0.0), 2: (0.0, -1.0), 3: (-1.0, 0.0)}[quarters]
    placement, square = Placement((False, False), (0, 0), (sine, cosine)), IMAGES[0, :5].astype(np.float64)
    assert np.array_equal(bilinear(square, placement), np.rot90(square, -quarters))
    assert np.array_equal(nearest(square, placement, 0), np.rot90(square, -quarters))


def test_contrast():
    found = images(contrast=0.5).astype(np.float64)
    means = IMAGES.mean(axis=(1, 2, 3), dtype=np.float64)[:, None, None, None]
    factors = (found - means) / (IMAGES - means)
    middle = np.median(factors, axis=(1, 2, 3))
    np.testing.assert_allclose(found, means + (IMAGES - means) * middle[:, None, None, None], atol=1e-5)
    assert stats.kstest(middle, stats.uniform(0.5, 1).cdf).pvalue > 0.01


def test_cutout():
    found = images(cutout=3)
    gone = found == 0
    assert np.array_equal(found[~gone], IMAGES[~gone])
    assert (gone == gone[..., :1]).all()
    rows, columns = gone[..., 0].any(2), gone[..., 0].any(1)
    assert (gone[..., 0] == rows[:, :, None] & columns[:, None, :]).all()
    assert set(rows.sum(1)) == set(columns.sum(1)) == {2, 3}  # 2 at the border


def test_grey_images_without_a_channel():
    found = images(x=IMAGES[..., 0], **ALL)
    assert found.shape == (N, HEIGHT, WIDTH)
    assert np.array_equal(found, images(x=IMAGES[..., :1], **ALL)[..., 0])


def test_masks_follow_their_images():
    masks = np.random.default_rng(5).integers(1, 5, (N, HEIGHT, WIDTH))
    moved = augmented(x=masks[..., np.newaxis].astype(np.float32), y=masks, outside=9, flip="both", crop_padding=2)
    x, y = take(moved.x, np.float32)[..., 0], take(moved.y, np.int64)
    assert np.array_equal(np.where(y == 9, 0, y), x)
    assert (y == 9).any()
    blocks = np.zeros((N, 20, 20), np.int64)
    blocks[:, 4:13, 7:16] = 1
    turned = augmented(x=blocks.astype(np.float64), y=blocks, rotate=180.0, shift=0.1)
    x, y = take(turned.x), take(turned.y, np.int64)
    assert set(np.unique(y)) == {0, 1}
    assert np.mean((x > 0.5) != (y > 0)) < 0.01
    assert (y[np.abs(x - np.rint(x)) < 1e-9] == x[np.abs(x - np.rint(x)) < 1e-9]).all()
    hot = augmented(x=blocks.astype(np.float64), y=OneHotRows(ArrayRows(blocks), 3), rotate=180.0, shift=0.1)
    assert np.array_equal(take(hot.y, np.float32), np.eye(3, dtype=np.float32)[y])
    values = augmented(x=blocks.astype(np.float64), y=blocks.astype(np.float64), rotate=180.0, shift=0.1)
    assert np.array_equal(take(values.y), x)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_shares_of_mixtures_are_beta(alpha):
    draws = Draws(Augment(mixup=alpha), (1, 1), 10, 0)
    assert stats.kstest(draws.shares(np.arange(2000)), stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_mixtures():
    hot = OneHotRows(ArrayRows(LABELS), 4)
    mixed, plain = augmented(y=hot, mixup=0.4, flip="both"), images(flip="both")
    indices = np.array([5, 3, 299, 0])
    draws = Draws(Augment(mixup=0.4), (HEIGHT, WIDTH), N, 3)
    draws.start_epoch(1)
    shares, partners = draws.shares(indices)[:, None], draws.partners(indices)
    one = np.eye(4)[LABELS]
    np.testing.assert_array_equal(
        take(mixed.y, np.float64, indices), one[indices] * shares + one[partners] * (1 - shares)
    )
    wide = shares[:, :, None, None]
    expected = (plain[indices] * wide + plain[partners] * (1 - wide)).astype(np.float32)
    assert np.array_equal(take(mixed.x, np.float32, indices), expected)
    assert mixed.y.dtype.kind == "f"
    assert len(set(draws.partners(np.arange(N)))) > N / 2


def test_what_cannot_be_augmented():
    for shape in ((N, 4), (N, 2, 2, 2, 2)):
        with pytest.raises(JobError, match=r"data.augment changes images, but a sample has shape \(.*, not .height"):
            augmented(x=np.zeros(shape, np.float32), flip="both")
    with pytest.raises(JobError, match=r"crop_padding = 5 could move all of an image of 6 x 5 .* Choose at most 4"):
        augmented(crop_padding=5)
    with pytest.raises(JobError, match=r"targets of shape \(3, 3\) a sample can't follow"):
        augmented(y=np.zeros((N, 3, 3)), flip="both")
    augmented(y=np.zeros((N, 3, 3)), brightness=0.5)
    job = make_job(data={"source": "digits", "augment": {"mixup": 0.2}}, model={"layers": [
        {"type": "flatten"}, {"type": "dense", "units": 10, "activation": "softmax"}]})  # fmt: skip
    with pytest.raises(JobError, match=r"augment.mixup = 0.2 mixes .* but the loss takes integer labels. Set data.one"):
        build_training(job, Path(), SerialCommunicator())
    with pytest.raises(JobError, match=r'mixup = 0.2 mixes with any other .*order = "windows".* to "global", or mixup'):
        make_job(data={"source": "digits", "order": "windows", "augment": {"mixup": 0.2}})


SHAPES = {"source": "shapes", "samples": 21, "size": 8, "validation_fraction": 0.2, "scale": "standardize"}
PIXELS = [{"type": "conv2d", "filters": 4, "kernel_size": 3, "padding": "same", "activation": "softmax"}]
MOVED = {"flip": "horizontal", "crop_padding": 2, "rotate": 20, "shift": 0.1, "contrast": 0.2, "cutout": 3}


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
@pytest.mark.parametrize("mixed", [False, True], ids=["masks", "mixed"])
def test_any_number_of_ranks_and_resumed_in_mid_epoch(arithmetic, mixed):
    changes = {
        "data": SHAPES | {"augment": MOVED | ({"mixup": 0.3} if mixed else {}), "one_hot": mixed},
        "model": {"layers": PIXELS},
        "loss": {"name": "categorical_crossentropy" if mixed else "sparse_categorical_crossentropy"},
        "train": {"arithmetic": arithmetic, "batch_size": 6},
    }
    job = make_job(**changes)
    one = train(job)
    for ranks in (2, 3, 5):
        assert train(job, ranks).bits() == one.bits()
    half = train(job, 3, stop_at=5)  # the second of the three steps of the second epoch
    assert not half.done
    assert train(job, 2, start=half.state).bits() == one.bits()
    assert train(make_job(**changes | {"data": SHAPES | {"one_hot": mixed}})).fingerprint != one.fingerprint
