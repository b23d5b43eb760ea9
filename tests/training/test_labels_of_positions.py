"""Integer labels of each position of a sample: pixels to segment, characters to predict."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data.content import Content
from hpcnn.errors import DataError
from hpcnn.runs.inference import evaluate_trained, input_loader, open_trained, predict
from hpcnn.storage.checkpoint import save_checkpoint
from tests.small_jobs import build, make_job, train

SAMPLES = 60
SHAPES = {"source": "shapes", "samples": SAMPLES, "size": 8, "channels": 3, "shapes": 2, "validation_fraction": 0.25}
PIXELS = [{"type": "dense", "units": 6, "activation": "tanh"}, {"type": "dense", "units": 4, "activation": "softmax"}]
METRICS = ["accuracy", "precision", "recall", "f1", "top_k_accuracy", "confusion_matrix"]
LOSSES = {
    "sparse": ({"name": "sparse_categorical_crossentropy"}, False, [*METRICS, "sparse_categorical_accuracy"]),
    "one-hot": ({"name": "categorical_crossentropy"}, True, [*METRICS, "categorical_accuracy"]),
}
TEXT = "the quick brown fox jumps over the lazy dog. " * 9


def pixel_job(kind: str, arithmetic: str = "native", **settings: object):
    loss, one_hot, metrics = LOSSES[kind]
    return make_job(
        data={**SHAPES, "one_hot": one_hot},
        loss=loss,
        model={"layers": PIXELS},
        train={"metrics": metrics, "top_k": 2, "arithmetic": arithmetic, **settings},
    )


@pytest.fixture
def text_job(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    return make_job(
        data={"source": "text", "path": str(tmp_path / "t.txt"), "length": 6, "stride": 2, "validation_fraction": 0.25},
        model={"layers": [
            {"type": "reshape", "shape": [6, 1]},
            {"type": "dense", "units": 9, "activation": "tanh"},
            {"type": "dense", "units": 28, "activation": "softmax"},
        ]},
    )  # fmt: skip


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
@pytest.mark.parametrize("kind", LOSSES)
def test_any_number_of_ranks(kind: str, arithmetic: str) -> None:
    job = pixel_job(kind, arithmetic)
    alone, three = train(job), train(job, ranks=3)
    assert alone.bits() == three.bits()
    for one, other in zip(alone.reports, three.reports, strict=True):
        np.testing.assert_equal(one.values, other.values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_one_hot_rows_lead_to_the_same(arithmetic: str, dtype: str) -> None:
    labels, rows = (train(pixel_job(kind, arithmetic, dtype=dtype)).reports[-1].values for kind in LOSSES)
    for name in labels.keys() & rows.keys():
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(rows[name], labels[name], rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_metrics_count_positions(arithmetic: str, tmp_path) -> None:
    job = pixel_job("sparse", arithmetic)
    outcome = train(job)
    save_checkpoint(tmp_path / "model", outcome.state)
    trained = open_trained(tmp_path / "model")
    _, count, values = evaluate_trained(trained, SerialCommunicator(), None)
    held = build(job).splits.validation
    x, y = np.empty((15, 8, 8, 3), np.float32), np.empty((15, 8, 8), np.int64)
    held.take(np.arange(15), x, y)
    outputs = trained.model.predict_piece(x)
    assert count == 15
    decided = outputs.argmax(axis=-1)
    matrix = np.zeros((4, 4))
    np.add.at(matrix, (y.ravel(), decided.ravel()), 1)
    np.testing.assert_array_equal(values["confusion_matrix"], matrix)
    assert (
        values["accuracy"] == values["sparse_categorical_accuracy"] == pytest.approx((decided == y).mean(), abs=1e-12)
    )
    best = np.argsort(outputs, axis=-1)[..., -2:]
    assert values["top_k_accuracy"] == pytest.approx((best == y[..., None]).any(axis=-1).mean(), abs=1e-12)
    picked = np.take_along_axis(outputs.astype(np.float64), y[..., None], axis=-1)
    assert values["loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-5)


def test_class_weights_are_refused() -> None:
    job = make_job(
        data=SHAPES,
        loss={"name": "sparse_categorical_crossentropy", "class_weights": "balanced"},
        model={"layers": PIXELS},
    )
    with pytest.raises(Exception, match=r"class_weights need one class a sample, but the model's outputs have shape"):
        build(job)


def test_too_few_outputs_for_a_text(text_job) -> None:
    layers = [*text_job.model.layers[:-1], msgspec.structs.replace(text_job.model.layers[-1], units=27)]
    job = msgspec.structs.replace(text_job, model=msgspec.structs.replace(text_job.model, layers=layers))
    with pytest.raises(DataError, match=r"the text has 28 different characters, .* 27 outputs.* layer 28 units"):
        build(job)


def test_a_run_knows_its_characters(text_job, tmp_path) -> None:
    outcome = train(text_job)
    assert outcome.bits() == train(text_job, ranks=3).bits()
    save_checkpoint(tmp_path / "model", outcome.state)
    trained, alone = open_trained(tmp_path / "model"), SerialCommunicator()
    characters = "".join(sorted(set(TEXT)))
    assert isinstance(trained.content, Content)
    assert trained.content.vocabulary == trained.data.vocabulary == characters
    assert trained.job.data.vocabulary == ""
    (tmp_path / "p").write_text("zebra fox jumps")  # of its own characters z would be number 15
    blocks = list(predict(trained, alone, input_loader(trained, alone, str(tmp_path / "p"))))
    ids = np.array([[characters.index(c) for c in "zebra fox jumps"[start : start + 6]] for start in range(0, 10, 2)])
    np.testing.assert_array_equal(np.concatenate(blocks), trained.model.predict_piece(ids.astype(np.float32)))
    assert evaluate_trained(trained, alone, str(tmp_path / "p"))[1] == 5
    assert evaluate_trained(trained, alone, None)[1] == len(build(text_job).splits.validation)
    (tmp_path / "p").write_text("Zebra fox jumps")
    with pytest.raises(DataError, match=r"character 0, counted from 0, is 'Z' .* not among the 28 of the vocabulary"):
        input_loader(trained, alone, str(tmp_path / "p"))
    (tmp_path / "t.txt").write_text(TEXT + "!")
    with pytest.raises(Exception, match=r"the data changed since the run was started: characters only now: '!'"):
        evaluate_trained(trained, alone, None)
