"""Files of one table of rows in several formats, and what reads them: hpcnn, the format's library, PyTorch."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pyarrow as arrow
import zarr
from PIL import Image
from pyarrow import parquet

from hpcnn.comm.collectives import agree
from hpcnn.comm.protocol import Communicator
from hpcnn.data.chunks import stored
from hpcnn.data.readers import read_source
from hpcnn.data.rows import Rows
from hpcnn.job.schema import Job
from hpcnn.runs.build import build_training

FEATURES, CHUNK_ROWS, BATCH = 1024, 256, 256
ROW_BYTES = 4 * FEATURES
PIXELS = 64
PICTURE_BYTES = PIXELS * PIXELS * 3
WINDOW_CHUNKS = 32
FILES = ("gzip.h5", "plain.h5", "x.zarr", "x.npy", "pictures", "table.parquet")

Epoch = Callable[[], int]
"""Reads this rank's rows, and returns how many they were."""


def write_files(folder: Path, names: list[str], rows: int) -> None:
    """Write the same rows in each of the formats; as pictures, as many bytes."""
    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, FEATURES))
    for start in range(0, rows, CHUNK_ROWS):
        x[start : start + CHUNK_ROWS] = rng.integers(0, 50, (min(CHUNK_ROWS, rows - start), FEATURES))
    np.save(folder / "y.npy", np.ones((rows, 1), np.float32))
    for name, options in (("gzip.h5", {"compression": "gzip", "shuffle": True}), ("plain.h5", {})):
        if name in names:
            with h5py.File(folder / name, "w") as file:
                file.create_dataset("x", data=x, chunks=(CHUNK_ROWS, FEATURES), **options)
                file.create_dataset("y", data=np.load(folder / "y.npy"))
    if "x.zarr" in names:
        store = zarr.open_group(folder / "x.zarr", mode="w")
        for name, values in (("x", x), ("y", np.load(folder / "y.npy"))):
            stored = store.create_array(name, shape=values.shape, chunks=(CHUNK_ROWS, *values.shape[1:]), dtype="f4")
            for start in range(0, rows, CHUNK_ROWS):
                stored[start : start + CHUNK_ROWS] = values[start : start + CHUNK_ROWS]
    if "table.parquet" in names:
        columns = {f"x{place}": x[:, place] for place in range(FEATURES)}
        table = arrow.table(columns | {"y": np.zeros(rows, np.float32)})
        parquet.write_table(table, folder / "table.parquet", row_group_size=CHUNK_ROWS * WINDOW_CHUNKS)
    for picture in range(rows * ROW_BYTES // PICTURE_BYTES if "pictures" in names else 0):
        place = folder / "pictures" / str(picture % 2)
        place.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(values ^ rng.integers(0, 16, values.shape, np.uint8)).save(place / f"{picture:06}.png")
    os.sync()


def settings_of(name: str) -> dict[str, Any]:
    """Return the settings of a file in `[data]`."""
    return {
        "x.npy": {"source": "npy", "x_path": "x.npy", "y_path": "y.npy"},
        "x.zarr": {"source": "zarr", "path": "x.zarr"},
        "table.parquet": {"source": "parquet", "path": "table.parquet", "targets": ["y"]},
        "pictures": {"source": "images", "folder": "pictures"},
    }.get(name) or {"source": "hdf5", "path": name}


def forget(paths: list[Path]) -> None:
    """Remove files from the cache of the system, as far as no process has them mapped."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def files_of(folder: Path, name: str) -> list[Path]:
    """Return the files of a name."""
    return (
        [folder / name]
        if (folder / name).is_file()
        else [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
    )


class Ours:
    """An epoch of the rank's share, read as a training does; of `batches` batches at most."""

    def __init__(self, comm: Communicator, folder: Path, data: dict[str, Any], batches: int = 0) -> None:
        ending = {"units": 2, "activation": "softmax"} if data["source"] == "images" else {"units": 1}
        table = {
            "data": data,
            "model": {"layers": [{"type": "flatten"}, {"type": "dense", **ending}]},
            "loss": {"name": "mse" if ending["units"] == 1 else "sparse_categorical_crossentropy"},
            "train": {"batch_size": BATCH, "shards": comm.size},
        }
        training = agree(comm, lambda: build_training(msgspec.convert(table, Job), folder, comm))
        self._loader, self._owned, self._epoch = training.shards, training.replica.owned, 0
        self._steps = min(batches or self._loader.steps_per_epoch, self._loader.steps_per_epoch)
        self._stored = list(stored(training.splits.train.x))

    def __call__(self) -> int:
        """Read an epoch, each time the next one."""
        loader, seen = self._loader, 0
        loader.start_epoch(self._epoch, 0, self._owned)
        for step in range(self._steps):
            seen += len(loader.shards(step, *self._owned)[0])
        loader.close()
        self._epoch += 1
        return seen

    def unmap(self) -> None:
        """Let go the pages of mapped files."""
        for rows in self._stored:
            _unmap(rows)


def _unmap(rows: Rows) -> None:
    rows = getattr(rows, "mapped_rows", None) or rows
    base = getattr(rows, "array", None)
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and getattr(rows, "mapped", False):
        base.madvise(mmap.MADV_DONTNEED)


def at_the_start(folder: Path, name: str) -> Epoch:
    """Return what reads a file whole, as the start of a training does."""
    section = msgspec.convert({"data": settings_of(name)}, type=dict[str, Any])
    job = msgspec.convert(
        section | {"model": {"layers": [{"type": "dense", "units": 1}]}, "loss": {"name": "mse"}}, Job
    )
    return lambda: int(read_source(job.data, folder).x.shape[0])


def in_turn(comm: Communicator, folder: Path, name: str) -> Epoch:
    """Return what reads the rank's share one row, chunk or picture after the other, by the format's own library."""
    path, buffer = folder / name, np.empty((CHUNK_ROWS, FEATURES), np.float32)
    if name == "pictures":
        pictures = files_of(folder, name)[comm.rank :: comm.size]
        return lambda: sum(len(np.asarray(Image.open(picture))[None]) for picture in pictures)
    if name == "table.parquet":
        return lambda: int(parquet.read_table(path, use_threads=False).num_rows)
    if name == "x.npy":
        rows = len(np.load(path, mmap_mode="r"))
        first, last = (rows * place // comm.size for place in (comm.rank, comm.rank + 1))

        def read() -> int:
            with path.open("rb", buffering=0) as file:
                file.seek(-(rows - first) * ROW_BYTES, os.SEEK_END)
                for start in range(first, last, CHUNK_ROWS):
                    file.readinto(buffer[: min(CHUNK_ROWS, last - start)].data.cast("B"))
            return last - first

        return read
    dataset = zarr.open_group(path, mode="r")["x"] if name == "x.zarr" else h5py.File(path, "r")["x"]
    starts = range(comm.rank * CHUNK_ROWS, dataset.shape[0], comm.size * CHUNK_ROWS)

    def read_chunks() -> int:
        for start in starts:
            if name == "x.zarr":
                dataset[start : start + CHUNK_ROWS]
            else:
                dataset.read_direct(buffer, np.s_[start : start + CHUNK_ROWS])
        return len(starts) * CHUNK_ROWS

    return read_chunks


class RowByRow:
    """A data set as PyTorch's tutorials have it. Each process opens the file for itself."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._rows = folder / name, None
        self._pictures = files_of(folder, name) if name == "pictures" else []
        self._length = len(self._pictures or self._opened())

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        if self._pictures:
            return np.asarray(Image.open(self._pictures[index]))
        if self._rows is None:
            self._rows = self._opened()
        return np.array(self._rows[index])

    def _opened(self) -> Any:
        return np.load(self._path, mmap_mode="r") if self._path.suffix == ".npy" else h5py.File(self._path, "r")["x"]


class InWindows:
    """Batches of an HDF5 file, shuffled within windows of chunks, which the processes of a DataLoader share out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def batches(self) -> Iterator[Any]:
        """Yield this process's batches."""
        from torch.utils.data import get_worker_info

        rows, rng, worker = h5py.File(self._path, "r")["x"], np.random.default_rng(), get_worker_info()
        chunks = np.random.default_rng(0).permutation(len(rows) // CHUNK_ROWS)[worker.id :: worker.num_workers]
        for first in range(0, len(chunks), WINDOW_CHUNKS):
            parts = [rows[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS] for chunk in chunks[first:][:WINDOW_CHUNKS]]
            window = rng.permutation(np.concatenate(parts))
            yield from (window[start : start + BATCH] for start in range(0, len(window), BATCH))


def by_torch(comm: Communicator, folder: Path, name: str, batches: int = 0, *, windows: bool = False) -> Epoch | None:
    """Return what reads the rows by PyTorch's DataLoader on rank 0, with a process for each rank; None without it."""
    try:
        from torch.utils.data import DataLoader, IterableDataset, TensorDataset
    except ModuleNotFoundError:
        return None
    if comm.rank:
        return lambda: 0
    loader: Any
    if windows:

        class Windows(IterableDataset[Any], InWindows):
            def __iter__(self) -> Iterator[Any]:
                return self.batches()

        loader = DataLoader(Windows(folder / name), batch_size=None, num_workers=comm.size)
    else:
        data: Any = RowByRow(folder, name) if name != "table.parquet" else TensorDataset(_table(folder / name))
        loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=comm.size)

    def read() -> int:
        seen = 0
        for place, batch in enumerate(loader, 1):
            seen += len(batch[0] if isinstance(batch, list) else batch)
            if place == batches:
                break
        return seen

    return read


def _table(path: Path) -> Any:
    import torch

    table = parquet.read_table(path)
    return torch.from_numpy(np.stack([table.column(f"x{place}").to_numpy() for place in range(FEATURES)], axis=1))
