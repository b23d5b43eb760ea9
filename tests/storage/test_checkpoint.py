"""The file of a checkpoint: what goes in comes back, by another reader too; what is damaged or hostile is refused."""

import errno
import hashlib
import json
import os
import shutil
import stat
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from hpcnn.core.dealing import Chunk
from hpcnn.errors import CheckpointError
from hpcnn.storage import disk, hashing, tensor_file
from hpcnn.storage.checkpoint import (
    Checkpoint,
    PendingCheckpoint,
    load_checkpoint,
    prefixed,
    read_facts,
    save_checkpoint,
)
from hpcnn.storage.draft import Draft, Share
from hpcnn.storage.hashing import CHUNK
from hpcnn.storage.lazy import LazyArray
from hpcnn.storage.tensor_file import FORMAT
from tests.timing import wait_until

FACTS = {"job": {"name": 'ünïcode \n"quoted"', "list": [1, 2.5, None, True]}, "nan": float("nan"), "large": 2**60}
TENSORS = {
    "model/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "model/bias": np.array([np.nan, -0.0, np.inf]),
    "scalar": np.array(3.5),
    "empty": np.zeros((0, 4), np.float32),
    "optimizer/int": np.array([-(2**62), 5]),
    "mask": np.array([True, False]),
    "half": np.array([1.5, 2.5], np.float16),
    "bytes": np.arange(256, dtype=np.uint8),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "strided": np.arange(10.0)[::3],
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a checkpoint.safetensors"
    save_checkpoint(path, Checkpoint(TENSORS, FACTS))
    return path


def test_bits_types_shapes_and_facts_come_back(path):
    loaded = load_checkpoint(path)
    assert loaded.tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        back = loaded.tensors[name]
        assert (back.dtype, back.shape) == (array.dtype, array.shape), name
        assert back.tobytes() == array.tobytes(), name
    facts = dict(loaded.facts)
    assert len(facts.pop("weights_sha256")) == 64
    assert json.dumps(facts) == json.dumps(FACTS)
    assert json.dumps(read_facts(path)) == json.dumps(loaded.facts)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint64", "bool"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_every_type_and_shape(tmp_path, dtype, shape):
    array = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    save_checkpoint(tmp_path / "one", Checkpoint({"x": array}, {}))
    back = load_checkpoint(tmp_path / "one").tensors["x"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_nothing_at_all_can_be_kept(tmp_path):
    save_checkpoint(tmp_path / "none", Checkpoint({}, {}))
    loaded = load_checkpoint(tmp_path / "none")
    assert (dict(loaded.tensors), loaded.facts) == ({}, {"weights_sha256": hashlib.sha256().hexdigest()})


LARGE = {
    "model/kernel": np.arange(CHUNK // 4 * 2 + 3, dtype=np.float32).reshape(-1, 1),
    "model/bias": np.arange(5, dtype=np.float32),
    "optimizer/m": np.arange(CHUNK // 8 * 2, dtype=np.float64),
    "optimizer/v": np.arange(CHUNK // 4 + 1, dtype=np.float32),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of several chunks; to be copied before it is changed."""
    path = tmp_path_factory.mktemp("large") / "large.safetensors"
    save_checkpoint(path, Checkpoint(LARGE, FACTS))
    return path


def test_large_arrays_come_back_too(large):
    loaded = load_checkpoint(large)
    for name, array in LARGE.items():
        np.testing.assert_array_equal(loaded.tensors[name], array)
        assert loaded.tensors[name].flags.writeable is False


def test_verifying_takes_little_memory_and_arrays_are_read_as_they_are_needed(tmp_path):
    chunks = 25
    save_checkpoint(tmp_path / "file", Checkpoint({"x": np.zeros(chunks * CHUNK, np.uint8)}, {}))
    tracemalloc.start()
    try:
        loaded = load_checkpoint(tmp_path / "file")
        assert loaded.tensors["x"][5:9].tolist() == [0, 0, 0, 0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * CHUNK  # what waits to be hashed


def test_the_hashes_are_what_the_documentation_says(large):
    """By another reader of the format. Weights: as results name them. Content: header, weights, the other chunks."""
    weights, content = hashlib.sha256(), hashlib.sha256()
    with safe_open(large, framework="numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.offset_keys()}
    assert arrays.keys() == LARGE.keys()
    for name in ("model/kernel", "model/bias"):
        weights.update(f"{name[6:]} float32 {LARGE[name].shape}\n".encode() + LARGE[name].tobytes())
    assert metadata["weights_sha256"] == weights.hexdigest()
    raw = large.read_bytes()
    header = raw[: 8 + int.from_bytes(raw[:8], "little")]
    for name in ("weights_sha256", "content_sha256"):
        header = header.replace(metadata[name].encode(), b"0" * 64)
    content.update(header + weights.hexdigest().encode())
    for name, array in arrays.items():
        if not name.startswith("model/"):
            data = array.tobytes()
            for start in range(0, len(data), CHUNK):
                content.update(hashlib.sha256(data[start : start + CHUNK]).digest())
    assert metadata["content_sha256"] == content.hexdigest()
    assert load_checkpoint(large).content_sha256 == content.hexdigest()


def test_short_chunks_of_weights_wait_for_long_ones_before_them():
    """Short chunks are hashed at once, long ones on a thread; one hash takes the weights in their order."""
    ready, taken = threading.Event(), []

    class Slow:
        def update(self, chunk):
            assert ready.wait(60)
            taken.append(len(chunk))

    long, short = bytes(hashing._SHORT_BYTES + 1), b"short"
    with hashing.ContentHash() as content:
        content._weights = Slow()
        content.add_weights(long)
        content.add_weights(short)
        for _ in range(2 * hashing._AHEAD):  # more than may wait, if asked to wait
            content.add_weights(short, wait=False)
        content.add(0, long)
        assert not taken
        ready.set()
        content.wait()
        content.add_weights(short)
        assert taken == [len(long), *[len(short)] * (2 * hashing._AHEAD + 2)]


def test_each_array_lies_at_a_multiple_of_the_size_of_its_entries(path):
    """Some readers of the format map arrays as they lie."""
    header = tensor_file.read_header(path)
    assert header.arrays.keys() == TENSORS.keys()
    assert all(stored.start % stored.dtype.itemsize == 0 for stored in header.arrays.values())


@pytest.mark.parametrize("place", [-1, -CHUNK, CHUNK, 3 * CHUNK])
def test_a_flipped_bit_in_any_chunk_is_found(large, tmp_path, place):
    copy = shutil.copy(large, tmp_path / "copy")
    with copy.open("r+b") as file:
        file.seek(place % large.stat().st_size)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    with pytest.raises(CheckpointError, match="is damaged: its content does not match its SHA-256"):
        load_checkpoint(copy)


def test_what_was_loaded_is_told_when_its_file_is_replaced(path):
    loaded = load_checkpoint(path)
    np.testing.assert_array_equal(loaded.tensors["model/kernel"], TENSORS["model/kernel"])
    save_checkpoint(path, Checkpoint(TENSORS, FACTS))
    with pytest.raises(CheckpointError, match=r"was replaced while it was being read\. Try again"):
        loaded.part("model")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"'model/bias' can't be read \(.*No such file"):
        loaded.part("model")


def test_parts_are_named_by_the_rest(path):
    part = load_checkpoint(path).part("model")
    assert part.keys() == {"kernel", "bias"}
    assert load_checkpoint(path).part("mod") == {}
    assert prefixed("model", part).keys() == {"model/kernel", "model/bias"}


def test_a_file_that_is_missing(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CheckpointError, match=r"there is no checkpoint .*Give a file that hpcnn wrote, or a run"):
            load_checkpoint(path)


def test_a_path_that_may_not_be_looked_at(tmp_path):
    with pytest.raises(CheckpointError, match=r"can't be read \(.*File name too long"):
        load_checkpoint(tmp_path / ("x" * 5000))


def test_a_file_that_is_cut_off_anywhere(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 100):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"is not a whole safetensors file .*Use another checkpoint"):
            load_checkpoint(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize("flip", [1, 0x80, 0x10])
def test_a_flipped_bit_anywhere_is_found(path, flip):
    whole = bytearray(path.read_bytes())
    missed = []
    for place in range(len(whole)):
        whole[place] ^= flip
        path.write_bytes(whole)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            pass
        else:
            missed.append((place, loaded))
        whole[place] ^= flip
    assert not missed


def test_flipped_data_is_told_by_its_sha256(path):
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="is damaged: its content does not match its SHA-256"):
        load_checkpoint(path)


def test_another_type_in_the_header_is_found(path):
    """The bytes of the data are the same."""
    whole = path.read_bytes()
    assert whole.count(b'"F32"') == 2
    path.write_bytes(whole.replace(b'"F32"', b'"I32"'))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"format": "hpcnn-0"}])
def test_a_safetensors_file_of_someone_else(tmp_path, metadata):
    save_file({"x": np.ones(3)}, tmp_path / "other", metadata=metadata)
    given = (metadata or {}).get("format")
    with pytest.raises(CheckpointError, match=f"not a checkpoint of this hpcnn: format {given!r}, expected '{FORMAT}'"):
        load_checkpoint(tmp_path / "other")


def test_a_checkpoint_without_its_sha256(tmp_path):
    save_file({"x": np.ones(3)}, tmp_path / "other", metadata={"format": FORMAT, "facts": "{}"})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tmp_path / "other")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04pickle" * 100, bytes(1000), b"\xff" * 1000])
def test_a_file_that_is_no_safetensors_file(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_checkpoint(tmp_path / "other")


def with_facts(path, facts, metadata=()):
    """Write a file whose hashes hold, with facts of any kind."""
    arrays = {"x": LazyArray.of(np.ones(3))}
    write(path, arrays, tensor_file.header_without_hashes(arrays, facts))
    return path


def write(path, arrays, header):
    draft = Draft.create(path, header, sum(lazy.size_bytes for lazy in arrays.values()))
    with draft.opened() as descriptor:
        part = draft.write(descriptor, arrays, Share(), lambda: None)
    draft.complete(header, part)


@pytest.mark.parametrize(
    "facts", ["", "{", "[]", "3", "null", '"text"', "[" * 100_000, '{"a":' * 300 + "1" + "}" * 300, "1" * 5000]
)
def test_facts_that_are_none(tmp_path, facts):
    with pytest.raises(CheckpointError, match="is damaged: its facts can't be read"):
        load_checkpoint(with_facts(tmp_path / "file", facts))


def raw_file(path, header, data=b""):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


METADATA = {"format": FORMAT, "facts": "{}"}


@pytest.mark.parametrize(("header", "text"), [
    ({"__metadata__": METADATA, "x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, "of types that no"),
    ({"__metadata__": METADATA, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "is damaged"),
    ({"__metadata__": METADATA, "x": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}, "is not a whole"),
    ({"__metadata__": METADATA, "x": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}}, "is damaged"),
    ({"__metadata__": METADATA, "x": {"dtype": "F32", "shape": "a", "data_offsets": [0, 4]}}, "is not a whole"),
    ({"__metadata__": {"format": 1}}, "is not a whole"),
    (b" " * (9 * 2**20), "a header of 9,437,184 bytes"),
    (b"[" * 100_000, "is not a whole"),
    (b"\xff\xfe", "is not a whole"),
], ids=range(9))  # fmt: skip
def test_a_header_that_hpcnn_does_not_write(tmp_path, header, text):
    with pytest.raises(CheckpointError, match=text):
        load_checkpoint(raw_file(tmp_path / "file", header, b"\0" * 4 if "[0, 4]" in str(header) else b""))


def test_a_shape_that_no_array_can_have(tmp_path):
    path = tmp_path / "file"
    arrays = {"x": LazyArray(np.dtype(np.float32), (0, 2**63), np.zeros(0, np.float32))}
    write(path, arrays, tensor_file.header_without_hashes(arrays, "{}"))
    loaded = load_checkpoint(path)
    with pytest.raises(CheckpointError, match="'x' can't be read"):
        dict(loaded.tensors)


# ---------------------------------------------------------------------------------------------------- as a stream


SPREAD = sorted(name for name in TENSORS if not name.startswith("model/"))


def draft_of(tensors, fetched):
    """Return a draft of spread arrays, but for the weights, that notes the names of what was fetched."""

    def lazy(name, array):
        def deal(dealing):
            fetched.append(name)
            yield Chunk(0, array.reshape(-1), 0)

        return LazyArray.of(array) if name.startswith("model/") else LazyArray(array.dtype, array.shape, deal=deal)

    return PendingCheckpoint({name: lazy(name, np.asarray(array)) for name, array in tensors.items()}, FACTS)


def test_a_draft_is_fetched_once_in_one_order_on_all_ranks(tmp_path):
    orders = [[], [], []]
    draft = draft_of(TENSORS, orders[0])
    assert draft.size_bytes == sum(array.nbytes for array in TENSORS.values())
    save_checkpoint(tmp_path / "a", draft)
    draft_of(TENSORS, orders[1]).participate()
    kept = draft_of(TENSORS, orders[2]).collect()
    assert sorted(orders[0]) == SPREAD
    assert orders[0] == orders[1] == orders[2]
    assert all(kept.tensors[name].tobytes() == array.tobytes() for name, array in TENSORS.items())
    kept.tensors["scalar"][...] = 7
    assert TENSORS["scalar"] == 3.5
    save_checkpoint(tmp_path / "b", Checkpoint(TENSORS, FACTS))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_blocks_are_let_go_while_more_come(tmp_path, monkeypatch):
    """A vector that was gathered from all ranks is a second copy of what they have: some blocks of it are enough."""
    monkeypatch.setattr(hashing, "CHUNK", 1 << 16)
    fetched, most = [], hashing._AHEAD + 3  # in the hands of the hash, of the writer, and the next one
    sizes = [1 << 14] * (2 * most) + [5]

    def deal(dealing):
        assert dealing.chunk == 1 << 14
        for number, size in enumerate(sizes):
            wait_until(lambda: sum(ref() is not None for ref in fetched) < most)  # a thread may have one in hand
            array = np.full(size, len(fetched), np.float32)
            fetched.append(weakref.ref(array))
            yield Chunk(number, array, 0)
            del array

    lazy = LazyArray(np.dtype(np.float32), (sum(sizes),), deal=deal)
    save_checkpoint(tmp_path / "file", PendingCheckpoint({"optimizer/m": lazy, "optimizer/v": lazy}, {}))
    assert len(fetched) == 2 * len(sizes)
    loaded = load_checkpoint(tmp_path / "file").tensors
    together = np.concatenate([loaded["optimizer/m"], loaded["optimizer/v"]])
    assert np.array_equal(together, np.repeat(np.arange(2 * len(sizes)), sizes * 2))


FAILURES = {
    "no folder": lambda path, monkeypatch: path.parent.joinpath("gone"),
    "the second write": lambda path, monkeypatch: monkeypatch.setattr(os, "pwrite", fails_at(2, os.pwrite)),
    "on the way to the disk": lambda path, monkeypatch: monkeypatch.setattr(os, "fdatasync", fails_at(1)),
    "the last sync": lambda path, monkeypatch: monkeypatch.setattr(os, "fsync", fails_at(1)),
    "the new name": lambda path, monkeypatch: monkeypatch.setattr(os, "replace", fails_at(1)),
}


def fails_at(call, otherwise=lambda *arguments: None):
    calls = []

    def fail(*arguments):
        calls.append(1)
        if len(calls) >= call:
            raise OSError(errno.ENOSPC, "No space left on device")
        return otherwise(*arguments)

    return fail


@pytest.mark.parametrize("failure", FAILURES)
def test_a_write_that_fails_leaves_the_old_file_and_fetches_all_or_nothing(path, monkeypatch, failure):
    """Else the ranks that give the arrays would wait for ever."""
    before, fetched, beats = path.read_bytes(), [], []
    monkeypatch.setattr(disk, "_SYNC_BYTES", 1)
    where = FAILURES[failure](path, monkeypatch)
    target = where / path.name if where else path
    with pytest.raises(OSError, match=r"No space left|No such file"):
        save_checkpoint(target, draft_of(TENSORS, fetched), beat=lambda: beats.append(1))
    assert sorted(fetched) == ([] if where else SPREAD)
    assert where or beats
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_more_names_of_one_file(path):
    best, last = path.with_name("best"), path.with_name("last")
    best.write_text("old")
    save_checkpoint(path, Checkpoint({"x": np.ones(3)}, {}), also=[best, last])
    assert path.samefile(best)
    assert path.samefile(last)
    assert len(list(path.parent.iterdir())) == 3
    save_checkpoint(path, Checkpoint({"x": np.zeros(3)}, {}), also=[last])
    assert load_checkpoint(best).tensors["x"].tolist() == [1, 1, 1]
    assert load_checkpoint(last).tensors["x"].tolist() == [0, 0, 0]


def test_it_beats_at_least_once_a_chunk(tmp_path):
    beats = []
    save_checkpoint(tmp_path / "file", Checkpoint(LARGE, {}), beat=lambda: beats.append("save"))
    load_checkpoint(tmp_path / "file", beat=lambda: beats.append("load"))
    assert beats.count("save") >= 7
    assert beats.count("load") >= 7


def test_others_may_read_it_if_the_umask_allows(path):
    (path.parent / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "plain").stat().st_mode)
