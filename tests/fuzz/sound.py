"""Sound files of every kind that hpcnn reads: what the fuzzer starts from."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import lzma
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcnn.job import data as schema
from hpcnn.job.load import builtin_jobs
from tests.fuzz.samples import CLASSES, IDX_CODES, ROWS, Sample, X, Y, csv_bytes, npy_bytes, npz_bytes
from tests.fuzz.sound_grids import hdf5, hdf5_channels, netcdf, zarr
from tests.fuzz.sound_pictures import deep_images, image_tables, images, masks, webdataset


def idx_bytes(array: np.ndarray[Any, Any], code: str = "u1") -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, IDX_CODES[code], array.ndim, *array.shape)
    return header + array.astype(code).tobytes()


def gz_bytes(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _npy() -> list[Sample]:
    section = schema.Npy(x_path="x.npy", y_path="y.npy")
    inputs = [X, np.asfortranarray(X), X.astype(">f8"), X.astype("<f2"), X > 0, X.reshape(ROWS, 2, 2)]
    files = [{"x.npy": npy_bytes(x), "y.npy": npy_bytes(Y)} for x in inputs]
    files.append({"x.npy": npy_bytes(X, (2, 0)), "y.npy": npy_bytes(Y.astype(np.uint8))})
    return [Sample(one, "x.npy", section) for one in files] + [Sample(files[0], "y.npy", section)]


def _npz() -> list[Sample]:
    section = schema.Npz(path="d.npz")
    contents = [
        npz_bytes(save, x=x, y=Y, other=X)
        for save in (np.savez, np.savez_compressed)
        for x in (X, np.asfortranarray(X))
    ]
    samples = [Sample({"d.npz": content}, "d.npz", section) for content in contents]
    held = schema.Npz(path="d.npz", validation_path="v.npz")
    return [*samples, Sample({"d.npz": contents[0], "v.npz": contents[2]}, "v.npz", held)]


def _npz_weights() -> list[Sample]:
    weights = np.linspace(0.5, 2, ROWS)
    arrays = {"x": X, "y": Y, "w": weights, "g": Y}
    whole = schema.Npz(path="d.npz", weights="w", validation_x="x", validation_y="y", validation_weights="w")
    several = schema.Npz(path="d.npz", x=["x", "w"], weights="w")
    return [
        Sample({"d.npz": npz_bytes(save, **arrays)}, "d.npz", section)
        for save in (np.savez, np.savez_compressed)
        for section in (schema.Npz(path="d.npz", weights="w", group="g"), whole, several)
    ]


def _idx(ending: str = "", pack: Callable[[bytes], bytes] = bytes) -> list[Sample]:
    images, labels = f"images-ubyte{ending}", f"labels-ubyte{ending}"
    section = schema.Idx(folder=".", images=images, labels=labels, validation_images="", validation_labels="")
    values = (X * 50).astype(np.int8)
    files = [
        {images: pack(idx_bytes(values.reshape(shape), code)), labels: pack(idx_bytes(Y))}
        for code, shape in (("u1", (ROWS, 2, 2)), ("i1", (ROWS, 4)), (">i2", (ROWS, 4)), (">f8", (ROWS, 2, 2)))
    ]
    return [Sample(one, images, section) for one in files] + [Sample(files[0], labels, section)]


def cifar_bytes(labels: list[int], label_bytes: int = 1) -> bytes:
    images = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 3072 + label_bytes)).astype(np.uint8)
    images[:, :label_bytes] = np.array(labels)[:, None]
    return images.tobytes()


def _cifar() -> list[Sample]:
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    ten = {name: cifar_bytes([number % CLASSES, 1]) for number, name in enumerate(names)}
    hundred = {"train.bin": cifar_bytes([0, 1, 2], 2), "test.bin": cifar_bytes([2, 0, 1, 1], 2)}
    return [
        Sample(ten, names[2], schema.Cifar(folder=".")),
        Sample(ten, names[-1], schema.Cifar(folder=".")),
        Sample(hundred, "train.bin", schema.Cifar(folder=".", name="cifar100", part="train")),
        Sample(hundred, "test.bin", schema.Cifar(folder="test.bin", name="cifar100", labels="coarse", part="test")),
    ]


def _text() -> list[Sample]:
    text = "abc äöü €\n\r\t 🙂 " * 9
    forms = [
        (text.encode(), schema.TextFiles(path="d.txt", length=5)),
        (b"\xef\xbb\xbf" + text.encode(), schema.TextFiles(path="d.txt", length=7, stride=2)),
        (text.encode("latin-1", "ignore"), schema.TextFiles(path="d.txt", length=9, units="byte")),
        (b"abcabcabab" * 5, schema.TextFiles(path="d.txt*", length=4, vocabulary="abc")),
    ]
    return [Sample({"d.txt": content}, "d.txt", section) for content, section in forms]


def _csv() -> list[Sample]:
    named = schema.Csv(path="d.csv", targets=["label"])
    unnamed = schema.Csv(path="d.csv", targets=[-1], header=False)
    forms = [
        (csv_bytes(), named),
        (b"\xef\xbb\xbf" + csv_bytes(newline="\r\n"), named),
        (csv_bytes('"a","b\n",c,d,"label"'), named),
        (csv_bytes(""), unnamed),
        (csv_bytes("", ";"), schema.Csv(path="d.csv", targets=[4], header=False, delimiter=";")),
        (csv_bytes("a\tb\tc\td\tlabel", "\t"), named),
        (csv_bytes("a b c  d label", "  "), named),
        (csv_bytes("a;b;c;d;label", ";").replace(b".", b","), named),
        (csv_bytes().decode().encode("utf-16"), named),
        (b"# 24 rows\n" + csv_bytes(newline="\r"), msgspec.structs.replace(named, comment="#")),
        (csv_bytes("größe,b,c,d,label").decode().encode("latin-1"), msgspec.structs.replace(named, encoding="cp1252")),
    ]
    samples = [Sample({"d.csv": content}, "d.csv", section) for content, section in forms]
    held = schema.Csv(path="d.csv", targets=["label"], validation_path="v.csv")
    return [*samples, Sample({"d.csv": csv_bytes(), "v.csv": csv_bytes()}, "v.csv", held)]


def _packed() -> list[Sample]:
    """Return packed text files, and parts in a folder, of which one is damaged."""
    section = schema.Csv(path="d.csv", targets=["label"])
    contents = [pack(csv_bytes()) for pack in (gz_bytes, bz2.compress, lzma.compress)]
    if importlib.util.find_spec("pyarrow"):
        import pyarrow

        contents.append(pyarrow.compress(csv_bytes(), codec="zstd", asbytes=True))
    parts = {"0.csv": csv_bytes(), "1.csv": csv_bytes("d|b|c|a|label", "|")}
    samples = [Sample({"d.csv": content}, "d.csv", section) for content in contents]
    return [*samples, Sample(parts, "1.csv", schema.Csv(path="*.csv", targets=["label"]))]


def arrow_table(columns: dict[str, Any]) -> Any:
    import pyarrow

    return pyarrow.table(columns)


def parquet_bytes(columns: dict[str, Any], **options: Any) -> bytes:
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(arrow_table(columns), stream, **options)
    return stream.getvalue()


def _parquet() -> list[Sample]:
    columns = {"a": X[:, 0], "b": X[:, 1].astype(np.float64), "flag": X[:, 2] > 0, "label": Y}
    options: list[dict[str, Any]] = [{}, {"compression": "none", "use_dictionary": False}, {"row_group_size": 7}]
    section = schema.Parquet(path="d.parquet", targets=["label"])
    return [Sample({"d.parquet": parquet_bytes(columns, **one)}, "d.parquet", section) for one in options]


def _feather() -> list[Sample]:
    from pyarrow import feather

    section = schema.Feather(path="d.feather", targets=["label"])
    columns = {"a": X[:, 0], "b": X[:, 1].astype(np.float64), "flag": X[:, 2] > 0, "label": Y}
    samples = []
    for compression in ("uncompressed", "lz4", "zstd"):
        stream = io.BytesIO()
        feather.write_feather(arrow_table(columns), stream, compression=compression)
        samples.append(Sample({"d.feather": stream.getvalue()}, "d.feather", section))
    return samples


def _job() -> list[Sample]:
    return [Sample({"job.toml": path.read_bytes()}, "job.toml") for path in sorted(builtin_jobs().glob("*.toml"))]


TINY_JOB = """
data = { source = "digits", scale = "standardize" }
loss = { name = "sparse_categorical_crossentropy" }
train = { epochs = 1, batch_size = 256, shards = 2, reduce_on_plateau = { monitor = "loss" } }
model = { layers = [{ type = "flatten" }, { type = "residual", layers = [{ type = "dense", units = 64 }] },
    { type = "dense", units = 10, activation = "softmax" }] }
"""


def _checkpoint() -> list[Sample]:
    """Train for one epoch, and return the files of the run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny.toml").write_text(TINY_JOB)
        command = [sys.executable, "-m", "hpcnn.train", "tiny.toml", "--quiet", "--out", "run"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        subprocess.run(command, cwd=folder, env=environment, check=True, timeout=120, stdout=subprocess.DEVNULL)
        contents = [path.read_bytes() for path in sorted((folder / "run").rglob("*.safetensors"))]
    return [Sample({"c.safetensors": content}, "c.safetensors") for content in contents]


KINDS: dict[str, Callable[[], list[Sample]]] = {
    "job": _job,
    "npy": _npy,
    "npz": _npz,
    "npz weights": _npz_weights,
    "idx": _idx,
    "idx.gz": lambda: _idx(".gz", gz_bytes),
    "cifar": _cifar,
    "images": images,
    "deep images": deep_images,
    "image tables": image_tables,
    "masks": masks,
    "webdataset": webdataset,
    "text": _text,
    "csv": _csv,
    "packed csv": _packed,
    "hdf5": hdf5,
    "hdf5 channels": hdf5_channels,
    "netcdf": netcdf,
    "zarr": zarr,
    "parquet": _parquet,
    "feather": _feather,
    "checkpoint": _checkpoint,
}
"""Makes the sound samples of each kind."""

NEEDS = {
    "images": "PIL",
    "deep images": "PIL",
    "image tables": "PIL",
    "masks": "PIL",
    "webdataset": "PIL",
    "hdf5": "h5py",
    "hdf5 channels": "h5py",
    "netcdf": "h5py",
    "zarr": "zarr",
    "parquet": "pyarrow",
    "feather": "pyarrow",
}
"""Kinds that need a package."""


def available_kinds() -> list[str]:
    """Return the kinds whose packages are installed."""
    return [kind for kind in KINDS if kind not in NEEDS or importlib.util.find_spec(NEEDS[kind])]
