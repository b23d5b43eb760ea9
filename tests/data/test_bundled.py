"""Data sets that need no file of the user's: the digits of hpcnn, and those of scikit-learn."""

import sys

import numpy as np
import pytest

from hpcnn.data.readers import digits, read_source
from hpcnn.data.source import optional_import
from hpcnn.errors import MissingExtraError
from hpcnn.job import data as schema
from tests.data.helpers import take
from tests.require import require

NAMES = {
    "breast_cancer": ((569, 30), (569,)),
    "diabetes": ((442, 10), (442,)),
    "digits": ((1797, 64), (1797,)),
    "iris": ((150, 4), (150,)),
    "linnerud": ((20, 3), (20, 3)),
    "wine": ((178, 13), (178,)),
}


def test_digits(tmp_path):
    source = read_source(schema.Digits(), tmp_path)
    assert source.x.shape == (1797, 8, 8)
    assert source.x.dtype == source.y.dtype == np.uint8
    x, y = take(source.x), take(source.y)
    assert (x.min(), x.max()) == (0, 16)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.PATH.stat().st_size < 100_000
    assert "CC BY 4.0" in digits.PATH.with_suffix(".md").read_text()


def test_digits_are_those_of_scikit_learn(tmp_path):
    bunch = require("sklearn.datasets").load_digits()
    source = read_source(schema.Digits(), tmp_path)
    np.testing.assert_array_equal(take(source.x), bunch.images)
    np.testing.assert_array_equal(take(source.y), bunch.target)


@pytest.mark.parametrize("name", NAMES)
def test_sklearn(name, tmp_path):
    bunch = getattr(require("sklearn.datasets"), f"load_{name}")()
    source = read_source(schema.Sklearn(name=name), tmp_path)
    assert (source.x.shape, source.y.shape) == NAMES[name]
    np.testing.assert_array_equal(take(source.x), bunch.data)
    np.testing.assert_array_equal(take(source.y), bunch.target)
    assert source.feature_names == tuple(bunch.feature_names)


def test_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    with pytest.raises(MissingExtraError, match=r"\"sklearn\" needs the package 'scikit-learn'.*hpcnn\[sklearn\]"):
        read_source(schema.Sklearn(name="iris"), tmp_path)


def test_a_package_that_is_broken_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import surely_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_not_there"):
        optional_import("broken_package", "extra", "this test")
