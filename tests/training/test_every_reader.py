"""From the files of every reader to the batches of every rank: each training sample exactly once in an epoch."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcnn.comm.collectives import TreeReduction
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.core.tree import owned_leaves
from hpcnn.data.load import load
from hpcnn.data.readers import READERS, read_source
from hpcnn.data.rows import ArrayRows
from hpcnn.data.source import Source
from hpcnn.job.schema import Job
from hpcnn.runs.reading import shard_loader, with_chunk_rows
from hpcnn.training.kept import kept
from hpcnn.training.read_once import read_once
from tests.data.test_cifar import batch
from tests.data.test_idx import NAMES, idx_bytes
from tests.data.test_webdataset import npy_bytes, write_tar
from tests.require import require


def arrays(n):
    """Return n rows, each by its number, and their labels."""
    return np.arange(2.0 * n).reshape(n, 2), np.arange(n) % 3


def write_npy(folder, n, draw):
    for name, values in zip("xy", arrays(n), strict=True):
        np.save(folder / f"{name}.npy", values)
    return {"x_path": "x.npy", "y_path": "y.npy"}


def write_npz(folder, n, draw):
    x, y = arrays(n)
    (np.savez_compressed if draw(st.booleans()) else np.savez)(folder / "d.npz", x=x, y=y)
    return {"path": "d.npz"}


def write_csv(folder, n, draw):
    lines = (f"{a},{b},{label}" for (a, b), label in zip(*arrays(n), strict=True))
    (folder / "d.csv").write_text("\n".join(["a,b,label", *lines]))
    return {"path": "d.csv", "targets": ["label"]}


def write_hdf5(folder, n, draw):
    with require("h5py").File(folder / "d.h5", "w") as file:
        for name, values in zip("xy", arrays(n), strict=True):
            rows = draw(st.integers(0, n))
            chunks = {"chunks": (rows, *values.shape[1:]), "compression": draw(st.sampled_from([None, "gzip"]))}
            file.create_dataset(name, data=values, **(chunks if rows else {}))
    return {"path": "d.h5"}


def write_zarr(folder, n, draw):
    group = require("zarr").open_group(folder / "d.zarr", mode="w")
    for name, values in zip("xy", arrays(n), strict=True):
        rows = draw(st.integers(1, n))
        stored = group.create_array(name, shape=values.shape, chunks=(rows, *values.shape[1:]), dtype=values.dtype)
        stored[...] = values
    return {"path": "d.zarr"}


def write_parquet(folder, n, draw):
    x, y = arrays(n)
    table = require("pyarrow").table({"a": x[:, 0], "b": x[:, 1], "label": y})
    require("pyarrow.parquet").write_table(table, folder / "d.parquet", row_group_size=draw(st.integers(1, n)))
    return {"path": "d.parquet", "targets": ["label"]}


def write_feather(folder, n, draw):
    x, y = arrays(n)
    table = require("pyarrow").table({"a": x[:, 0], "b": x[:, 1], "label": y})
    require("pyarrow.feather").write_feather(table, str(folder / "d.feather"), chunksize=draw(st.integers(1, n)))
    return {"path": "d.feather", "targets": ["label"]}


def write_webdataset(folder, n, draw):
    shards = draw(st.integers(1, 3))
    for shard in range(shards):
        files = {}
        for number in range(n * shard // shards, n * (shard + 1) // shards):
            files |= {f"{number:03}.npy": npy_bytes(arrays(n)[0][number]), f"{number:03}.cls": str(number % 3).encode()}
        write_tar(folder / f"{shard}.tar", files)
    return {"shards": "*.tar", "x": "npy"}


def write_cifar(folder, n, draw):
    images = np.zeros((n, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    (folder / "data_batch_1.bin").write_bytes(batch(images, (np.arange(n) % 10).astype(np.uint8)))
    return {"folder": "data_batch_1.bin", "part": "train"}


def write_images(folder, n, draw):
    for number in range(n):
        place = folder / "pictures" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        require("PIL.Image").fromarray(np.full((2, 2), number, np.uint8)).save(place / f"{number}.png")
    return {"folder": "pictures", "channels": "grey"}


def write_idx(folder, n, draw):
    (folder / NAMES[0]).write_bytes(idx_bytes(np.arange(4 * n).astype("u1").reshape(n, 2, 2)))
    (folder / NAMES[1]).write_bytes(idx_bytes((np.arange(n) % 3).astype("u1")))
    return {"folder": ".", "validation_images": "", "validation_labels": ""}


def write_text(folder, n, draw):
    (folder / "d.txt").write_text("".join(chr(97 + number % 7) for number in range(3 * n + 1)))
    return {"path": "d.txt", "length": 3}


def take_sklearn(folder, n, draw):
    require("sklearn")
    return {"name": "iris"}


FILES = {
    "npy": write_npy, "npz": write_npz, "csv": write_csv, "hdf5": write_hdf5, "parquet": write_parquet,
    "zarr": write_zarr, "feather": write_feather, "webdataset": write_webdataset,
    "cifar": write_cifar, "images": write_images, "idx": write_idx, "text": write_text, "sklearn": take_sklearn,
    "digits": lambda folder, n, draw: {},
    "synthetic": lambda folder, n, draw: {"kind": "linear", "samples": n},
    "shapes": lambda folder, n, draw: {"samples": n, "size": 8},
    "heat": lambda folder, n, draw: {"samples": n, "points": 4},
    "series": lambda folder, n, draw: {"samples": n, "length": 8},
    "memory": lambda folder, n, draw: {},
}  # fmt: skip


def test_each_reader_has_a_line():
    assert FILES.keys() == {reader.section.__struct_config__.tag for reader in READERS}


def read(source, table, folder):
    """Return the source of a job: of its files, but of `memory`."""
    if table["data"]["source"] == "memory":
        x, y = arrays(source)
        return Source(ArrayRows(x), ArrayRows(y))
    return read_source(msgspec.convert(table, Job).data, folder)


def batches_of(comm, table, folder, n, steps):
    """Return this rank's samples in those steps of epoch 0, each as its bytes; then break off."""
    job, source = msgspec.convert(table, Job), read_once(lambda: read(n, table, folder), comm)
    job = with_chunk_rows(job, source.x)
    source = kept(source, job.data.keep, comm)
    splits = load(job.data, seed=3, dtype="float64", base=folder, reduction=TreeReduction(comm), source=source)
    spec = SimpleNamespace(network=SimpleNamespace(input_shape=splits.train.x_shape))
    loader, owned = shard_loader(job, spec, splits, comm), owned_leaves(job.train.shards, comm.size, comm.rank)
    steps = range(steps.start, min(steps.stop, loader.steps_per_epoch))
    loader.start_epoch(0, min(steps.start, loader.steps_per_epoch), owned)
    seen = []
    for step in steps:
        x, y = loader.shards(step, *owned)[:2]
        seen += [(one.tobytes(), other.tobytes()) for one, other in zip(x, y, strict=True)]
    loader.close()
    return seen, splits.train


def on_ranks(count, body):
    return [body(SerialCommunicator())] if count == 1 else run_threads(count, body)


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_each_sample_is_once_in_an_epoch(kind, data, tmp_path_factory):
    """Whatever the chunks, the order and the ranks, and though other ranks go on from some step of the epoch."""
    draw, folder = data.draw, tmp_path_factory.mktemp("data")
    n = draw(st.integers(2, 30))
    section = {"source": kind, **FILES[kind](folder, n, draw)}
    samples = read(n, {"data": section, "model": {"layers": []}}, folder).x.shape[0]
    order = draw(
        st.sampled_from([{}, {"order": "windows"}, {"order": "windows", "chunk_rows": draw(st.integers(1, n))}])
    )
    windows = {"window_chunks": draw(st.integers(1, 4))} if order else {}
    section |= order | windows | {"prefetch": draw(st.integers(0, 3)), "keep": draw(st.sampled_from(["auto", "file"]))}
    size = draw(st.integers(-(-samples // 6), samples))
    shards = draw(st.integers(5, 9))
    table = {
        "data": section,
        "model": {"layers": []},
        "train": {"batch_size": size, "shards": shards, "dtype": "float64", "arithmetic": "numpy"},
    }
    stop = draw(st.integers(0, 6))
    parts = [(draw(st.integers(1, 5)), range(stop)), (draw(st.integers(1, 5)), range(stop, 7))]
    seen = Counter()
    for ranks, steps in parts:
        outcomes = on_ranks(ranks, lambda comm, steps=steps: batches_of(comm, table, folder, n, steps))
        for rows, _ in outcomes:
            seen.update(rows)
    train = outcomes[0][1]
    x, y = np.empty(train.x.shape), np.empty(train.y.shape, np.int64 if train.y.dtype.kind in "iu" else np.float64)
    train.take(np.arange(len(x)), x, y)
    assert seen == Counter((one.tobytes(), other.tobytes()) for one, other in zip(x, y, strict=True))
    assert sum(seen.values()) == samples
