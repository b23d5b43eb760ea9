"""Sound files of pictures: alone, listed in tables, with masks, and in tar archives."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import msgspec
import numpy as np

from hpcnn.job import data as schema
from tests.fuzz.samples import CLASSES, ROWS, Sample, X, Y, npy_bytes


def image_bytes(pixels: np.ndarray[Any, Any], form: str, **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def images() -> list[Sample]:
    """Return pictures that a table lists, of which one is damaged."""
    from PIL import Image

    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (6, 5, 3), dtype=np.uint8) for _ in range(6)]
    table = "file,label\n" + "".join(f"p{number},{number % CLASSES}\n" for number in range(6))
    names = {f"p{number}": image_bytes(picture, "PNG") for number, picture in enumerate(pictures)}
    colour, size = schema.Images(folder=".", table="t.csv", targets=["label"]), [4, 4]
    grey = msgspec.structs.replace(colour, channels="grey", size=size)
    alpha = np.dstack([pictures[0], pictures[1][:, :, 0]])
    turned = Image.Exif()
    turned[0x0112] = 6
    printed = io.BytesIO()
    Image.frombytes("CMYK", (5, 6), alpha.tobytes()).save(printed, "JPEG")
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
        (image_bytes(pictures[0], "JPEG", exif=turned), msgspec.structs.replace(colour, size=size)),
        (printed.getvalue(), colour),
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


def webdataset() -> list[Sample]:
    """Return tar archives of arrays, texts and pictures."""
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


def deep_images() -> list[Sample]:
    """Return grey pictures of 16 bits and of floats in the folders of their classes, of which one is damaged."""
    pictures = [np.random.default_rng(number).integers(0, 2**16, (6, 5), dtype=np.uint16) for number in range(4)]
    plain = schema.Images(folder="p", channels="grey")
    sized = msgspec.structs.replace(plain, size=[4, 4], resize="crop")
    forms: list[tuple[str, str, dict[str, Any], schema.Images]] = [
        ("PNG", "uint16", {}, plain),
        ("PNG", "uint16", {}, sized),
        ("TIFF", "uint16", {}, sized),
        ("TIFF", "float32", {}, plain),
        ("TIFF", "int32", {"compression": "tiff_adobe_deflate"}, sized),
    ]
    samples = []
    for form, dtype, options, section in forms:
        names = [f"p/{number % 2}/{number}.{form.lower()}" for number in range(4)]
        files = {name: image_bytes(one.astype(dtype), form, **options)
                 for name, one in zip(names, pictures, strict=True)}  # fmt: skip
        samples.append(Sample(files, names[0], section, "p"))
    return samples


def image_tables() -> list[Sample]:
    """Return tables that list pictures."""
    picture = image_bytes(np.zeros((6, 5, 3), np.uint8), "PNG")
    names = {f"p/{number}.png": picture for number in range(6)}
    words = "file,kind\n" + "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(6))
    numbers = "file,age,size\n" + "".join(f"{number}.png,{number % 2},{number % 3}\n" for number in range(6))
    section = schema.Images(folder="p", table="t.csv", targets=["kind"])
    forms = [
        (words, section),
        (words.replace(",", ";"), section),
        (words.replace("file", "path"), msgspec.structs.replace(section, paths="path")),
        (numbers, msgspec.structs.replace(section, targets=["age", "s*"])),
    ]
    return [Sample({**names, "t.csv": text.encode()}, "t.csv", section, "p") for text, section in forms]


def masks() -> list[Sample]:
    """Return pictures with masks, of which one is damaged."""
    from PIL import Image

    random = np.random.default_rng(0)
    pictures = {f"p/{number}.png": image_bytes(random.integers(0, 256, (6, 5, 3), dtype=np.uint8), "PNG")
                for number in range(4)}  # fmt: skip
    classes = random.integers(0, 3, (6, 5), dtype=np.uint8)
    palette = Image.fromarray(classes)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    stream = io.BytesIO()
    palette.save(stream, "PNG")
    plain = schema.Images(folder="p", masks="m", size=[4, 4])
    forms = [
        (image_bytes(classes, "PNG"), plain),
        (image_bytes(classes * 100, "PNG"), msgspec.structs.replace(plain, mask_values=[0, 100, 200])),
        (image_bytes(classes.astype(np.uint16), "PNG"), plain),
        (image_bytes(classes, "TIFF"), msgspec.structs.replace(plain, size=[], channels="grey")),
        (stream.getvalue(), msgspec.structs.replace(plain, resize="pad")),
    ]
    return [
        Sample({**pictures, **{f"m/{number}.png": content for number in range(4)}}, "m/0.png", section, "p")
        for content, section in forms
    ]
