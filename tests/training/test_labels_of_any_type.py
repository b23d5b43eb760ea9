"""Labels may be whole floats or booleans, wherever they come from: the bits are those of integers."""

import struct

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data import rows
from hpcnn.data.load import load
from hpcnn.data.readers.memory import array_source
from hpcnn.errors import DataError
from hpcnn.runs.build import build_training
from hpcnn.runs.inference import evaluate_trained, open_trained
from hpcnn.storage.checkpoint import save_checkpoint
from tests.require import require
from tests.small_jobs import make_job, train

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(31, 5)).astype(np.float32), DRAW.integers(0, 2, 31)


def npy(folder, y):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", y)
    return {"source": "npy", "x_path": str(folder / "x.npy"), "y_path": str(folder / "y.npy")}


def npz(save):
    def write(folder, y):
        save(folder / "d.npz", x=X, y=y)
        return {"source": "npz", "path": str(folder / "d.npz")}

    return write


def idx(folder, y):
    for name, array in (("x", X), ("y", y.astype(np.float32))):
        header = struct.pack(f">HBB{array.ndim}I", 0, 0x0D, array.ndim, *array.shape)
        (folder / name).write_bytes(header + array.astype(">f4").tobytes())
    names = {"images": "x", "labels": "y", "validation_images": "", "validation_labels": ""}
    return {"source": "idx", "folder": str(folder), **names}


def hdf5(folder, y):
    with require("h5py").File(folder / "d.h5", "w") as file:
        file["x"], file["y"] = X, y
    return {"source": "hdf5", "path": str(folder / "d.h5")}


SOURCES = {"npy": npy, "stored npz": npz(np.savez), "packed npz": npz(np.savez_compressed), "idx": idx, "hdf5": hdf5}
JOBS = {
    "labels": {"loss": {"name": "sparse_categorical_crossentropy"}},
    "one-hot": {"loss": {"name": "categorical_crossentropy"}, "data": {"one_hot": True}},
    "balanced": {"loss": {"name": "sparse_categorical_crossentropy", "class_weights": "balanced"}},
}


def job_of(kind, data):
    settings = JOBS[kind]
    held = {"validation_fraction": 0.2, **settings.get("data", {})}
    metrics = {"epochs": 1, "metrics": ["accuracy", "f1"]}
    return make_job(
        data={**data, **held},
        loss=settings["loss"],
        train=metrics,
        model={"layers": [{"type": "dense", "units": 2, "activation": "softmax"}]},
    )


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("source", SOURCES)
def test_the_same_bits_as_of_integers(source, kind, tmp_path):
    expected = train(job_of(kind, SOURCES["npy"](tmp_path, Y)))
    for y in (Y.astype(np.float64), Y.astype(np.float16), Y > 0):
        folder = tmp_path / y.dtype.name
        folder.mkdir()
        outcome = train(job_of(kind, SOURCES[source](folder, y)))
        assert outcome.fingerprint == expected.fingerprint
        assert outcome.reports[-1].values == expected.reports[-1].values
    save_checkpoint(tmp_path / "model", outcome.state)
    _, samples, _ = evaluate_trained(open_trained(tmp_path / "model"), SerialCommunicator(), None)
    assert samples == 6


@pytest.mark.parametrize("dtype", [np.float64, bool])
def test_arrays_in_memory_that_are_too_large_to_be_cast_at_once(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MATERIALIZE_BYTES", 8)
    job = job_of("labels", SOURCES["npy"](tmp_path, Y))
    training = build_training(job, tmp_path, SerialCommunicator(), source=array_source((X, Y.astype(dtype))))
    training.shards.start_epoch(0)
    labels = training.shards.shards(0, 0, 1).y
    assert labels.dtype == np.int64


def test_a_mapped_file_is_not_read_into_memory(tmp_path):
    """Only what a shard takes is cast."""
    job = job_of("labels", SOURCES["npy"](tmp_path, Y.astype(np.float32)))
    labels = build_training(job, tmp_path, SerialCommunicator()).splits.train.y
    assert labels.dtype == np.int64
    assert isinstance(labels, rows.CastRows)
    assert labels.rows.rows.mapped  # of the rows that are no validation data


def test_fractions_are_refused_everywhere(tmp_path):
    for source in SOURCES.values():
        job = job_of("labels", source(tmp_path, Y + np.where(np.arange(31) == 7, 0.5, 0.0)))
        with pytest.raises(DataError, match="1 labels are not whole numbers"):
            build_training(job, tmp_path, SerialCommunicator())
    assert load(job.data, seed=0, dtype=np.float32, base=tmp_path).train.y.dtype.kind == "f"
