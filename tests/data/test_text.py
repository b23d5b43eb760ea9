"""Windows of text."""

import numpy as np
import pytest

from hpcnn.data.content import changes, content_of
from hpcnn.data.load import load, prepare_targets, read_inputs, read_samples
from hpcnn.data.readers import read_source
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from tests.data.helpers import on_ranks, take

TEXT = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 🙂\r\n" * 30
BYTES = TEXT.encode()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "t.txt").write_bytes(BYTES)
    return tmp_path


def text_of(rows, vocabulary):
    return ["".join(vocabulary[i] for i in row) for row in take(rows)]


def windows(text, length, stride):
    return [text[start : start + length] for start in range(0, len(text) - length + 1, stride)]


@pytest.mark.parametrize(("length", "stride"), [(8, 3), (8, 0), (1, 1), (200, 7), (len(TEXT) - 1, 5)])
def test_windows(length, stride, folder):
    source = read_source(schema.TextFiles(path="t.txt", length=length, stride=stride), folder)
    assert source.vocabulary == "".join(sorted(set(TEXT)))
    assert source.x.dtype == source.y.dtype == np.uint8
    assert text_of(source.x, source.vocabulary) == windows(TEXT[:-1], length, stride or length)
    assert text_of(source.y, source.vocabulary) == windows(TEXT[1:], length, stride or length)


def test_bytes(folder):
    source = read_source(schema.TextFiles(path="t.txt", length=10, stride=4, units="byte"), folder)
    assert source.vocabulary == ""
    assert [bytes(row) for row in take(source.x)] == windows(BYTES[:-1], 10, 4)
    assert [bytes(row) for row in take(source.y)] == windows(BYTES[1:], 10, 4)


@pytest.mark.parametrize("count", [256, 257, 70_000])
def test_any_number_of_characters(count, tmp_path):
    text = "".join(map(chr, [*range(count // 2), *range(0xE000, 0xE000 + count - count // 2)]))
    (tmp_path / "t.txt").write_text(text, newline="")
    source = read_source(schema.TextFiles(path="t.txt", length=4, stride=4), tmp_path)
    assert len(source.vocabulary) == len(set(text))
    assert source.x.dtype == np.min_scalar_type(len(set(text)))
    assert "".join(text_of(source.x, source.vocabulary)) == text[: 4 * len(take(source.x))]


@pytest.mark.parametrize("dtype", [None, np.float32])
def test_any_chunks(dtype, folder):
    source = read_source(schema.TextFiles(path="t.txt", length=1000, stride=1), folder)
    indices = np.random.default_rng(0).integers(0, source.x.shape[0], 99)
    for rows in (source.x, source.y):
        whole = take(rows, dtype)
        assert take(rows, dtype, indices).tobytes() == whole[indices].tobytes()
        assert b"".join(take(rows, dtype, [i]).tobytes() for i in indices) == whole[indices].tobytes()


def test_the_end_is_held_out(folder):
    data = schema.TextFiles(path="t.txt", length=8, stride=3, validation_fraction=0.25)
    for seed in (0, 1):
        splits = load(data, seed=seed, dtype=np.float32, base=folder)
        vocabulary, place = sorted(set(TEXT)), len(TEXT) - round(len(TEXT) / 4)
        for part, text in ((splits.train, TEXT[:place]), (splits.validation, TEXT[place:])):
            assert text_of(part.x, vocabulary) == windows(text[:-1], 8, 3)
            assert text_of(part.y, vocabulary) == windows(text[1:], 8, 3)


def test_several_files_are_one_text(folder):
    for name in ("b.text", "a.text", "c.txt"):
        (folder / name).write_text(name * 3, encoding="utf-8-sig")
    (folder / "d.text").mkdir()
    for pattern in ("*.text", str(folder / "[ab].*"), "**/?.text"):
        source = read_source(schema.TextFiles(path=pattern, length=1), folder)
        assert "".join(text_of(source.x, source.vocabulary)) == ("a.text" * 3 + "b.text" * 3)[:-1]
    (folder / "[x].txt").write_text("a file of that very name")
    assert (
        "".join(sorted(set("a file of that very name")))
        == read_source(schema.TextFiles(path="[x].txt", length=1), folder).vocabulary
    )


def test_labels_of_positions(folder):
    """Targets are labels of each position, on any number of ranks."""
    data = schema.TextFiles(path="t.txt", length=8, stride=3)
    classes = len(set(TEXT))
    options = {"kind": "labels", "one_hot": False, "output_shape": (8, classes), "loss_name": "sparse"}
    plain = take(read_source(data, folder).y)

    def work(reduction):
        splits = load(data, seed=0, dtype=np.float32, base=folder, reduction=reduction)
        hot = {**options, "kind": "values", "one_hot": True}
        return [take(prepare_targets(splits, **one, reduction=reduction).train.y) for one in (options, hot)]

    for labels, rows in on_ranks(3, work):
        np.testing.assert_array_equal(labels, plain)
        np.testing.assert_array_equal(rows, np.eye(classes)[plain])
    with pytest.raises(
        DataError, match=f"labels run from 0 to {classes - 1}, but a model with 5 outputs allows 0 to 4"
    ):
        prepare_targets(load(data, seed=0, dtype=np.float32, base=folder), **{**options, "output_shape": (8, 5)})


def test_other_texts_are_numbered_by_the_vocabulary(folder):
    known = "".join(sorted(set(TEXT)))
    data = schema.TextFiles(path="no", length=4, vocabulary=known, validation_fraction=0.5)
    (folder / "p").write_text("Deich")
    assert text_of(read_inputs("p", data, folder).x, known) == ["Deic"]
    samples = read_samples("p", data, folder)
    assert (text_of(samples.x, known), text_of(samples.y, known)) == (["Deic"], ["eich"])
    (folder / "p").write_text("Deich-Graf")
    for read in (read_inputs, read_samples):
        with pytest.raises(DataError, match=rf"p: character 5, counted from 0, is '-' \(U\+002D\), .* {len(known)} of"):
            read("p", data, folder)


def test_a_vocabulary_of_the_job(folder):
    known = "".join(sorted(set(TEXT), reverse=True)) + "§"
    source = read_source(schema.TextFiles(path="t.txt", length=5, vocabulary=known), folder)
    assert source.vocabulary == known
    assert text_of(source.x, known) == windows(TEXT[:-1], 5, 5)


def test_the_run_keeps_the_vocabulary_and_a_hash(folder):
    data = schema.TextFiles(path="t.txt", length=9)
    first = content_of(read_source(data, folder))
    assert first.vocabulary == "".join(sorted(set(TEXT)))
    assert changes(first, content_of(read_source(data, folder)), data) == []
    (folder / "t.txt").write_text(TEXT.replace("B", "D"), newline="")
    assert changes(first, content_of(read_source(data, folder)), data) == ["characters only then: 'B'"]
    (folder / "t.txt").write_text(TEXT[::-1], newline="")
    assert changes(first, content_of(read_source(data, folder)), data) == [
        "training data (t.txt): the values of the inputs differ"
    ]


def test_a_large_text_is_hashed_whole(folder, monkeypatch):

    monkeypatch.setattr("hpcnn.data.digests.SAMPLE_BYTES", 600)
    data = schema.TextFiles(path="t.txt", length=9, stride=1, validation_fraction=0.2)
    first = content_of(read_source(data, folder))
    place = len(TEXT) // 2 + 37
    swapped = TEXT[:place] + TEXT[place + 1] + TEXT[place] + TEXT[place + 2 :]
    (folder / "t.txt").write_text(swapped, newline="")
    assert len(changes(first, content_of(read_source(data, folder)), data)) == 1


BAD = {
    "short": (
        {"length": 3000},
        r"t\.txt has 2040 characters, but a window of data\.length = 3000 and the next needs 3001",
    ),
    "short part": (
        {"length": 500, "validation_fraction": 0.1},
        "the part for validation of .* has 204 characters, but a window of data.length = 500",
    ),
    "bytes": ({"length": 3000, "units": "byte"}, r"t\.txt has 2250 bytes, but a window"),
    "no file": ({"path": "u.txt"}, "no data file 'u.txt': looked for"),
    "no match": ({"path": "u*.txt"}, r"no file matches 'u\*\.txt': looked for "),
    "encoding": ({"path": "latin"}, r'latin is not UTF-8 text: byte 2 is f6, .*iconv -t UTF-8.*data.units = "byte"'),
    "empty": ({"path": "empty"}, r"empty has 0 characters, but a window of data.length = 64 and the next needs 65"),
    "a fraction of nothing": ({"length": 9, "validation_fraction": 1e-9}, "leaves 0 for validation"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_texts(case, folder):
    settings, text = BAD[case]
    (folder / "latin").write_bytes("größer".encode("latin-1"))
    (folder / "empty").touch()
    with pytest.raises(DataError, match=text):
        read_source(schema.TextFiles(**{"path": "t.txt", **settings}), folder)


def test_scaling_is_refused(folder):
    with pytest.raises(JobError, match=r'data\.scale = "minmax" would change the numbers of characters.*"none"'):
        read_source(schema.TextFiles(path="t.txt", scale="minmax"), folder)
