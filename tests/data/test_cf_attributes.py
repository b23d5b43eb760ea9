"""Attributes of netCDF that say what stored values mean: followed, or refused by name."""

import numpy as np
import pytest

from hpcnn.data.cf_attributes import UnpackedRows, unpacked
from hpcnn.data.checks import check_finite
from hpcnn.data.reduction import SERIAL
from hpcnn.data.rows import ArrayRows, ReshapedRows
from hpcnn.errors import DataError
from tests.data.helpers import read_datasets, take
from tests.require import require

SHORT = np.arange(-6, 6, dtype=np.int16).reshape(6, 2)


def rows(values=SHORT, **attributes):
    return unpacked(ArrayRows(values), attributes, "x")


def check(read, dtype=np.float32):
    check_finite(read, "inputs", dtype, SERIAL)


def test_factor_and_offset_are_followed():
    read = rows(scale_factor=np.array([0.25], np.float32), add_offset=5.0)
    assert read.dtype == np.float64
    check(read)
    np.testing.assert_array_equal(take(read), SHORT * 0.25 + 5)
    np.testing.assert_array_equal(take(read, np.float32, [5, 0, 5]), (SHORT[[5, 0, 5]] * 0.25 + 5).astype("f4"))
    np.testing.assert_array_equal(take(rows(add_offset=np.int32(3))), SHORT + 3.0)


NEUTRAL = [
    {},
    {"scale_factor": 1.0, "add_offset": np.zeros(1)},
    {"_FillValue": np.nan, "missing_value": 1e20},  # which 16 bits can't hold
    {"_FillValue": np.array([40000])},
    {"valid_range": [-32768, 32767]},
    {"valid_min": -np.inf, "_Unsigned": "false"},
]


@pytest.mark.parametrize("attributes", NEUTRAL)
def test_neutral_attributes_leave_the_rows_as_they_are(attributes):
    stored = ArrayRows(SHORT)
    assert unpacked(stored, attributes, "x") is stored
    floats = ArrayRows(SHORT.astype("f4"))
    if "missing_value" not in attributes and "valid_range" not in attributes and len(attributes) != 1:
        assert unpacked(floats, attributes, "x") is floats


MISSING = [
    ({"_FillValue": np.array([-3])}, r"column 1 holds 1 value of 6 .* \(_FillValue = \[-3\]\), the first in row 1"),
    ({"missing_value": [4.0, 5.0]}, r"column 0 holds 1 value of 6 .*missing_value = .* row 5.*; 1 other column has"),
    ({"valid_range": [-6, 3]}, r"column 0 holds 1 value .*valid_range = .* row 5"),
    ({"valid_min": -5}, r"column 0 holds 1 value .*valid_min = -5\), the first in row 0"),
    ({"valid_max": 0, "valid_min": -9, "_FillValue": -99}, r"column 0 .*valid_max = 0\), the first in row 4"),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("attributes", "text"), MISSING)
def test_missing_values_are_refused_like_those_that_are_not_finite(attributes, text, scaled, dtype):
    read = rows(SHORT.astype(dtype), **attributes, **({"scale_factor": 0.1} if scaled else {}))
    assert isinstance(read, UnpackedRows) == scaled
    with pytest.raises(DataError, match=r"inputs: " + text):
        check(read)
    with pytest.raises(DataError, match=r"inputs: the column holds .*marked as missing"):
        check(ReshapedRows(rows(SHORT[:, 0].copy(), _FillValue=-6), (1,)))
    check(rows(SHORT[2:3].astype(dtype), **attributes))


REMEDIES = [
    ({"_FillValue": -3}, r"missing, or, if these are real .* the attribute \(h5py: del d\.attrs\['_FillValue'\]\)\.$"),
    ({"missing_value": -3, "valid_max": 3}, r"s \(h5py: del d.attrs\['missing_value'\], d.attrs\['valid_max'\]\)\.$"),
    ({"fillvalue": -3}, r"fill or drop what is missing\.$"),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "text"), REMEDIES)
def test_the_attribute_can_be_deleted(attributes, text):
    with pytest.raises(DataError, match=text):
        check(rows(**attributes))


SIGNED = [
    ({"_FillValue": np.int8(-1)}, r"_FillValue = .*-1.* uint8 can't hold\. If it means 255, .*array\(255, 'uint8'\)"),
    ({"missing_value": np.array([3, -2], np.int8)}, r"missing_value = .*means \[3, 254\], .* del d.attrs\['missing_v"),
    ({"valid_range": np.array([0, -2], np.int8)}, r"valid_range = .*If it means \[0, 254\], write that"),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "text"), SIGNED)
def test_signed_attributes_of_unsigned_data_are_refused(attributes, text):
    with pytest.raises(DataError, match=text):
        rows(SHORT.astype(np.uint8), **attributes)
    stored = ArrayRows(SHORT.astype(np.uint8))
    assert unpacked(stored, {"_FillValue": np.int16(-1)}, "x") is stored  # no value of the data can be meant


def test_a_fill_value_is_compared_as_the_data_hold_it():
    read = rows(np.array([1.0, 1e20], np.float32), _FillValue=np.float64(1e20))
    with pytest.raises(DataError, match=r"1 value of 2 that .* marked as missing in the file \(_FillValue = 1e\+20\)"):
        check(read)


REFUSED = [
    ({"scale_factor": "0.1"}, r"x has the attribute scale_factor = '0\.1', but must be a single number"),
    ({"add_offset": [1.0, 2.0]}, r"add_offset = \[1\.0, 2\.0\], but must be a single number"),
    ({"scale_factor": np.float64(np.nan)}, r"scale_factor = nan, which is not finite"),
    ({"scale_factor": 0.0}, r"scale_factor = 0\.0, which makes all values alike"),
    ({"_FillValue": b"none"}, r"_FillValue = b'none', but must be numbers"),
    ({"valid_range": [1]}, r"valid_range = \[1\], but must be two numbers"),
    ({"_Unsigned": "true"}, r"_Unsigned = 'true', but its type is int16"),
]


@pytest.mark.parametrize(("attributes", "text"), REFUSED)
def test_what_can_not_be_followed_is_named(attributes, text):
    with pytest.raises(DataError, match=text):
        rows(**attributes)


def test_of_an_hdf5_file(tmp_path):
    with require("h5py").File(tmp_path / "a.nc", "w") as file:
        for name in ("plain", "packed", "holes"):
            file[name] = SHORT
        file["packed"].attrs.update({"scale_factor": 0.5, "add_offset": 1.0, "units": "K", "long_name": "so warm"})
        file["holes"].attrs["_FillValue"] = np.array([5], np.int16)
        never = file.create_dataset("never", (6,), "f4", fillvalue=np.float32(9.969209968386869e36))
        never[:4] = 1
        file.create_dataset("minus", data=[1, -1], fillvalue=-1)
    plain, packed, holes, never, minus = read_datasets(tmp_path / "a.nc", "plain", "packed", "holes", "never", "minus")
    np.testing.assert_array_equal(take(plain), SHORT)
    np.testing.assert_array_equal(take(packed), SHORT * 0.5 + 1)
    for read in (plain, packed, minus):
        check(read)
    with pytest.raises(
        DataError,
        match=r"column 1 holds 1 value of 6 that .* marked as missing in the file \(_FillValue = \[5\]\)",
    ):
        check(holes)
    with pytest.raises(
        DataError,
        match=r"holds 2 values of 6 that are marked as missing in .* \(fillvalue = .*first in row 4.*missing\.$",
    ):
        check(never)


def test_a_factor_that_makes_values_infinite_warns_of_nothing():
    with pytest.raises(DataError, match="not finite"):
        check(unpacked(rows(), {"scale_factor": 1e308}, "x"), np.float64)
