import gzip
import struct

import numpy as np
import pytest

from hpcnn.data.readers import idx, read_source
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from tests.data.helpers import take

CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 5)).astype(np.uint8)
LABELS = (np.arange(12) % 3).astype(np.uint8)
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array, code="u1"):
    header = struct.pack(">BBBB", 0, 0, CODES[code], array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(code).tobytes()


def write(path, content):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_mnist(folder, ending="", names=NAMES):
    arrays = (IMAGES, LABELS, IMAGES[:5], LABELS[:5])
    for name, array in zip(NAMES, arrays, strict=True):
        if name in names:
            write(folder / f"{name}{ending}", idx_bytes(array))


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("code", CODES)
def test_all_types(code, ending, tmp_path):
    values = IMAGES.astype(code)
    rows = idx.read_idx(write(tmp_path / f"a{ending}", idx_bytes(values, code)))
    assert rows.dtype == np.dtype(code)
    assert rows.mapped is (ending == "")
    np.testing.assert_array_equal(take(rows, np.float64), values.astype(np.float64))


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist(ending, tmp_path):
    write_mnist(tmp_path, ending)
    source = read_source(schema.Idx(folder=str(tmp_path)), tmp_path)
    np.testing.assert_array_equal(take(source.x), IMAGES)
    np.testing.assert_array_equal(take(source.y), LABELS)
    np.testing.assert_array_equal(take(source.validation[0]), IMAGES[:5])
    np.testing.assert_array_equal(take(source.validation[1]), LABELS[:5])


def test_names_may_be_given_with_or_without_gz(tmp_path):
    write_mnist(tmp_path)
    data = schema.Idx(folder=".", images=f"{NAMES[0]}.gz", labels=NAMES[1], validation_images="", validation_labels="")
    source = read_source(data, tmp_path)
    assert source.x.shape == IMAGES.shape
    assert source.validation is None


def test_other_names_of_the_files(tmp_path):
    """Those of other copies of MNIST, of files unpacked into folders of their own names, and of EMNIST."""
    forms = {
        "dots": [name.replace("-idx", ".idx") for name in NAMES],
        "dots, packed": [name.replace("-idx", ".idx") + ".gz" for name in NAMES],
        "folders": [f"{name.replace('-idx', '.idx')}/{name.replace('-idx', '.idx')}" for name in NAMES],
        "emnist": [f"emnist-letters-{name.replace('t10k', 'test')}.gz" for name in NAMES],
    }
    for form, names in forms.items():
        for name in names:
            place = tmp_path / form / name
            place.parent.mkdir(parents=True, exist_ok=True)
            write(place, idx_bytes(IMAGES if "images" in name else LABELS))
        source = read_source(schema.Idx(folder=form), tmp_path)
        assert np.array_equal(take(source.x), IMAGES)
        assert np.array_equal(take(source.validation[1]), LABELS)
    write(tmp_path / "emnist" / "emnist-digits-train-images-idx3-ubyte.gz", idx_bytes(IMAGES))
    with pytest.raises(DataError, match=r"emnist holds several parts of EMNIST: digits, letters. Name .*data.images"):
        read_source(schema.Idx(folder="emnist"), tmp_path)


def test_all_missing_files_are_listed_at_once(tmp_path):
    write_mnist(tmp_path, ".gz", names=NAMES[:1])
    with pytest.raises(DataError, match=rf"missing in the folder {tmp_path}: {', '.join(NAMES[1:])}; each may.* \.gz"):
        read_source(schema.Idx(folder=str(tmp_path)), tmp_path)


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match=rf"folder {tmp_path}/mnist \(which does not exist\): {', '.join(NAMES)};"):
        read_source(schema.Idx(folder="mnist"), tmp_path)


@pytest.mark.parametrize("given", ["images", "labels"])
def test_half_a_validation_pair(given, tmp_path):
    empty = {"images": "labels", "labels": "images"}[given]
    with pytest.raises(JobError, match=rf"validation_{empty} = ''.*Give both, or make both empty"):
        read_source(schema.Idx(folder=str(tmp_path), **{f"validation_{empty}": ""}), tmp_path)


def test_counts_that_differ(tmp_path):
    write(tmp_path / NAMES[0], idx_bytes(IMAGES))
    write(tmp_path / NAMES[1], idx_bytes(LABELS[:7]))
    data = schema.Idx(folder=str(tmp_path), validation_images="", validation_labels="")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte holds 12 images, but .*labels-idx1-ubyte 7 labels"):
        read_source(data, tmp_path)


def test_swapped_files(tmp_path):
    write_mnist(tmp_path)
    data = schema.Idx(folder=".", images=NAMES[1], labels=NAMES[0], validation_images="", validation_labels="")
    with pytest.raises(DataError, match=r"has 3 axes, but labels have one\. Are images and labels swapped"):
        read_source(data, tmp_path)


GOOD = idx_bytes(IMAGES)
DAMAGED = {
    "empty": (b"", "begins with nothing"),
    "magic": (b"\1" + GOOD[1:], "begins with 01 00 08 03, but an IDX file with 00 00, a type code"),
    "type": (GOOD[:2] + b"\x0a" + GOOD[3:], "begins with 00 00 0a 03"),
    "no axes": (GOOD[:3] + b"\0" + GOOD[4:], "begins with 00 00 08 00"),
    "header": (GOOD[:10], "ends within its header of 3 axes"),
    "truncated": (GOOD[:-3], r"declares .*240 bytes, but (only )?237"),
    "too long": (GOOD + b"x", r"declares .*240 bytes, but (241|more)"),
    "huge": (GOOD[:4] + b"\xff" * 12, r"declares .*79228162458924105385300197375 bytes, but"),
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(case, ending, tmp_path):
    content, text = DAMAGED[case]
    path = write(tmp_path / f"a{ending}", content)
    with pytest.raises(DataError, match=text) as caught:
        idx.read_idx(path)
    assert str(path) in str(caught.value)


def test_gzip_that_is_damaged(tmp_path):
    whole = bytearray(gzip.compress(GOOD))
    flipped = whole.copy()
    flipped[len(whole) // 2] ^= 0xFF
    checksum = whole.copy()
    checksum[-6] ^= 0xFF
    for content in (whole[: len(whole) // 2], whole[:-4], GOOD, flipped, checksum):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(DataError, match="can't be read"):
            idx.read_idx(tmp_path / "a.gz")


def test_gzip_that_declares_more_than_it_can_hold_is_refused_before_memory_is_taken(tmp_path):
    header = struct.pack(">BBBBII", 0, 0, 8, 2, 2**31, 2**9)
    with pytest.raises(DataError, match="declares 1099511627776 bytes, but it can't hold more than"):
        idx.read_idx(write(tmp_path / "a.gz", header))
