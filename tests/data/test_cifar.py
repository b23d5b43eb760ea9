import re

import numpy as np
import pytest

from hpcnn.data.load import load, read_inputs, read_samples
from hpcnn.data.readers import cifar, read_source
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from tests.data.helpers import take

DRAW = np.random.default_rng(0)
COUNTS = [3, 1, 4, 2, 5, 6]
IMAGES = [DRAW.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8) for count in COUNTS]
LABELS = [DRAW.integers(0, 10, count).astype(np.uint8) for count in COUNTS]
COARSE = [labels * 2 for labels in LABELS]
TEN = cifar.KINDS["cifar10"]


def batch(images, *labels):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([*labels, planes]).astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    for name, images, labels in zip(TEN.files, IMAGES, LABELS, strict=True):
        (tmp_path / name).write_bytes(batch(images, labels))
    return tmp_path


@pytest.fixture
def hundred(tmp_path):
    for name, place in (("train.bin", 4), ("test.bin", 5)):
        (tmp_path / name).write_bytes(batch(IMAGES[place], COARSE[place], LABELS[place] + 80))
    return tmp_path


@pytest.mark.parametrize("below", [False, True])
def test_cifar_10(below, folder):
    base = folder
    if below:
        (folder / TEN.folder).mkdir()
        for name in TEN.files:
            (folder / name).rename(folder / TEN.folder / name)
    source = read_source(schema.Cifar(folder=str(base)), base)
    assert source.x.shape == (15, 32, 32, 3)
    assert source.x.dtype == source.y.dtype == np.uint8
    np.testing.assert_array_equal(take(source.x), np.concatenate(IMAGES[:5]))
    np.testing.assert_array_equal(take(source.y), np.concatenate(LABELS[:5]))
    np.testing.assert_array_equal(take(source.validation[0]), IMAGES[5])
    np.testing.assert_array_equal(take(source.validation[1]), LABELS[5])


@pytest.mark.parametrize("labels", ["fine", "coarse"])
def test_cifar_100(labels, hundred):
    source = read_source(schema.Cifar(folder=".", name="cifar100", labels=labels), hundred)
    expected = LABELS[4] + 80 if labels == "fine" else COARSE[4]
    np.testing.assert_array_equal(take(source.x), IMAGES[4])
    np.testing.assert_array_equal(take(source.y), expected)
    assert source.validation[0].shape == (6, 32, 32, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_in_any_order_and_chunks(dtype, folder):
    rows = read_source(schema.Cifar(folder="."), folder).x
    indices = DRAW.integers(0, 15, 200)  # more than a block
    np.testing.assert_array_equal(take(rows, dtype, indices), np.concatenate(IMAGES[:5])[indices].astype(dtype))


def test_parts(folder):
    train = load(schema.Cifar(folder=".", part="train", validation_fraction=0.2), seed=0, dtype=np.float32, base=folder)
    assert (len(train.train), len(train.validation)) == (12, 3)
    test = read_source(schema.Cifar(folder=".", part="test"), folder)
    np.testing.assert_array_equal(take(test.y), LABELS[5])
    assert test.validation is None
    for name in TEN.files[1:5]:  # not needed for it
        (folder / name).unlink()
    assert len(take(read_source(schema.Cifar(folder=".", part="test"), folder).y)) == 6


def test_other_files(folder):
    job = schema.Cifar(folder="elsewhere", part="train", validation_fraction=0.5)
    np.testing.assert_array_equal(take(read_inputs("test_batch.bin", job, folder).x, np.uint8), IMAGES[5])
    np.testing.assert_array_equal(take(read_samples("data_batch_2.bin", job, folder).y), LABELS[1])
    np.testing.assert_array_equal(take(read_samples(".", job, folder).y), LABELS[5])
    (folder / "test_batch.bin").unlink()
    np.testing.assert_array_equal(take(read_samples(".", job, folder).y), np.concatenate(LABELS[:5]))
    with pytest.raises(DataError, match=r"Known endings: \.npy"):
        read_inputs("data_batch_1.bin", schema.Digits(), folder)


def test_another_number_of_images_is_a_warning(folder):
    (note,) = read_source(schema.Cifar(folder=".", part="test"), folder).notes
    assert note == (
        f"{folder}/test_batch.bin holds 6 images, that of cifar-10-binary.tar.gz 10,000. Is the download complete?"
    )
    (folder / "test_batch.bin").rename(folder / "mine.bin")
    assert read_source(schema.Cifar(folder="mine.bin", part="train"), folder).notes == ()


def test_one_file_has_no_parts(folder):
    with pytest.raises(
        JobError, match=r"'test_batch\.bin' is a single file, but data\.part = \"both\" needs .* folder, or"
    ):
        read_source(schema.Cifar(folder="test_batch.bin"), folder)


def test_missing_files(folder):
    for name in TEN.files[3:]:
        (folder / name).unlink()
    with pytest.raises(
        DataError,
        match=rf"missing in the folder {folder}: data_batch_4\.bin, data_batch_5\.bin, test_batch\.bin\. They come in "
        r"the archive cifar-10-binary\.tar\.gz, the binary version of CIFAR-10: unpack it there, or set data\.folder",
    ):
        read_source(schema.Cifar(folder="."), folder)
    with pytest.raises(DataError, match=rf"folder {folder}/no \(which does not exist\): train\.bin, test\.bin\. They"):
        read_source(schema.Cifar(folder="no", name="cifar100"), folder)


def test_an_archive_that_is_packed(tmp_path):
    (tmp_path / TEN.archive).touch()
    with pytest.raises(DataError, match=rf"Unpack {tmp_path}/{TEN.archive}: tar -xzf {TEN.archive}\."):
        read_source(schema.Cifar(folder="."), tmp_path)

    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz is an archive; unpack it there: tar -xzf cifar-10-b"):
        read_source(schema.Cifar(folder=TEN.archive), tmp_path)
    (tmp_path / TEN.python_archive).touch()
    with pytest.raises(DataError, match=r"is an archive of pickles; get cifar-10-binary.tar.gz in its place"):
        read_source(schema.Cifar(folder=TEN.python_archive), tmp_path)


@pytest.mark.parametrize(("name", "folder", "file"), [("cifar10", "cifar-10-batches-py", "data_batch_1"),
                                                      ("cifar100", "cifar-100-python", "train")])  # fmt: skip
def test_the_version_of_pickles(tmp_path, name, folder, file):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).touch()
    for given in (".", folder):
        with pytest.raises(
            DataError, match=rf"{folder} holds the Python version of CIFAR-\d+, .*Get the binary version"
        ):
            read_source(schema.Cifar(folder=given, name=name), tmp_path)


GOOD = batch(IMAGES[0], LABELS[0])
DAMAGED = {
    "empty": (b"", "it holds 0 bytes, but a file of CIFAR-10 in binary consists of records of 3,073 bytes"),
    "truncated": (GOOD[:-1], "it holds 9,218 bytes, but"),
    "of CIFAR-100": (batch(IMAGES[0], COARSE[0], LABELS[0]), "it holds 9,222 bytes, but"),
    "label": (GOOD[:3073] + b"\x0a" + GOOD[3074:], "image 1 has fine label 10, but CIFAR-10 has 10 classes"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(case, folder):
    content, text = DAMAGED[case]
    (folder / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"data_batch_3\.bin can't be read: {re.escape(text)}"):
        read_source(schema.Cifar(folder="."), folder)


def test_coarse_labels_out_of_range(hundred):
    (hundred / "test.bin").write_bytes(batch(IMAGES[5], COARSE[5] + 19, LABELS[5]))
    with pytest.raises(DataError, match=r"test\.bin can't be read: image \d has coarse label \d+, .* has 20 classes"):
        read_source(schema.Cifar(folder=".", name="cifar100"), hundred)


def test_a_file_that_can_not_be_read(folder):
    (folder / "test_batch.bin").unlink()
    (folder / "test_batch.bin").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"test_batch\.bin can't be read"):
        read_source(schema.Cifar(folder="."), folder)


def test_coarse_labels_of_cifar_10_are_refused(folder):
    with pytest.raises(JobError, match='"coarse" is for CIFAR-100'):
        read_source(schema.Cifar(folder=".", labels="coarse"), folder)
