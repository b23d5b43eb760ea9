"""Pictures in folders, in tables and with masks."""

import re
import struct
import zlib

import msgspec
import numpy as np
import pytest
from PIL import Image

import hpcnn
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data.content import changes, content_of
from hpcnn.data.load import load, read_inputs, read_samples
from hpcnn.data.readers import read_source
from hpcnn.data.readers.image_files import Form
from hpcnn.data.readers.image_folders import pictures_in
from hpcnn.data.readers.image_sizes import fit, resampled
from hpcnn.data.tables.rows import Field
from hpcnn.errors import DataError, JobError
from hpcnn.job.data import Data, Images
from hpcnn.job.data_checks import check_data
from hpcnn.job.load import load_job
from hpcnn.runs.answers import words_of_matrices
from hpcnn.runs.build import build_training
from hpcnn.runs.inference import evaluate_trained, input_loader, open_trained
from hpcnn.runs.predictions import write_predictions
from hpcnn.runs.session import train
from tests.data.helpers import take
from tests.require import require

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 5), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def save(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def read(folder, **settings):
    data = Images(folder=str(folder), **settings)
    check_data(data)
    return read_source(data, folder)


def one(path, **settings):
    """Return the pixels of one picture, in a folder of a class."""
    rows = read(path.parent.parent, **settings).x
    return take(rows)[0]


@pytest.fixture
def animals(tmp_path):
    """Three classes with two pictures each."""
    for number, name in enumerate(("cat", "Ant", "dög")):
        for place in range(2):
            save(tmp_path / "animals" / name / f"{place}.png", np.full((4, 3, 3), 10 * number + place, np.uint8))
    return tmp_path / "animals"


def test_a_folder_for_each_class(animals):
    (animals / "cat" / "Thumbs.db").write_bytes(b"")
    (animals / "cat" / ".hidden.png").write_bytes(b"")
    (animals / ".git").mkdir()
    source = read(animals)
    assert source.y.fields == (Field("class", "words", ("Ant", "cat", "dög")),)
    assert take(source.y).tolist() == [0, 0, 1, 1, 2, 2]
    assert source.x.shape == (6, 4, 3, 3)
    assert take(source.x)[:, 0, 0, 0].tolist() == [10, 11, 0, 1, 20, 21]
    assert source.notes == ("1 file is left out, as no picture by its ending: Thumbs.db",)
    ordered = {"source": "images", "folder": str(animals), "classes": ["dög", "cat", "Ant", "eel"]}
    splits = load(msgspec.convert(ordered, Data), seed=0, dtype="float32", base=animals)
    assert take(splits.train.y).tolist() == [2, 2, 1, 1, 0, 0]
    assert splits.recipe.words() == ("dög", "cat", "Ant", "eel")
    with pytest.raises(DataError, match=r"cat is none of data.classes, Ant, dög, cats. Did you mean 'cats'"):
        read(animals, classes=["Ant", "dög", "cats"])


def test_folders_for_training_and_validation(animals, tmp_path):
    (tmp_path / "all").mkdir()
    animals.rename(tmp_path / "all" / "train")
    save(tmp_path / "all" / "val" / "cat" / "new.png", np.full((4, 3, 3), 99, np.uint8))
    source = read(tmp_path / "all")
    assert source.validation is not None
    assert take(source.validation[0])[0, 0, 0, 0] == 99
    splits = load(Images(folder=str(tmp_path / "all")), seed=0, dtype="float32", base=tmp_path)
    assert take(splits.validation.y).tolist() == [1]  # the number of the training folders
    with pytest.raises(JobError, match=r"validation_fraction = 0.5, but .*val holds validation pictures"):
        read(tmp_path / "all", validation_fraction=0.5)
    save(tmp_path / "all" / "val" / "cow" / "new.png", np.zeros((4, 3, 3), np.uint8))
    with pytest.raises(DataError, match=r"validation data: 'cow' in row 1, .* none of the classes of 'class' .*'Ant'"):
        load(Images(folder=str(tmp_path / "all")), seed=0, dtype="float32", base=tmp_path)


FORMS = {
    "grey": ("x.png", GREY, {}, np.stack([GREY] * 3, -1)),
    "grey kept": ("x.png", GREY, {"channels": "grey"}, GREY[:, :, np.newaxis]),
    "colour": ("x.bmp", COLOUR, {}, COLOUR),
    "tiff": ("x.TIFF", COLOUR, {}, COLOUR),
    "webp": ("x.webp", COLOUR, {}, COLOUR),
    "gif": ("x.gif", GREY, {"channels": "grey"}, GREY[:, :, np.newaxis]),
    "alpha": ("x.png", np.dstack([COLOUR, GREY]), {}, COLOUR),
    "16 bits": ("x.png", GREY.astype(np.uint16) * 257, {"channels": "grey"}, GREY[:, :, np.newaxis].astype("u2") * 257),
    "16 bits, tiff": ("x.tif", GREY.astype(np.uint16) * 3, {"channels": "grey"}, GREY[:, :, np.newaxis] * np.uint16(3)),
    "floats": ("x.tif", GREY / np.float32(7), {"channels": "grey"}, GREY[:, :, np.newaxis] / np.float32(7)),
    "bits": ("x.png", GREY > 99, {"channels": "grey"}, (GREY > 99)[:, :, np.newaxis] * np.uint8(255)),
}


@pytest.mark.parametrize(("name", "pixels", "settings", "expected"), FORMS.values(), ids=FORMS.keys())
def test_forms_of_pictures(tmp_path, name, pixels, settings, expected):
    options = {"lossless": True} if name == "x.webp" else {}
    found = one(save(tmp_path / "all" / "a" / name, pixels, **options), **settings)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_palettes_and_jpeg_and_first_frames(tmp_path):
    palette = Image.fromarray(GREY).convert("P")
    palette.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    found = one(save(tmp_path / "p" / "a" / "x.png", palette))
    assert np.array_equal(found, np.stack([GREY, 255 - GREY, GREY // 2], -1))
    smooth = np.add.outer(np.arange(0, 64, 2), np.arange(0, 64, 2)).astype(np.uint8)
    found = one(save(tmp_path / "j" / "a" / "x.JPG", smooth, quality=95), channels="grey")
    assert np.abs(found[:, :, 0].astype(int) - smooth).max() <= 4
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (7, 200)]
    found = one(save(tmp_path / "g" / "a" / "x.gif", frames[0], save_all=True, append_images=frames[1:]))
    assert (found == 7).all()


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif", "x.webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation(tmp_path, name, orientation):
    half = np.zeros((16, 32, 3), np.uint8)
    half[:, :16] = 255  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = one(save(tmp_path / "all" / "a" / name, half, exif=exif))
    quarter = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    assert np.abs(found.astype(int) - np.rot90(half, quarter)).max() < 60


def test_alpha_is_said(tmp_path):
    save(tmp_path / "a" / "x.png", np.dstack([COLOUR, GREY]))
    save(tmp_path / "a" / "y.png", COLOUR)
    assert read(tmp_path).notes == ("alpha channels are left out: 1 of 2 pictures has one",)


def test_sizes(tmp_path):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    path = save(tmp_path / "a" / "x.png", wide)
    save(tmp_path / "a" / "y.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"x.png has 4 x 12 pixels .height x width., .*y.png 8 x 8. Set data.size"):
        read(tmp_path)
    assert (one(path, size=[4, 4], resize="crop") == 200).all()
    padded = one(path, size=[6, 12], resize="pad")
    assert np.array_equal(padded[1:5], wide)
    assert not padded[0].any()
    assert not padded[5].any()
    expected = np.asarray(Image.fromarray(wide).resize((6, 4), Image.Resampling.BILINEAR))
    assert np.array_equal(one(path, size=[4, 6]), expected)


@pytest.mark.parametrize("way", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(5, 7), (16, 3), (40, 40), (1, 1)])
def test_deep_pictures_are_resized_as_pillow_would(tmp_path, way, size):
    pixels = np.random.default_rng(1).integers(0, 256, (17, 12), dtype=np.uint8)
    path = save(tmp_path / "x.png", pixels)
    deep = save(tmp_path / "deep.tif", pixels.astype(np.float32))
    shallow = Form(size, way, 1, np.dtype(np.uint8)).decode(path)
    found = Form(size, way, 1, np.dtype(np.float32)).decode(deep)
    assert found.shape == (*size, 1)
    assert np.abs(found - shallow).max() <= 1.01  # Pillow rounds twice
    how = fit((17, 12), size, way)
    assert np.allclose(resampled(np.full((17, 12), 3.0), how), 3.0, rtol=1e-14, atol=0)


def test_a_table(tmp_path):
    for number in range(3):
        save(tmp_path / "all" / "sub" / f"{number}.png", np.full((2, 2, 3), number, np.uint8))
    table = tmp_path / "labels.csv"
    table.write_text("file,kind,weight\nsub/2.png,pear,0.5\nsub/0.png,apple,2\nsub/1.png,pear,1\n")
    data = {"table": "labels.csv", "targets": ["kind"]}

    def read_table(**settings):
        section = Images(**({"folder": "all", **data} | settings))
        check_data(section)
        return read_source(section, tmp_path)

    source = read_table()
    assert take(source.x)[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert (take(source.y).tolist(), source.y.fields) == ([1, 0, 1], (Field("kind", "words", ("apple", "pear")),))
    assert take(read_table(targets=["weight"]).y).tolist() == [0.5, 2, 1]
    assert read_table(validation_table="labels.csv").validation[0].shape == (3, 2, 2, 3)
    weighted = read_table(validation_table="labels.csv", weights="weight")
    assert take(weighted.weights).tolist() == take(weighted.validation_weights).tolist() == [0.5, 2, 1]
    assert read_table().weights is None
    for settings, words in (
        ({"targets": ["knd"]}, "unknown column in .*labels.csv 'knd'. Did you mean 'kind'.*Correct data.targets"),
        ({"weights": "wait"}, "unknown column in .*labels.csv 'wait'.*Correct data.weights"),
        ({"paths": "path"}, "unknown column in .*labels.csv 'path'.*Correct data.paths"),
        ({"paths": "weight"}, r"lists .*0.5, which does not exist"),
        ({"folder": "."}, r"lists .*2.png, which does not exist"),
        ({"table": "none.csv"}, "no data file 'none.csv'"),
    ):
        with pytest.raises(DataError, match=words):
            read_table(**settings)
    for content, words in (
        ("file,kind\n", "holds no row of data"),
        ("file,kind\n1,2\n", r"lists .*1, which does not exist\. Correct the path"),
        ("file,kind\nsub/0.png,pear\n,pear\n", "'file' is empty in row 1, counted from 0"),
        ("file,kind\nsub/0.png\n", "line 2: 1 cells, but the header has 2"),
    ):
        table.write_text(content)
        with pytest.raises(DataError, match=words):
            read_table()
    columns = {"number": [1, 2], "file": ["sub/1.png", "sub/0.png"], "kind": ["pear", "apple"]}
    require("pyarrow.parquet").write_table(require("pyarrow").table(columns), tmp_path / "labels.parquet")
    assert take(read_table(table="labels.parquet").x)[:, 0, 0, 0].tolist() == [1, 0]
    with pytest.raises(DataError, match=r"column 'number' holds no paths. Name the one that does in data.paths"):
        read_table(table="labels.parquet", paths="number")


def test_masks(tmp_path):
    classes = np.array([[0, 1], [2, 255]], np.uint8)
    palette = Image.fromarray(classes).convert("L")
    palette.putpalette(list(range(256)) * 3)
    assert palette.mode == "P"
    save(tmp_path / "x" / "a.jpg", np.zeros((2, 2, 3), np.uint8))
    save(tmp_path / "x" / "b.jpg", np.zeros((2, 2, 3), np.uint8))
    save(tmp_path / "m" / "a.png", palette)
    save(tmp_path / "m" / "b.png", classes)
    masks = str(tmp_path / "m")
    source = read(tmp_path / "x", masks=masks)
    assert source.y.dtype == np.uint8
    assert np.array_equal(take(source.y), np.stack([classes, classes]))
    named = read(tmp_path / "x", masks=masks, mask_values=[255, 0, 1, 2])
    assert take(named.y)[0].tolist() == [[1, 2], [3, 0]]
    large = read(tmp_path / "x", masks=masks, size=[4, 6], resize="stretch")
    assert np.array_equal(take(large.y)[0], classes.repeat(2, 0).repeat(3, 1))
    with pytest.raises(DataError, match=r"a.png has pixels of value 2, which is not in data.mask_values = \[0, 1, 255"):
        take(read(tmp_path / "x", masks=masks, mask_values=[0, 1, 255]).y)
    save(tmp_path / "m" / "b.png", COLOUR)
    with pytest.raises(DataError, match=r"b.png has pixels of type RGB, but a mask has one number"):
        read(tmp_path / "x", masks=masks)
    save(tmp_path / "m" / "b.png", GREY)
    with pytest.raises(DataError, match=r"b.png has 6 x 5 pixels, but its picture .*b.jpg 2 x 2"):
        read(tmp_path / "x", masks=masks)
    (tmp_path / "m" / "b.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 pictures in .*x have no mask .*the first is .*b.jpg"):
        read(tmp_path / "x", masks=masks)
    save(tmp_path / "x" / "a.png", COLOUR)
    with pytest.raises(DataError, match="several pictures named 'a'"):
        read(tmp_path / "x", masks=masks)


SETTINGS = {
    "both": ({"table": "t", "targets": ["a"], "masks": "m"}, "both give the targets"),
    "one size": ({"size": [3]}, r"data.size = \[3\] is one number"),
    "no targets": ({"table": "t"}, "needs data.targets"),
    "no table": ({"targets": ["a"]}, "data.targets is for data.table"),
    "weights": ({"weights": "a"}, "data.weights is for data.table"),
    "no masks": ({"mask_values": [1]}, "data.mask_values is for data.masks"),
    "twice": ({"classes": ["a", "a"]}, "'a' twice"),
    "numbers": ({"classes": ["a"], "masks": "m"}, "data.masks gives numbers"),
    "two validations": ({"table": "t", "targets": ["a"], "validation_table": "v", "validation_fraction": 0.1},
                        "both give validation"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), SETTINGS.values(), ids=SETTINGS.keys())
def test_settings(settings, words):
    with pytest.raises(JobError, match=words):
        check_data(Images(folder="x", **settings))


def test_bad_folders(tmp_path):
    with pytest.raises(DataError, match="there is no folder 'none'"):
        read_source(Images(folder="none"), tmp_path)
    save(tmp_path / "flat" / "x.png", GREY)
    with pytest.raises(DataError, match='has no folders, but source "images" takes one for each class'):
        read(tmp_path / "flat")
    (tmp_path / "flat" / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no pictures \(.png, "):
        read(tmp_path / "flat")
    with pytest.raises(DataError, match="there is no folder 'm' of masks"):
        read(tmp_path / "flat", masks="m")


def test_bad_pictures(tmp_path):
    sound = save(tmp_path / "a" / "sound.png", COLOUR)
    bad = tmp_path / "a" / "bad.png"
    for content in (b"", b"hello", sound.read_bytes()[:20]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"bad.png can't be read"):
            read(tmp_path)
    bad.write_bytes(sound.read_bytes()[:-30])
    rows = read(tmp_path).x  # the header is sound
    with pytest.raises(DataError, match=r"bad.png can't be read: .*Is the file complete"):
        take(rows)
    for side in (10_000, 100_000):  # Pillow warns of the one and refuses the other
        content = bytearray(sound.read_bytes())
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"bad.png declares more than the 67,108,864 pixels"):
            read(tmp_path)
    save(bad, GREY.astype(np.uint16))
    with pytest.raises(DataError, match=r"bad.png is read as uint16, .*sound.png as uint8"):
        read(tmp_path, channels="grey")
    sound.unlink()
    with pytest.raises(DataError, match=r'bad.png is a grey picture of type uint16: set data.channels = "grey"'):
        read(tmp_path)
    rows = read(tmp_path, channels="grey").x
    save(bad, GREY)
    with pytest.raises(DataError, match=r"bad.png has pixels of type L now, other than when the run began"):
        take(rows)


def test_a_class_that_was_renamed(animals):
    before = content_of(read(animals))
    (animals / "cat").rename(animals / "cow")
    found = changes(before, content_of(read(animals)), Images(folder=str(animals)))
    assert found == ["training data: columns or classes have other words, or values of another kind"]
    assert msgspec.convert(msgspec.to_builtins(before), type(before)) == before


JOB = """
[data]
source = "images"
folder = "{folder}"
{more}
scale = "minmax"
scale_over = "all"
[model]
layers = [{{ type = "flatten" }}, {{ type = "dense", units = 3, activation = "softmax" }}]
[loss]
name = "sparse_categorical_crossentropy"
[train]
epochs = 1
batch_size = 3
metrics = ["confusion_matrix"]
"""


def test_other_pictures_for_a_trained_model(animals, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(folder="animals", more=""))
    train(load_job(job), SerialCommunicator(), out=tmp_path / "run", resume="never")
    trained = open_trained(tmp_path / "run" / "model.safetensors")
    assert trained.recipe.words() == ("Ant", "cat", "dög")
    save(tmp_path / "new" / "dög" / "x.png", np.full((4, 3, 3), 20, np.uint8))
    what, count, values = evaluate_trained(trained, SerialCommunicator(), str(tmp_path / "new"))
    assert (what, count) == (str(tmp_path / "new"), 1)
    assert words_of_matrices(trained, values) == {"confusion_matrix": ("Ant", "cat", "dög")}
    loader = input_loader(trained, SerialCommunicator(), str(animals))
    write_predictions(trained, SerialCommunicator(), loader, tmp_path / "out.csv")
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "file,class,class=Ant,class=cat,class=dög"
    pictures = take(read(animals).x)
    assert [line.split(",")[1] for line in lines] == [*hpcnn.load(tmp_path / "run").predict_labels(pictures)]
    listed = [path.relative_to(animals).as_posix() for path in pictures_in(animals)[0]]
    assert [line.split(",")[0] for line in lines] == listed
    loader = input_loader(trained, SerialCommunicator(), str(tmp_path / "new" / "dög" / "x.png"))
    write_predictions(trained, SerialCommunicator(), loader, tmp_path / "one.csv")
    assert (tmp_path / "one.csv").read_text().splitlines()[1].startswith("x.png,")
    samples = read_samples(str(tmp_path / "new"), trained.data, tmp_path, recipe=trained.recipe)
    assert take(samples.y).tolist() == [2]
    save(tmp_path / "new" / "eel" / "x.png", np.full((4, 3, 3), 20, np.uint8))
    with pytest.raises(DataError, match=r"new: 'eel' in row 1, counted from 0, is none of the classes of 'class'"):
        evaluate_trained(trained, SerialCommunicator(), str(tmp_path / "new"))
    assert input_loader(trained, SerialCommunicator(), str(animals)).samples == 6
    assert input_loader(trained, SerialCommunicator(), str(animals / "cat" / "0.png")).samples == 1
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none holds no pictures"):
        read_inputs(str(tmp_path / "none"), trained.data, tmp_path)


def test_validation_that_a_job_watches_but_the_folder_lacks(animals, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(folder="animals", more="") + 'early_stopping = { monitor = "val_loss" }\n')
    with pytest.raises(JobError, match=re.escape('= "val_loss", but there are no validation data')):
        build_training(load_job(job).job, tmp_path, SerialCommunicator())


def test_a_split_of_pictures(animals):
    splits = load(
        msgspec.convert({"source": "images", "folder": str(animals), "validation_fraction": 0.5}, Data),
        seed=0, dtype="float32", base=animals,
    )  # fmt: skip
    assert len(splits.train) == len(splits.validation) == 3


def test_other_masks_for_a_trained_model(tmp_path):
    for number in range(2):
        save(tmp_path / "scans" / f"{number}.png", np.full((4, 3, 3), 20, np.uint8))
        save(tmp_path / "labels" / f"{number}.png", np.full((4, 3), number, np.uint8))
    pair = f"{tmp_path / 'scans'}, {tmp_path / 'labels'}"
    samples = read_samples(pair, Images(folder="elsewhere", masks="masks"), tmp_path)
    assert take(samples.y)[:, 0, 0].tolist() == [0, 1]


def test_what_macos_adds_and_links_that_lead_nowhere(animals):
    before = len(pictures_in(animals)[0])
    (animals / "__MACOSX" / "cat").mkdir(parents=True)
    (animals / "__MACOSX" / "cat" / "._0.png").write_bytes(b"x")
    assert len(pictures_in(animals)[0]) == before
    assert take(read(animals).y).max() == 2
    (animals / "cat" / "gone.png").symlink_to("/nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png can't be read: No such file or directory"):
        read(animals)


@pytest.mark.parametrize("name", ["a/" * 3000 + "x.png", "x" * 300 + ".png"])
def test_a_table_with_a_path_that_is_too_long(name, animals, tmp_path):
    (tmp_path / "t.csv").write_text(f"file,kind\n{name},a\n")
    data = Images(folder=str(animals), table="t.csv", targets=["kind"])
    with pytest.raises(DataError, match=r"t\.csv lists .*, which does not exist\."):
        read_source(data, tmp_path)
