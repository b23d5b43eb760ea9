"""Data that are slow to read are written to a cache once, and mapped from then on; the bits stay the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import hpcnn
from hpcnn.comm.collectives import agree
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.data.digests import digests
from hpcnn.data.readers import read_source
from hpcnn.data.rows import in_memory
from hpcnn.data.source import Source
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from hpcnn.training import data_cache
from hpcnn.training.data_cache import PREFIX, read_data
from tests.small_jobs import make_job
from tests.training.test_read_once import write

READ: list[str] = []


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(section: schema.DataSection, base: Path) -> Source:
        READ.append(section.__struct_config__.tag)  # type: ignore[arg-type]
        return read_source(section, base)

    READ.clear()
    monkeypatch.setattr(data_cache, "read_source", read)


def cached(section: schema.DataSection, folder: Path) -> schema.DataSection:
    (folder / "cache").mkdir(exist_ok=True)
    return type(section)(
        **{name: getattr(section, name) for name in section.__struct_fields__} | {"cache": str(folder / "cache")}
    )


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache").iterdir())


@pytest.mark.parametrize("kind", ["compressed", "joined", "table", "text", "pictures", "mapped"])
def test_one_rank_reads_and_later_runs_read_nothing(kind: str, tmp_path: Path) -> None:
    section = cached(write(tmp_path)[kind], tmp_path)
    alone = read_source(section, tmp_path)
    for reads in (1, 0):
        READ.clear()
        found = run_threads(
            5, lambda comm: agree(comm, lambda: read_data(section, tmp_path, comm)), host_of_rank=[0, 0, 1, 1, 1]
        )
        for each in found:
            assert digests((*each.arrays, *each.others)) == digests((*alone.arrays, *alone.others))
            assert (each.columns, each.inputs, each.vocabulary, each.notes) == (
                alone.columns, alone.inputs, alone.vocabulary, alone.notes
            )  # fmt: skip
        if kind == "mapped":
            assert not files(tmp_path)
        else:
            assert len(READ) == reads
            assert len(files(tmp_path)) == 1


def test_what_is_not_cached_is_still_read_once_a_node(tmp_path: Path) -> None:
    write(tmp_path)
    section = cached(schema.Csv(path=f"file://{tmp_path / 'd.csv'}", targets=["t"]), tmp_path)
    found = run_threads(
        5, lambda comm: agree(comm, lambda: read_data(section, tmp_path, comm)), host_of_rank=[0, 0, 1, 1, 1]
    )
    assert len({digests(each.arrays)[-1] for each in found}) == 1
    assert len(READ) == 2
    assert not files(tmp_path)


def read(section: schema.DataSection, folder: Path) -> Source:
    return read_data(section, folder, SerialCommunicator())


def test_other_files_and_other_settings_are_read_anew(tmp_path: Path) -> None:
    section = cached(write(tmp_path)["table"], tmp_path)
    before = digests(read(section, tmp_path).arrays)
    facts = (tmp_path / "d.csv").stat()
    (tmp_path / "d.csv").write_text((tmp_path / "d.csv").read_text().replace("0,w0", "0,w3"))
    os.utime(tmp_path / "d.csv", ns=(facts.st_atime_ns, facts.st_mtime_ns))  # the size and the time are the same
    assert digests(read(section, tmp_path).arrays) != before
    assert len(READ) == 2
    other = schema.Csv(path="d.csv", targets=["b"], cache=section.cache)
    columns = read(other, tmp_path).columns
    assert columns is not None
    assert columns.targets == ("b",)
    scaled = schema.Csv(path="d.csv", targets=["b"], cache=section.cache, scale="standardize", fold="1/2")
    read(scaled, tmp_path)  # only what happens after reading differs
    assert len(READ) == 3


@pytest.mark.parametrize("damage", ["shorter", "empty", "another beginning"])
def test_a_damaged_file_is_written_anew(damage: str, tmp_path: Path) -> None:
    section = cached(write(tmp_path)["table"], tmp_path)
    whole = digests(read(section, tmp_path).arrays)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    path.write_bytes(
        {"shorter": content[:-1], "empty": b"", "another beginning": content[:99] + b"x" + content[100:]}[damage]
    )
    assert digests(read(section, tmp_path).arrays) == whole
    assert len(READ) == 2
    assert path.read_bytes() == content


def test_a_large_array_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = cached(write(tmp_path)["compressed"], tmp_path)
    assert in_memory(read(section, tmp_path).x)
    monkeypatch.setattr(data_cache, "MATERIALIZE_BYTES", 100)
    assert not in_memory(read(section, tmp_path).x)


def test_what_someone_else_could_write_is_not_trusted(tmp_path: Path) -> None:
    section = cached(write(tmp_path)["table"], tmp_path)
    read(section, tmp_path)
    (path,) = files(tmp_path)
    assert path.name.startswith(PREFIX)
    path.chmod(0o620)
    with pytest.raises(
        DataError, match=rf"{path.name} in the folder data\.cache belongs to another user, or others may"
    ):
        read(section, tmp_path)


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = cached(write(tmp_path)["table"], tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"data\.cache has no room: .* are needed, 10 B are left\. Remove it, give an"):
        read(section, tmp_path)
    assert not files(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    section = schema.Csv(path="d.csv", targets=["t"], cache=str(tmp_path / "none"))
    write(tmp_path)
    with pytest.raises(DataError, match=r"data\.cache = .*none': there is no folder .*none on .*Give an absolute path"):
        read(section, tmp_path)


def test_files_that_change_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = cached(write(tmp_path)["table"], tmp_path)

    def growing(section: schema.DataSection, base: Path) -> Source:
        source = read_source(section, base)
        with (tmp_path / "d.csv").open("a") as file:
            file.write("1,w1,2024-01-01,y\n")
        return source

    monkeypatch.setattr(data_cache, "read_source", growing)
    with pytest.raises(DataError, match="changed while they were read: start again when they are complete"):
        read(section, tmp_path)
    assert not files(tmp_path)


def test_trainings_with_and_without_a_cache_have_the_same_bits(tmp_path: Path) -> None:
    section = cached(write(tmp_path)["table"], tmp_path)
    job = {
        "data": {"source": "csv", "path": str(tmp_path / "d.csv"), "targets": ["t"], "validation_fraction": 0.2},
        "model": {"layers": [{"type": "dense", "units": 2, "activation": "softmax"}]},
        "loss": "sparse_categorical_crossentropy",
        "train": {"epochs": 2, "batch_size": 16},
        "run": {"display": "quiet"},
    }
    plain, *others = (
        hpcnn.fit(job, out=tmp_path / name, overrides={"data.cache": cache})
        for name, cache in (("plain", ""), ("writes", section.cache), ("finds", section.cache))
    )
    assert [other.weights_sha256 for other in others] == [plain.weights_sha256] * 2
    assert len(files(tmp_path)) == 1


def test_a_cache_and_a_stage() -> None:
    data = {"source": "csv", "path": "d.csv", "targets": ["t"], "stage": "/tmp", "cache": "/tmp"}
    with pytest.raises(JobError, match=r"data\.stage = '/tmp' and data\.cache = '/tmp' both copy the data: keep one"):
        make_job(data=data)
    with pytest.raises(JobError, match=r"data\.cache = '/tmp' copies files, but data\.source = 'synthetic' reads none"):
        make_job(data={"cache": "/tmp"})
