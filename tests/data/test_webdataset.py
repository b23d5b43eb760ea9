"""Samples in tar archives: patterns of names, parts of samples, damaged archives, and the same bits on any ranks."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest

from hpcnn.data.load import load, read_inputs, read_samples
from hpcnn.data.readers import read_source
from hpcnn.data.readers.tar_members import Members, headers_in
from hpcnn.data.readers.tar_patterns import expanded
from hpcnn.data.tables.rows import Field
from hpcnn.errors import DataError, JobError
from hpcnn.job.data import Images, WebDataset
from hpcnn.job.data_checks import check_data
from tests.data.helpers import take
from tests.require import require
from tests.small_jobs import make_job, train

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


LONG = f"{'x' * 90}/{'y' * 90}ü"


def npy_bytes(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def png_bytes(pixels, form="PNG"):
    stream = io.BytesIO()
    require("PIL.Image").fromarray(pixels).save(stream, form)
    return stream.getvalue()


def write_tar(path, files, **options):
    """Write files, contents by name, to an archive."""
    with tarfile.open(path, "w", **options) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(start=0, stop=7, **others):
    """Return the files of some samples, `others` by ending as functions of the number."""
    makers = {"npy": lambda i: npy_bytes(X[i]), "cls": lambda i: b"%d" % (i % 3)} | others
    return {f"dir/{i:03}.{ending}": make(i) for i in range(start, stop) for ending, make in makers.items() if make}


def read(folder, shards="*.tar", x="npy", **settings):
    data = WebDataset(shards=shards, x=x, **settings)
    check_data(data)
    return read_source(data, folder)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_of_several_shards_in_order(tmp_path, form):
    write_tar(tmp_path / "a-08.tar", samples(0, 3), format=form)
    write_tar(tmp_path / "a-09.tar", {f"{LONG}.NPY": npy_bytes(X[3]), f"{LONG}.cls": b"0"}, format=form)
    last = samples(4, 7)
    write_tar(tmp_path / "a-10.tar", dict(sorted(last.items(), key=lambda item: item[0][-3:])), format=form)
    for shards in ("a-{08..10}.tar", "a-*.tar", "a-{08,09,10}.tar", f"{tmp_path}/a-*"):
        source = read(tmp_path, shards)
        np.testing.assert_array_equal(take(source.x), X)
        assert take(source.y).tolist() == [i % 3 for i in range(7)]
    source = read(tmp_path, "a-{10..10}.tar", validation_shards="a-{08..09}.tar")
    np.testing.assert_array_equal(take(source.x), X[4:])
    np.testing.assert_array_equal(take(source.validation[0]), X[:4])
    np.testing.assert_array_equal(take(source.x, None, [2, 0]), X[[6, 4]])


def test_names_of_shards():
    assert [*expanded("x{a,b}-{9..11}")] == ["xa-9", "xa-10", "xa-11", "xb-9", "xb-10", "xb-11"]
    assert [*expanded("{000..002}{")] == ["000{", "001{", "002{"]


def pattern_messages(tmp_path):
    write_tar(tmp_path / "a.tar", samples())
    return {
        "a-{3..1}.tar": "counts from 3 to 1: put the smaller number first",
        "{a,a}.tar": "names 1 files twice",
        "{a,b}.tar": "no data file 'b.tar'",
        "b*.tar": r"no file matches 'b\*.tar'",
        "https://x/a.tar": "is no path: shards are read from files",
        "pipe:cat a.tar": "is no path",
    }


def test_bad_patterns(tmp_path):
    for shards, words in pattern_messages(tmp_path).items():
        with pytest.raises(DataError, match=words):
            read(tmp_path, shards)


def test_pictures_and_words(tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    masks = np.arange(120, dtype=np.uint8).reshape(4, 6, 5) % 3
    files = {}
    for i, picture in enumerate(pictures):
        files |= {f"{i}.png" if i % 2 else f"{i}.jpg": png_bytes(picture), f"{i}.txt": [b"rose", b"daisy\n"][i % 2],
                  f"{i}.seg.png": png_bytes(masks[i] * 100)}  # fmt: skip
    write_tar(tmp_path / "p.tar", files | {"README": b"", ".hidden.png": b"", "dir/": b""})
    source = read(tmp_path, "p.tar", x="jpg;png", y="txt")
    np.testing.assert_array_equal(take(source.x), pictures)
    assert take(source.y).tolist() == [1, 0, 1, 0]
    assert source.y.fields == (Field("txt", "words", ("daisy", "rose")),)
    assert source.notes == ("files in archives without an ending are left out: 3, as README",)
    splits = load(WebDataset(shards="p.tar", x="jpg;png", y="txt", classes=["rose", "daisy"]), seed=0,
                  dtype="float32", base=tmp_path)  # fmt: skip
    assert (take(splits.train.y).tolist(), splits.recipe.words()) == ([0, 1, 0, 1], ("rose", "daisy"))
    source = read(tmp_path, "p.tar", x="jpg;png", y="seg.png", mask_values=[0, 100, 200], size=[12, 10])
    np.testing.assert_array_equal(take(source.y), masks.repeat(2, 1).repeat(2, 2))
    assert source.x.shape == (4, 12, 10, 3)
    folder = Images(folder="-", size=[3, 2], channels="grey")
    assert read_inputs("p.tar", folder, tmp_path).x.shape == (4, 3, 2, 1)
    assert read_samples("p.tar", WebDataset(shards="-", x="jpg;png", y="seg.png"), tmp_path).y.shape == (4, 6, 5)
    broken = dict(files, **{"1.png": files["1.png"][:-30]})
    write_tar(tmp_path / "p.tar", broken)
    rows = read(tmp_path, "p.tar", x="jpg;png", y="txt").x
    with pytest.raises(DataError, match=r"1.png in .*p.tar can't be read"):
        take(rows)


VALUES = {
    "number": ("json:a.b", lambda i: {"a": {"b": i / 2}}, [0, 0.5, 1], None),
    "boolean": ("json:a", lambda i: {"a": i > 1}, [0, 0, 1], Field("a", "boolean")),
    "word": ("json:a", lambda i: {"a": str(2 - i)}, [2, 1, 0], Field("a", "words", ("0", "1", "2"))),
    "list": ("json:a", lambda i: {"a": [i, i / 4]}, [[0, 0], [1, 0.25], [2, 0.5]], None),
    "text": ("txt", lambda i: -i / 2, [0, -0.5, -1], None),
    "array": ("y.npy", lambda i: np.float64(i), [0, 1, 2], None),
    "columns": ("y.npy", lambda i: np.asfortranarray([[i, 1], [2, 3]]), [[[i, 1], [2, 3]] for i in range(3)], None),
}


@pytest.mark.parametrize(("y", "make", "expected", "field"), VALUES.values(), ids=VALUES)
def test_targets(tmp_path, y, make, expected, field):
    ending = y.partition(":")[0]
    content = npy_bytes if ending == "y.npy" else lambda value: json.dumps(value).encode()
    write_tar(tmp_path / "a.tar", samples(0, 3, cls=None, **{ending: lambda i: content(make(i))}))
    source = read(tmp_path, y=y)
    assert take(source.y).tolist() == expected
    if field is not None:
        assert source.y.fields == (field,)


def parts(**others):
    return lambda: samples(0, 3, **others)


BAD_PARTS = {
    "no target": (parts(cls=None), {}, r"sample 'dir/000' in .*a.tar has no file that ends in cls, but npy. Correct"),
    "no input": (parts(npy=None), {}, "has no file that ends in npy, but cls"),
    "nothing": (lambda: {"README": b""}, {}, "a.tar holds no samples"),
    "large": (parts(cls=lambda i: bytes(2**20 + 1)), {}, "dir/000.cls in .*a.tar has 1,048,577 bytes, too many"),
    "no text": (parts(cls=lambda i: b"\xff"), {}, "dir/000.cls in .*a.tar can't be read: it is no UTF-8 text"),
    "no array": (parts(npy=lambda i: b"abc"), {}, r"dir/000.npy in .*a.tar can't be read: no valid .npy header"),
    "objects": (parts(npy=lambda i: npy_bytes(np.array([{}]))), {}, "dir/000.npy in .*holds Python objects"),
    "cut": (parts(npy=lambda i: npy_bytes(X[i])[:-1]), {}, "dir/000.npy in .* but 11 bytes follow"),
    "shapes": (parts(npy=lambda i: npy_bytes(X[:i])), {}, r"arrays of different kinds: .*000.npy in .* shape \(0, 3\), "
               r".*001.npy in .* float32 of shape \(1, 3\)"),
    "no JSON": (parts(json=lambda i: b"{"), {"y": "json:a"}, "dir/000.json in .*a.tar can't be read: Input data was"),
    "no key": (parts(json=lambda i: b'{"age": 3}'), {"y": "json:agee"},
               "000.json in .* has no key 'agee', .* mean 'age'.* has: age"),
    "mixed": (parts(json=lambda i: b'{"a": %s}' % (b"1", b'"b"', b"null")[i]), {"y": "json:a"},
              "'json:a' is a number in .*000.json in .*, a word in .*001.json"),
    "lengths": (parts(json=lambda i: b'{"a": [1%s]}' % (b",2" * i)), {"y": "json:a"},
                r"001.json in .*: 'a' is \[1, 2\], no list of as many numbers as"),
    "huge": (parts(json=lambda i: b'{"a": 1%s}' % (b"0" * 400)), {"y": "json:a"},
             "000.json in .*(can't be read|too large a number)"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "settings", "words"), BAD_PARTS.values(), ids=BAD_PARTS)
def test_bad_parts(tmp_path, files, settings, words):
    write_tar(tmp_path / "a.tar", files())
    with pytest.raises(DataError, match=words):
        read(tmp_path, **settings)


def test_damaged_archives(tmp_path, monkeypatch):
    sound = write_tar(tmp_path / "a.tar", samples()).read_bytes()
    end = [info.offset_data for info in headers_in(tmp_path / "a.tar")][-1] + 512
    for content, words in (
        (b"", "no valid tar archive .empty file"),
        (b"hello" * 200, "no valid tar archive"),
        (gzip.compress(sound), "is compressed, but its files are read in place. Unpack it: gunzip"),
        (sound[: end - 512], "it ends within dir/006.cls"),
        (sound[:end], "it ends without the mark of an end: it was cut off"),
        (sound[:1024] + b"\0" * 512 + sound[1536:], "at byte 1024 is no file: it is damaged, or several were joined"),
        (sound[:1024] + b"x" * 512 + sound[1536:], "at byte 1024 is no file"),
        (sound + sound, f"at byte {end} is no file"),
        (sound[:124] + b"\xff" * 12 + sound[136:], "can't be read"),
    ):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(DataError, match=words):
            read(tmp_path)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("b.npy")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=r"b.npy in .*a.tar is a link, a device or a sparse file. .*--dereference"):
        read(tmp_path)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("../b.npy"))
    with pytest.raises(DataError, match=r"a.tar has two files ../b.npy. Keep one of them"):
        read(tmp_path)
    (tmp_path / "a.tar").write_bytes(sound)
    rows = read(tmp_path).x
    (tmp_path / "a.tar").write_bytes(sound[:3000])
    with pytest.raises(DataError, match=r"a.tar can't be read: one of its files reaches to byte 4748, where it has e"):
        take(rows)
    (tmp_path / "a.tar").write_bytes(sound)
    monkeypatch.setattr("hpcnn.data.readers.tar_members._MOST_OPEN", 0)
    rows = read(tmp_path).x
    (tmp_path / "b.tar").write_bytes(sound)
    (tmp_path / "b.tar").rename(tmp_path / "a.tar")
    with pytest.raises(DataError, match=r"a.tar changed since the run began. Put it back as it was, or start anew"):
        take(rows)


SETTINGS = {
    "mixed": ({"x": "npy;png"}, "inputs are pictures .png, jpg"),
    "text": ({"x": "txt"}, "data.x = 'txt': inputs are pictures"),
    "mask of no picture": ({"y": "png"}, "'png' is a mask, but data.x = 'npy' no picture"),
    "values of no mask": ({"mask_values": [1]}, "data.mask_values is for masks"),
    "classes of masks": ({"x": "jpg", "y": "png", "classes": ["a"]}, "masks hold numbers"),
    "one size": ({"size": [3]}, r"data.size = \[3\] is one number"),
    "two validations": ({"validation_shards": "a", "validation_fraction": 0.5}, "both give validation data"),
}


@pytest.mark.parametrize(("settings", "words"), SETTINGS.values(), ids=SETTINGS)
def test_settings(tmp_path, settings, words):
    with pytest.raises(JobError, match=words):
        read(tmp_path, **settings)


def test_more_archives_than_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr("hpcnn.data.readers.tar_members._MOST_OPEN", 2)
    for i in range(7):
        write_tar(tmp_path / f"{i}.tar", samples(i, i + 1))
    order = np.random.default_rng(0).permutation(7).repeat(2)
    np.testing.assert_array_equal(take(read(tmp_path).x, None, order), X[order])
    assert len(Members()) == 0


CHANGED = {"flip": "both", "crop_padding": 2, "rotate": 20.0, "cutout": 2}
LAYERS = [{"type": "conv2d", "filters": 2, "kernel_size": 3, "activation": "relu"}, {"type": "flatten"},
          {"type": "dense", "units": 3, "activation": "softmax"}]  # fmt: skip


@pytest.mark.parametrize("order", ["global", "windows"])
def test_the_same_bits_as_of_one_array_on_any_ranks_and_resumed(tmp_path, order):
    """Augmented, read ahead and in windows: each sample once an epoch, as of an array in memory."""
    pictures = np.random.default_rng(1).integers(0, 256, (23, 6, 5, 3), dtype=np.uint8)
    labels = np.arange(23) % 3
    np.savez(tmp_path / "d.npz", x=pictures, y=labels)
    for shard in range(3):
        parts = {f"{i}.{ending}": content for i in range(shard, 23, 3)
                 for ending, content in (("png", png_bytes(pictures[i])), ("cls", b"%d" % labels[i]))}  # fmt: skip
        write_tar(tmp_path / f"{shard}.tar", parts)
    inside = np.concatenate([np.arange(shard, 23, 3) for shard in range(3)])
    np.savez(tmp_path / "d.npz", x=pictures[inside], y=labels[inside])

    def job(source, **settings):
        common = {"validation_fraction": 0.2, "scale": "standardize", "augment": CHANGED, "order": order}
        windows = {"chunk_rows": 4, "window_chunks": 2} if order == "windows" else {}
        return make_job(data=source | common | windows | settings, model={"layers": LAYERS},
                        train={"batch_size": 6, "shards": 5})  # fmt: skip

    shards = {"source": "webdataset", "shards": str(tmp_path / "{0..2}.tar"), "keep": "file"}
    one = train(job({"source": "npz", "path": str(tmp_path / "d.npz")}))
    for ranks, settings in ((1, {"prefetch": 0}), (2, {}), (3, {"keep": "memory"}), (5, {})):
        assert train(job(shards, **settings), ranks).bits() == one.bits()
    half = train(job(shards), 3, stop_at=5)  # within the second epoch, of 3 steps
    assert not half.done
    assert train(job(shards), 2, start=half.state).bits() == one.bits()
