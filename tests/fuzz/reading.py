"""Reads a file as the program does, and compares what it gave with a second reader that hpcnn has no part in."""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import io
import json
import tarfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data.load import load, prepare_targets, read_inputs, read_samples
from hpcnn.data.readers import read_source
from hpcnn.data.rows import Rows
from hpcnn.errors import CheckpointError, HpcnnError
from hpcnn.job import data as schema
from hpcnn.job.dump import resolved_toml
from hpcnn.job.load import load_job
from hpcnn.runs.build import build_training
from hpcnn.runs.inference import open_trained
from hpcnn.runs.state import check_same_job, facts_of, job_of, unpack
from hpcnn.storage.checkpoint import load_checkpoint
from hpcnn.training.training import Training
from tests.fuzz.samples import IDX_CODES, Sample

Array = np.ndarray[Any, Any]


class WrongReadError(Exception):
    """Something was read, but not what the file says."""


def taken(rows: Rows) -> Array:
    """Return all rows as an array."""
    out = np.empty(rows.shape, rows.dtype)
    rows.take(np.arange(rows.shape[0], dtype=np.int64), out)
    return out


def second_reading(section: schema.DataSection, folder: Path) -> tuple[Array, Array] | None:
    """Return inputs and targets by another reader, or None where it can't read them, or there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of this reader: ours has said nothing
        try:
            return _second_reading(section, folder)
        except Exception:
            return None


def _second_reading(section: schema.DataSection, folder: Path) -> tuple[Array, Array] | None:
    if isinstance(section, schema.Npy):
        x, y = (np.load(folder / name) for name in (section.x_path, section.y_path))
    elif isinstance(section, schema.Npz):
        with np.load(folder / section.path) as archive:
            x, y = archive[section.x], archive[section.y]
    elif isinstance(section, schema.Idx):
        x, y = (_idx(folder / name) for name in (section.images, section.labels))
    elif isinstance(section, schema.Cifar):
        x, y = _cifar(section, folder)
    elif isinstance(section, schema.WebDataset) and section.x == "npy" and section.y == "cls":
        x, y = _shard(folder / section.shards)
    elif isinstance(section, schema.TextFiles):
        x, y = _text(section, (folder / "d.txt").read_bytes())
    elif isinstance(section, schema.Csv) and section.targets[0] in (-1, 4):
        text = (folder / section.path).read_text("utf-8-sig")
        lines = csv.reader(io.StringIO(text), delimiter=section.delimiter or ",")
        table = np.array([[_number(cell) for cell in row] for row in lines if row])
        x, y = table[:, :-1], table[:, -1]
    else:
        return None
    return x.reshape(-1, 1) if x.ndim == 1 else x, y


def _number(cell: str) -> float:
    """Return the number in a cell. Python alone takes 1_0 for one."""
    return float("no number" if "_" in cell else cell)


def _idx(path: Path) -> Array:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dtype = next(dtype for dtype, code in IDX_CODES.items() if code == content[2])
    shape = np.frombuffer(content, ">u4", content[3], 4)
    return np.frombuffer(content, dtype, offset=4 + 4 * content[3]).reshape(shape)


def _cifar(section: schema.Cifar, folder: Path) -> tuple[Array, Array]:
    skip = 1 if section.name == "cifar10" else 2
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if skip == 1 else ["train.bin"]
    names = names if section.folder == "." else [section.folder]
    content = b"".join((folder / name).read_bytes() for name in names)
    records = np.frombuffer(content, np.uint8).reshape(-1, 3072 + skip)
    planes = [records[:, skip + 1024 * i : skip + 1024 * (i + 1)].reshape(-1, 32, 32) for i in range(3)]
    return np.stack(planes, axis=-1), records[:, 1 if skip == 2 and section.labels == "fine" else 0]


def _shard(path: Path) -> tuple[Array, Array]:
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(path) as archive:
        for info in archive:
            folder, _, name = info.name.rpartition("/")
            stem, _, ending = name.partition(".")
            file = archive.extractfile(info)
            if file is not None and stem and ending:
                found.setdefault(f"{folder}/{stem}", {})[ending.lower()] = file.read()
    arrays = [np.load(io.BytesIO(one["npy"])) for one in found.values()]
    return np.stack(arrays), np.array([float(one["cls"]) for one in found.values()])


def _text(section: schema.TextFiles, content: bytes) -> tuple[Array, Array]:
    text: Any = content if section.units == "byte" else content.decode("utf-8-sig")
    known = list(section.vocabulary) or (range(256) if section.units == "byte" else sorted(set(text)))
    ids = np.array([known.index(one) for one in text], np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(ids, section.length)
    x, y = (part[:: section.stride or section.length] for part in (windows[:-1], windows[1:]))
    return x, y


def _expect_same(ours: Array, theirs: Array, what: str) -> None:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype or not np.array_equal(ours, theirs, equal_nan=True):
        raise WrongReadError(
            f"{what}: {ours.dtype} {ours.shape} is not {theirs.dtype} {theirs.shape} of the second reader"
        )


def read_data(sample: Sample, folder: Path, random: Random) -> None:
    """Read the data as training, evaluation or prediction does."""
    section = sample.section
    assert section is not None
    source = read_source(section, folder)
    ours, theirs = (taken(source.x), taken(source.y)), second_reading(section, folder)
    if theirs is not None:
        _expect_same(ours[0], theirs[0], "inputs")
        _expect_same(ours[1], theirs[1], "targets")
    dtype = random.choice(("float32", "float64"))
    use, read = random.randrange(4), str(folder / (sample.read or sample.target))
    use = 2 if use == 1 and _is_worded(section) else use  # no recipe says the numbers of the words
    if use == 0:
        taken(read_inputs(read, section, folder, dtype=dtype, features=random.choice((None, 4))).x)
    elif use == 1:
        name = f"{section.x_path},{section.y_path}" if isinstance(section, schema.Npy) else read
        name = _pictures(section, folder) if isinstance(section, schema.Images) else name
        taken(read_samples(str(folder) if isinstance(section, schema.Idx) else name, section, folder, dtype=dtype).x)
    else:
        _train(section, folder, dtype, random, source.y.shape[1:])


def _is_worded(section: schema.DataSection) -> bool:
    """Return whether targets are the names of folders, or words of a table."""
    return isinstance(section, schema.Images) and not section.masks and section.targets in ([], ["kind"])


def _pictures(section: schema.Images, folder: Path) -> str:
    """Return what evaluation takes: a table, pictures and masks, or the folder of the folders of classes."""
    pictures = str(folder / section.folder)
    if section.masks:
        return f"{pictures},{folder / section.masks}"
    return str(folder / section.table) if section.table else pictures


def _train(section: schema.DataSection, folder: Path, dtype: str, random: Random, target: tuple[int, ...]) -> None:
    held = getattr(section, "part", "") == "both" or any(
        getattr(section, name, "") for name in ("validation_path", "validation_x")
    )
    text = isinstance(section, schema.TextFiles)
    classes, values = (*target, 256 if text else 3), target or (1,)
    section = msgspec.structs.replace(
        section,
        scale="none" if text else random.choice(("none", "standardize", "minmax")),
        scale_over=random.choice(("feature", "all")),
        validation_fraction=0.0 if held else random.choice((0.0, 0.25)),
    )
    splits = load(section, seed=1, dtype=dtype, base=folder)
    loss, kind, one_hot, outputs = random.choice(
        (
            ("sparse_categorical_crossentropy", "labels", False, classes),
            ("categorical_crossentropy", "values", True, classes),
            ("mse", "values", False, values),
        )[: 2 if _is_worded(section) else 3]
    )
    splits = prepare_targets(splits, kind=kind, one_hot=one_hot, output_shape=outputs, loss_name=loss)
    for rows in (splits.train.x, splits.train.y):
        if rows.dtype.kind == "f" and not np.isfinite(taken(rows)).all():
            raise WrongReadError("values that are not finite passed all checks")


def read_job(sample: Sample, folder: Path, _random: Random) -> None:
    """Read a job, write it as a run folder does, read that again, and look for its data."""
    loaded = load_job(folder / sample.target)
    copy = folder / "copy.toml"
    copy.write_text(resolved_toml(loaded.job), encoding="utf-8")
    try:
        same = load_job(copy).job == loaded.job
    except HpcnnError as error:
        raise WrongReadError(f"what was written of the job can't be read: {error}") from None
    if not same:
        raise WrongReadError("the job that was written is not the one that was read")
    if not isinstance(loaded.job.data, schema.Digits | schema.Synthetic | schema.Sklearn):
        with contextlib.suppress(HpcnnError):  # it is not there
            read_source(loaded.job.data, folder)


@functools.cache
def _tiny_training(settings: str) -> Training:
    return build_training(job_of(json.loads(settings)), Path(), SerialCommunicator())


def read_checkpoint(sample: Sample, folder: Path, random: Random) -> None:
    """Open a checkpoint as evaluation and prediction do, or go on with it as a resumed run does."""
    path = folder / sample.target
    sound = _sound_facts(sample)
    if sound is None or random.random() < 0.5:
        weights = open_trained(path).model.weights()
        if not all(array.dtype.kind == "f" for array in weights.values()):
            raise WrongReadError("weights that are no floats")
        return
    checkpoint = load_checkpoint(path)
    training = _tiny_training(json.dumps(sound["job"]))
    try:
        job_of(facts_of(checkpoint.facts).job)
        check_same_job(checkpoint.facts["job"], training.job)
        unpack(checkpoint, training)
    except HpcnnError as error:  # of the run that the user has named
        raise CheckpointError(f"{path}: {error}") from None


def _sound_facts(sample: Sample) -> dict[str, Any] | None:
    """Return the facts of the checkpoint before it was damaged, or None if no training can go on from it."""
    if b"progress/totals" not in sample.content:
        return None
    length = int.from_bytes(sample.content[:8], "little")
    facts: dict[str, Any] = json.loads(json.loads(sample.content[8 : 8 + length])["__metadata__"]["facts"])
    return facts


READERS = {"job": read_job, "checkpoint": read_checkpoint}
"""How each kind is read that is no data."""


def read_as_program(kind: str, sample: Sample, folder: Path, random: Random) -> None:
    """Read the files of a sample, which lie in `folder`, through the functions that the program uses."""
    READERS.get(kind, read_data)(sample, folder, random)
