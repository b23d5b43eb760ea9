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
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcnn.job import data as schema
from hpcnn.job.load import builtin_jobs

ROWS, COLUMNS, CLASSES = 24, 4, 3
X = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
Y = np.arange(ROWS) % CLASSES
IDX_CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


@dataclass(frozen=True)
class Sample:
    """Files that belong together, by name; the one called `target` is to be damaged."""

    files: dict[str, bytes]
    target: str
    section: schema.DataSection | None = None
    """How a job reads them; None where they are no data."""
    read: str = ""
    """What is read, where that is the folder of the target."""

    @property
    def content(self) -> bytes:
        return self.files[self.target]


def npy_bytes(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def npz_bytes(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def idx_bytes(array: np.ndarray[Any, Any], code: str = "u1") -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, IDX_CODES[code], array.ndim, *array.shape)
    return header + array.astype(code).tobytes()


def gz_bytes(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def csv_bytes(header: str = "a,b,c,d,label", delimiter: str = ",", newline: str = "\n") -> bytes:
    rows = [[f"{value:.7g}" for value in row] + [str(label)] for row, label in zip(X.tolist(), Y, strict=True)]
    lines = [*([header] if header else []), *(delimiter.join(row) for row in rows), ""]
    return newline.join(lines).encode()


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


def image_bytes(pixels: np.ndarray[Any, Any], form: str, **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def _images() -> list[Sample]:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (6, 5, 3), dtype=np.uint8) for _ in range(6)]
    table = "file,label\n" + "".join(f"p{number},{number % CLASSES}\n" for number in range(6))
    names = {f"p{number}": image_bytes(picture, "PNG") for number, picture in enumerate(pictures)}
    colour, size = schema.Images(folder=".", table="t.csv", targets=["label"]), [4, 4]
    grey = msgspec.structs.replace(colour, channels="grey", size=size)
    alpha = np.dstack([pictures[0], pictures[1][:, :, 0]])
    forms = [
        (image_bytes(pictures[0], "PNG"), colour),
        (image_bytes(pictures[0], "JPEG", progressive=True), colour),
        (image_bytes(pictures[0], "TIFF"), colour),
        (image_bytes(pictures[0], "TIFF", compression="tiff_lzw"), grey),
        (image_bytes(pictures[0], "WEBP"), grey),
        (image_bytes(pictures[0], "BMP"), grey),
        (image_bytes(pictures[0][:, :, 0], "GIF"), grey),
        (image_bytes(alpha, "PNG"), msgspec.structs.replace(colour, size=size, resize="crop")),
        (image_bytes(pictures[0], "JPEG"), msgspec.structs.replace(colour, size=size, resize="pad")),
    ]
    return [Sample({**names, "p0": content, "t.csv": table.encode()}, "p0", section) for content, section in forms]


def tar_bytes(files: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _webdataset() -> list[Sample]:
    arrays = {f"{i:02}.{ending}": content for i in range(ROWS)
              for ending, content in (("npy", npy_bytes(X[i])), ("cls", b"%d" % Y[i]))}  # fmt: skip
    long = {f"{'long' * 40}/{name}": content for name, content in arrays.items()}
    values = {name.replace("cls", "json"): content if name.endswith("npy") else b'{"a": {"b": %s}}' % content
              for name, content in arrays.items()}  # fmt: skip
    picture = image_bytes(np.zeros((6, 5, 3), np.uint8), "PNG")
    pictures = {f"{i}.{ending}": content for i in range(6)
                for ending, content in (("png", picture), ("cls", b"%d" % (i % 3)))}  # fmt: skip
    section = schema.WebDataset(shards="d.tar", x="npy")
    forms = [
        (tar_bytes(arrays), section),
        (tar_bytes(long, tarfile.GNU_FORMAT), section),
        (tar_bytes(long, tarfile.PAX_FORMAT), section),
        (tar_bytes(values), msgspec.structs.replace(section, y="json:a.b")),
        (tar_bytes(pictures), schema.WebDataset(shards="d.tar*")),
    ]
    return [Sample({"d.tar": content}, "d.tar", section) for content, section in forms]


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


def hdf5_bytes(fill: Callable[[Any], None]) -> bytes:
    """Return the file that ``fill(file)`` has written to."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def _hdf5() -> list[Sample]:
    def contiguous(file: Any) -> None:
        file["x"], file["y"] = X, Y

    def chunked(file: Any) -> None:
        file.create_dataset("group/x", data=X, chunks=(7, COLUMNS), compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("y", data=Y.astype(np.uint8), chunks=(5,))

    return [
        Sample({"d.h5": hdf5_bytes(contiguous)}, "d.h5", schema.Hdf5(path="d.h5")),
        Sample({"d.h5": hdf5_bytes(chunked)}, "d.h5", schema.Hdf5(path="d.h5", x="group/x")),
    ]


def zarr_files(form: int, **options: Any) -> dict[str, bytes]:
    """Return the files of a Zarr store with the folder `x` for inputs, and `y`."""
    import zarr

    with tempfile.TemporaryDirectory() as name:
        group = zarr.open_group(name, mode="w", zarr_format=form)
        group.create_array("x", data=X, chunks=(6, 4), attributes={"scale_factor": 2.0}, **options)
        group.create_array("y", data=Y.astype(np.uint8), chunks=(24,))
        files = {path.relative_to(name): path for path in sorted(Path(name).rglob("*")) if path.is_file()}
        return {path.as_posix(): file.read_bytes() for path, file in files.items()}


def _zarr() -> list[Sample]:
    import numcodecs
    from zarr.codecs import BloscCodec, GzipCodec

    stores = [
        (zarr_files(3), ["x/zarr.json", "x/c/1/0", "zarr.json"]),
        (zarr_files(3, compressors=[BloscCodec()]), ["x/c/0/0"]),
        (zarr_files(3, shards=(12, 4), compressors=[GzipCodec()]), ["x/c/1/0", "x/zarr.json"]),
        (zarr_files(2, compressors=numcodecs.Blosc(cname="zstd")), ["x/.zarray", "x/1.0", "x/.zattrs"]),
        (zarr_files(2, compressors=numcodecs.LZ4(), filters=[numcodecs.Shuffle(4)]), ["x/2.0", "y/0"]),
    ]
    samples = [
        Sample({f"d.zarr/{name}": content for name, content in files.items()}, f"d.zarr/{target}",
               schema.Zarr(path="d.zarr"), "d.zarr")
        for files, targets in stores
        for target in targets
    ]  # fmt: skip
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in stores[0][0].items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return [*samples, Sample({"d.zarr.zip": stream.getvalue()}, "d.zarr.zip", schema.Zarr(path="d.zarr.zip"))]


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
    "idx": _idx,
    "idx.gz": lambda: _idx(".gz", gz_bytes),
    "cifar": _cifar,
    "images": _images,
    "webdataset": _webdataset,
    "text": _text,
    "csv": _csv,
    "packed csv": _packed,
    "hdf5": _hdf5,
    "zarr": _zarr,
    "parquet": _parquet,
    "feather": _feather,
    "checkpoint": _checkpoint,
}
"""Makes the sound samples of each kind."""

NEEDS = {
    "images": "PIL",
    "webdataset": "PIL",
    "hdf5": "h5py",
    "zarr": "zarr",
    "parquet": "pyarrow",
    "feather": "pyarrow",
}
"""Kinds that need a package."""


def available_kinds() -> list[str]:
    """Return the kinds whose packages are installed."""
    return [kind for kind in KINDS if kind not in NEEDS or importlib.util.find_spec(NEEDS[kind])]
