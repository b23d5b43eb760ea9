"""What is kept of data, and what is said of those that changed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hpcnn.data.columns import Columns
from hpcnn.data.content import Content, changes, content_of
from hpcnn.data.digests import digests, sample
from hpcnn.data.readers import npy, npz
from hpcnn.data.rows import ArrayRows, ReshapedRows, SubsetRows
from hpcnn.data.source import Source
from hpcnn.job import data as schema
from tests.data.helpers import read_datasets
from tests.require import require

X = np.random.default_rng(1).normal(size=(300, 5))
Y = np.arange(300)
FILES = schema.Npy(x_path="x.npy", y_path="y.npy")


def found(x: Any, y: Any = Y, names: tuple[str, ...] | None = None) -> Content:
    kept = content_of(Source(ArrayRows(x), ArrayRows(y), columns=Columns(names) if names else None))
    assert kept is not None
    return kept


@pytest.mark.parametrize("limit", [2**26, 6000, 600])
def test_wherever_and_however_they_are_stored(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the limit everything is hashed, in memory or not; above it, what is mapped is known by its sample."""
    monkeypatch.setattr("hpcnn.data.digests.SAMPLE_BYTES", limit)
    np.save(tmp_path / "c.npy", X)
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    np.savez(tmp_path / "stored.npz", x=X)
    np.savez_compressed(tmp_path / "packed.npz", x=X)
    with require("h5py").File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", data=X, chunks=(7, 3), compression="gzip")
    stored = [
        npy.read_array(tmp_path / "c.npy"),
        npz.read_arrays(tmp_path / "stored.npz", "x")[0],
        read_datasets(tmp_path / "d.h5", "x")[0],
        npy.read_array(tmp_path / "f.npy"),
        npz.read_arrays(tmp_path / "packed.npz", "x")[0],
    ]
    kept = [content_of(Source(rows, ArrayRows(Y))) for rows in stored]
    assert all(kept)
    for one in kept:
        assert changes(kept[0], one, FILES) == changes(one, kept[0], FILES) == []
        assert bool(one.sha256) == (limit == 2**26 or one in kept[3:])


def test_shape_is_that_of_the_file() -> None:
    column = X[:, 0].copy()
    assert digests([ReshapedRows(ArrayRows(column), (1,))]) == digests([ArrayRows(column[:, None])])


@pytest.mark.parametrize(("row_bytes", "n"), [(8, 100_000), (1000, 3000), (7000, 90), (100_000, 5), (100_000, 1)])
def test_the_sample(row_bytes: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.data.digests.SAMPLE_BYTES", 2**16)
    rows = ArrayRows(np.zeros((n, row_bytes), np.uint8))
    spans = sample(rows)
    assert spans[0][0] == 0
    assert spans[-1][1] == n
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    read = sum(stop - start for start, stop in spans) * row_bytes
    assert read <= max(2**16, 2 * row_bytes)


def test_any_change_within_the_sample_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.data.digests.SAMPLE_BYTES", 2**10)
    rows = SubsetRows(ArrayRows(X.copy()), np.arange(300))  # not in one piece
    before = digests([rows], sample)
    for start, stop in sample(rows):
        for row in {start, stop - 1}:
            rows.rows.array[row, 4] += 1e-9
            assert digests([rows], sample) != before
            rows.rows.array[row] = X[row]
    assert digests([rows], sample) == before


HERE = "training data (x.npy, y.npy): "
DIFFERENT = [
    (found(X[:299], Y[:299]), "300 rows then, 299 now"),
    (found(X[:, :4]), "a row of the inputs is float64 of shape (5,) then, float64 of shape (4,) now"),
    (found(X, Y.astype("i4")), "a row of the targets is int64 of shape () then, int32 of shape () now"),
    (found(X, Y + 1), "the values of the targets differ"),
    (found(X[::-1]), "the values of the inputs differ"),
]


@pytest.mark.parametrize(("now", "text"), DIFFERENT)
def test_what_changed_is_named(now: Content, text: str) -> None:
    assert changes(found(X), now, FILES) == [HERE + text]


def test_names_of_columns() -> None:
    before = found(X, names=tuple("abcde"))
    now = found(X[:100], Y[:100], names=("a", "b", "c", "e", "f"))
    assert changes(before, now, FILES) == [
        "columns only then: 'd'",
        "columns only now: 'f'",
        HERE + "300 rows then, 100 now",
    ]
    kept = msgspec.structs.replace(before, names=["a", " b", "c ", "d", "e"])  # by a version that kept the blanks
    assert changes(kept, before, FILES) == []
    assert changes(before, found(X, names=tuple("bacde")), FILES, ("here", "there")) == [
        "the columns are in another order: 'a', 'b', 'c', 'd', 'e' here, 'b', 'a', 'c', 'd', 'e' there"
    ]


@pytest.mark.parametrize("change", [
    {"shapes": []},
    {"shapes": [[300, 5], []]},
    {"shapes": [[300, -5], [300]]},
    {"types": ["<f8"]},
    {"types": ["<f8", "<f3"]},
    {"types": ["<f8", "O"]},
    {"sha256": ["0"]},
    {"sample_sha256": []},
])  # fmt: skip
def test_facts_that_do_not_belong_together(change: dict[str, Any]) -> None:
    plain = msgspec.to_builtins(found(X))
    assert msgspec.convert(plain, Content) == found(X)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(plain | change, Content)
