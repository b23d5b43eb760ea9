"""Tables with named columns and masked arrays, given by programs: names are matched, masks are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.data.columns import Columns
from hpcnn.data.readers.memory import array_source
from hpcnn.data.tables.frames import column_names
from hpcnn.errors import CheckpointError, DataError
from hpcnn.nn import Dense, Network
from hpcnn.storage.checkpoint import PendingCheckpoint, load_checkpoint, save_checkpoint
from hpcnn.storage.lazy import LazyArray
from tests.api.fitting import JOB, X, Y
from tests.require import require

NAMES = ("height", "width", "mass", "age")
Made = Callable[[dict[str, Any]], Any]


def columns(order: str = "0123", **more: Any) -> dict[str, Any]:
    return {NAMES[int(place)]: X[:, int(place)] for place in order} | more


def arrow(table: dict[str, Any]) -> Any:
    return require("pyarrow").table(table)


def pandas(table: dict[str, Any]) -> Any:
    return require("pandas").DataFrame(table)


def run(folder: Path, data: Any, **options: Any) -> hpcnn.Fitted:
    return hpcnn.fit({**JOB, "train": {**JOB["train"], "epochs": 1}}, data, out=folder / "run", **options)


@pytest.fixture(scope="module")
def by_name(tmp_path_factory: pytest.TempPathFactory) -> hpcnn.Fitted:
    """Return a model that was trained on a table, and read from its file."""
    data = arrow(columns()), arrow({"kind": Y}).column("kind").combine_chunks()
    return hpcnn.load(run(tmp_path_factory.mktemp("named"), data).folder)


@pytest.mark.parametrize("make", [arrow, pandas])
def test_other_tables_are_matched_by_name(by_name: hpcnn.Fitted, make: Made) -> None:
    expected = by_name.predict(X)
    np.testing.assert_array_equal(by_name.predict(make(columns("3102"))), expected)
    assert by_name.evaluate(make(columns("2310")), Y) == by_name.evaluate(X, Y)
    for read in (by_name.predict, lambda x: by_name.evaluate(x, Y)):
        with pytest.raises(DataError, match=r"lacks 'age' and has 'id', which the model was not trained on"):
            read(make(columns("012", id=Y)))


@pytest.mark.parametrize("make", [arrow, pandas])
def test_targets_may_stay_in_a_table(make: Made, tmp_path: Path) -> None:
    fitted = run(tmp_path, (make(columns()), make({"kind": Y})))
    np.testing.assert_array_equal(fitted.predict(make(columns("3102", kind=["word"] * 60))), fitted.predict(X))


def test_blanks_around_names_do_not_count(by_name: hpcnn.Fitted, tmp_path: Path) -> None:
    table = pandas({"height": X[:, 0], " width": X[:, 1], "mass ": X[:, 2], " age": X[:, 3]})
    np.testing.assert_array_equal(by_name.predict(table), by_name.predict(X))
    fitted = run(tmp_path, (table, pandas({" kind": Y})))
    assert fitted.trained.columns == Columns(NAMES, ("kind",))
    np.testing.assert_array_equal(fitted.predict(pandas(columns("3102"))), fitted.predict(X))


def test_a_series_has_the_name_of_a_target(tmp_path: Path) -> None:
    table = pandas(columns(kind=Y))
    fitted = run(tmp_path, (table[[*NAMES]], table["kind"]))
    np.testing.assert_array_equal(fitted.predict(table), fitted.predict(X))


def test_validation_is_matched_to_the_data(tmp_path: Path) -> None:
    mixed = run(tmp_path / "a", (arrow(columns()), Y), validation=(arrow(columns("3210")), Y))
    plain = run(tmp_path / "b", (X, Y), validation=(X, Y))
    assert mixed.weights_sha256 == plain.weights_sha256
    assert mixed.values == plain.values
    with pytest.raises(DataError, match="x of validation lacks 'age'"):
        run(tmp_path / "c", (arrow(columns()), Y), validation=(arrow(columns("012")), Y))


def test_several_targets_are_matched_by_name() -> None:
    known = array_source((arrow({"x": [1.0, 2.0]}), arrow({"p": [1.0, 2.0], "q": [3.0, 4.0]}))).columns
    assert known is not None
    source = array_source((arrow({"x": [1.0, 2.0]}), arrow({"q": [3.0, 4.0], "p": [1.0, 2.0]})), columns=known)
    np.testing.assert_array_equal(source.y.array, [[1, 3], [2, 4]])  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="y of data lacks 'q'"):
        array_source((arrow({"x": [1.0]}), arrow({"p": [1.0], "r": [3.0]})), columns=known)


def test_columns_of_several_types() -> None:
    table = pandas({"a": [1, 2], "b": [True, False], "c": [0.5, 1.5]})
    source = array_source((table, [0, 1]))
    np.testing.assert_array_equal(source.x.array, [[1, 1, 0.5], [2, 0, 1.5]])  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="column 'b' of x of data holds str, tuple: allowed are numbers, booleans"):
        array_source((pandas({"a": [1, 2], "b": ["x", (1, 2)]}), [0, 1]))


def test_names_that_pandas_made_up() -> None:
    """A table of an array has numbers for names; chosen by them, they count."""
    table = require("pandas").DataFrame(X)
    known = array_source((table, Y)).columns
    source = array_source((table[[3, 1, 0, 2]], Y), columns=known)
    np.testing.assert_array_equal(source.x.array, X)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(array_source((pandas(columns()), Y), columns=known).x.array, X)  # type: ignore[attr-defined]


def test_an_index_among_the_inputs_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = {**JOB, "train": {**JOB["train"], "epochs": 1}, "run": {"display": "plain"}}
    hpcnn.fit(job, (arrow({"Unnamed: 0": np.arange(60), **columns()}), Y), out=tmp_path / "run")
    assert "warning: column 0 of the training data has no name ('Unnamed: 0'), like an index" in capsys.readouterr().out


def test_what_has_no_names() -> None:
    for values in (X, X.tolist(), arrow(columns()).column("age"), None, 3.0):
        assert column_names(values) is None


# ---------------------------------------------------------------------------------------------------------- by hand


def trainer() -> hpcnn.Trainer:
    return hpcnn.Trainer(
        Network([Dense(3, name="dense_1")], (4,), "softmax"),
        "sparse_categorical_crossentropy",
        {"name": "sgd"},
        shards=2,
    )


def test_a_trainer_knows_the_names_of_its_first_batch(tmp_path: Path) -> None:
    plain, named = trainer(), trainer()
    for order in ("0123", "3210"):
        assert named.step(arrow(columns(order)), Y) == plain.step(X, Y)
    named.save(tmp_path / "t.safetensors")
    resumed = trainer()
    resumed.restore(tmp_path / "t.safetensors")
    for mine in (named, resumed):
        assert mine.weights_sha256 == plain.weights_sha256
        assert mine.evaluate(arrow(columns("2301")), Y) == plain.evaluate(X, Y)
        np.testing.assert_array_equal(mine.predict(arrow(columns("2301"))), plain.predict(X))
        with pytest.raises(DataError, match="lacks 'age'"):
            mine.step(arrow(columns("012")), Y)


def test_a_trainer_s_file_with_other_things_for_names(tmp_path: Path) -> None:
    mine = trainer()
    mine.save(tmp_path / "t.safetensors")
    kept = load_checkpoint(tmp_path / "t.safetensors")
    arrays = {name: LazyArray.of(array) for name, array in kept.tensors.items()}
    save_checkpoint(tmp_path / "t.safetensors", PendingCheckpoint(arrays, {**kept.facts, "data": [1]}))
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        mine.restore(tmp_path / "t.safetensors")


# ------------------------------------------------------------------------------------------------------------ masks


def test_masks_are_refused_unless_they_are_empty(by_name: hpcnn.Fitted, tmp_path: Path) -> None:
    hidden = np.ma.masked_greater(X, 5.0)
    text = r"is a masked array, and \d+ of its values are masked\. Fill them with \.filled"
    loop = trainer()
    for use in (
        lambda: run(tmp_path, (hidden, Y)),
        lambda: run(tmp_path, (X, np.ma.masked_equal(Y, 1))),
        lambda: run(tmp_path, (X, Y), validation=(hidden, Y)),
        lambda: by_name.predict(hidden),
        lambda: by_name.predict([*hidden]),
        lambda: by_name.evaluate(hidden, Y),
        lambda: by_name.evaluate(X, np.ma.masked_equal(Y, 1)),
        lambda: loop.step(hidden, Y),
        lambda: loop.step(X, np.ma.masked_equal(Y, 1)),
        lambda: loop.evaluate(hidden, Y),
        lambda: loop.predict(hidden),
        lambda: loop.load_weights({n: np.ma.masked_array(w, True) for n, w in loop.weights().items()}),
    ):
        with pytest.raises(DataError, match=text):
            use()
    assert loop.steps == 0
    np.testing.assert_array_equal(by_name.predict(np.ma.masked_array(X)), by_name.predict(X))
