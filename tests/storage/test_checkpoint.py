import json
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from hpcnn.errors import CheckpointError
from hpcnn.training.checkpoint import FORMAT, Checkpoint, load_checkpoint, prefixed, save_checkpoint

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
    assert json.dumps(loaded.facts) == json.dumps(FACTS)


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
    assert (loaded.tensors, loaded.facts) == ({}, {})


def test_what_was_loaded_does_not_hang_on_the_file(path):
    loaded = load_checkpoint(path)
    path.write_bytes(b"")
    loaded.tensors["model/kernel"][...] += 1
    np.testing.assert_array_equal(loaded.tensors["model/kernel"], TENSORS["model/kernel"] + 1)


def test_parts_are_named_by_the_rest(path):
    part = load_checkpoint(path).part("model")
    assert part.keys() == {"kernel", "bias"}
    assert load_checkpoint(path).part("mod") == {}
    assert prefixed("model", part).keys() == {"model/kernel", "model/bias"}


def test_a_file_that_is_missing(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CheckpointError, match=r"there is no checkpoint .*Give a file that hpcnn wrote, or a run"):
            load_checkpoint(path)


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


def test_a_write_that_fails_leaves_the_old_checkpoint(path, monkeypatch):
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, Checkpoint({}, {}))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_others_may_read_it_if_the_umask_allows(path):
    (path.parent / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "plain").stat().st_mode)
