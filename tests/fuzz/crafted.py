"""Data files that someone wrote to do harm: headers that lie, bombs, pickles, and other things in place of a file."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import os
import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.fuzz.mutations import BORDERS, BYTES, TEXT, Mutation, several
from tests.fuzz.samples import IDX_CODES, X, Y, npy_bytes, npz_bytes
from tests.fuzz.sound import arrow_table, gz_bytes, idx_bytes, parquet_bytes
from tests.fuzz.sound_grids import hdf5_bytes

MARKER = "code-ran"
"""What a payload makes, in the working folder, if it is ever run."""
BOMB_BYTES = 2**29

SHAPES = [
    "()", "(-1,)", "(-24, -4)", "(24, -4)", "(2**62, 4)", f"({2**62}, 4)", f"({2**63}, 2)", f"(0, {2**62})",
    f"({2**62}, 0)", f"({2**70},)", f"(0, {2**40}, {2**40})", f"{(1,) * 64}", f"{(1,) * 65 + (24, 4)}", "(True, 4)",
    "(24L, 4L)", "(24.0, 4)", "'24'", "24", "None", "(24, 4, 1)", "(96,)", "(4, 24)", "(24, (4,))", "((",
    "(" * 200 + ")" * 200, "[24, 4]", "(24, 'x')", f"(24, {'9' * 5000})", "(1_0, 4)", "(0x18, 4)",
]  # fmt: skip
DESCRS = [
    "'<f4'", "'|O'", "'O'", "'V8'", "'|S4'", "'<U1'", "'<M8[s]'", "'<m8[s]'", "'<c8'", "[('a', '<f4')]", "[('a', 'O')]",
    "'<f16'", "'f99'", "'(2,3)<f4'", "'(99999999,99999999)<f4'", "'a'", "'x'", "''", "0", "None", "['<f4', '<f4']",
    "'<f4,<f4'", "(('a','b'), '<f4')", "'\\d'", "'<f4\\0'", "'float'", "'<u8'", "'?'", "'int; import os'", "'V0'",
    "'S0'",
]  # fmt: skip


class Payload:
    """Unpickling it would leave a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARKER,)


def _header(random: Random) -> str:
    fields = {"descr": "'<f4'", "fortran_order": "False", "shape": "(24, 4)"}
    field = random.choice(list(fields))
    values = {"descr": DESCRS, "shape": SHAPES, "fortran_order": ["True", "1", "None", "'x'", "[]"]}
    fields[field] = random.choice(values[field])
    if random.random() < 0.1:
        del fields[random.choice(list(fields))]
    text = "{" + ", ".join(f"'{key}': {value}" for key, value in fields.items()) + ", }"
    return random.choice(
        (text, text, text, text.replace("{", "{'extra': 1, "), "[" * 5000, "{" * 300, "1" * 9000, "\0" + text)
    )


def lying_npy(_content: bytes, random: Random) -> bytes:
    """A `.npy` file whose header says what the rest does not hold, or nobody can read."""
    text = _header(random).encode() + b" " * random.randrange(64) + b"\n"
    version, width = random.choice(((1, "<H"), (1, "<H"), (2, "<I"), (3, "<I"), (0, "<I")))
    lengths = [len(text), len(text), len(text), 0, 2 ** (8 * struct.calcsize(width)) - 1, 2**16 - 1]
    body = random.choice((X.tobytes(), X.tobytes(), b"", pickle.dumps([Payload()] * 3)))
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack(width, random.choice(lengths)) + text + body


def pickled_npy(_content: bytes, random: Random) -> bytes:
    """A `.npy` file of objects, or a bare pickle."""
    objects = np.array([Payload() for _ in Y], object)
    return random.choice((npy_bytes(objects), pickle.dumps(Payload()), pickle.dumps(Payload(), 0)))


def zeros_deflated(size: int) -> bytes:
    """Return the deflated form of `size` zeros without making them: one block again and again."""
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = block.compress(bytes(2**20)) + block.flush(zlib.Z_FULL_FLUSH)
    return piece * (size >> 20) + block.flush(zlib.Z_FINISH)


def zipped(name: str, content: bytes, random: Random) -> bytes:
    """Return an archive with this member, by any method, and with `y`."""
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", random.choice(methods)) as archive:
        archive.writestr(name, content)
        archive.writestr("y.npy", npy_bytes(Y))
    return stream.getvalue()


def damaged_member(_content: bytes, random: Random) -> bytes:
    """An archive whose checksums are right, around a damaged member."""
    mutation = random.choice((lying_npy, pickled_npy, several(BYTES)))
    name = random.choice(("x.npy", "x.npy", "x.npy", "x", "../x.npy", "/x.npy", "x.npy\0", "X.npy"))
    return zipped(name, mutation(npy_bytes(X), random), random)


def lying_directory(content: bytes, random: Random) -> bytes:
    """An archive with a border number in a field of its directory, its end, or a member's own header."""
    places = [found.start() for found in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", content)]
    place = random.choice(places) + random.choice((4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 42))
    width = random.choice((1, 2, 4))
    value = random.choice([*BORDERS, len(content), len(content) - 4]) % 256**width
    return content[:place] + value.to_bytes(width, "little") + content[place + width :]


def zip_bomb(_content: bytes, random: Random) -> bytes:
    """An archive with a member that inflates to far more than it declares, or declares far more than it holds."""
    declared, held = random.choice(((len(X), 2**29), (2**35, 2**20), (2**40, 2**20), (2**31 - 200, 0), (2**20, 2**29)))
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({declared}, 1)}}\n".encode()
    head = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    if random.random() < 0.3:  # a header of the second version may be said to be 4 GB long
        head = b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + header
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = block.compress(head) + block.flush(zlib.Z_FULL_FLUSH) + zeros_deflated(held)
    size = min(declared + len(head), 2**32 - 2)
    sizes = struct.pack("<III", 0, len(stream), size)
    local = b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", 5, 0) + b"x.npy" + stream
    entry = b"PK\1\2" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0) + sizes
    entry += struct.pack("<HHHHHII", 5, 0, 0, 0, 0, 0, 0) + b"x.npy"
    return local + entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)


def one_of_many_arrays(_content: bytes, random: Random) -> bytes:
    """An archive whose arrays do not fit each other, or the job."""
    x = random.choice((X[:5], X[:0], X.reshape(-1), np.float32(3), X.astype(complex), X * np.nan, X.astype(str)))
    y = random.choice((Y, Y - 1, Y + 0.5, Y * 2**40, np.full(len(Y), 2**63, np.uint64), Y[:, None, None]))
    return npz_bytes(random.choice((np.savez, np.savez_compressed)), x=x, y=y)


def odd_weights(_content: bytes, random: Random) -> bytes:
    """An archive whose weights or groups are none, too many, or not one number each."""
    weights = np.linspace(0.5, 2, len(Y))
    odd = [weights[:5], -weights, weights * np.nan, weights * 0, weights[:, None], X, weights.astype(str), Y > 0,
           np.float64(1), weights * 5e307, weights.astype(complex)]  # fmt: skip
    arrays = {"x": X, "y": Y, "w": weights, "g": Y, random.choice("wg"): random.choice(odd)}
    return npz_bytes(random.choice((np.savez, np.savez_compressed)), **arrays)


def extreme_values(_content: bytes, random: Random) -> bytes:
    """A sound `.npy` file of values at the ends of their type."""
    dtype = random.choice((np.float64, np.float32, np.float16, np.longdouble, np.int64, np.uint64, np.bool_))
    values = [-1.7e308, 1.7e308, 3.4e38, -6.5e4, 5e-324, 0.0, -0.0, 1e19, -1e19]
    with np.errstate(all="ignore"):
        return npy_bytes(np.array([[random.choice(values) for _ in range(4)] for _ in Y], np.longdouble).astype(dtype))


def lying_idx(_content: bytes, random: Random) -> bytes:
    """An IDX file with other axes than its values have."""
    axes = random.choice((0, 1, 2, 3, 32, 33, 64, 65, 255))
    sizes = [random.choice((0, 1, 1, 1, 24, 2**16, 2**31, 2**32 - 1)) for _ in range(axes)]
    code = random.choice((*IDX_CODES.values(), 0x00, 0x0A, 0xFF))
    return (
        bytes((0, 0, code, axes))
        + struct.pack(f">{axes}I", *sizes)
        + random.choice((b"", b"\1", bytes(24), X.tobytes()))
    )


def gz_bomb(_content: bytes, random: Random) -> bytes:
    """A gzip file that inflates to far more than its IDX header declares, or declares far more than it holds."""
    declared, held = random.choice(((24, BOMB_BYTES), (2**32 - 1, 2**20), (2**29, 2**18), (2**20, BOMB_BYTES)))
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = block.compress(struct.pack(">BBBBI", 0, 0, 8, 1, declared)) + block.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\3" + head + zeros_deflated(held) + struct.pack("<II", 0, held & 0xFFFFFFFF)


def damaged_inside_gz(_content: bytes, random: Random) -> bytes:
    """A sound gzip file, or several in a row, around a damaged IDX file."""
    content = random.choice((lying_idx, several(BYTES)))(idx_bytes(Y), random)
    place = random.randint(0, len(content))
    parts = (
        gz_bytes(content[:place]) + gz_bytes(content[place:]),
        gz_bytes(content) + bytes(1000),
        gz_bytes(gz_bytes(content)),
    )
    return random.choice((gz_bytes(content), gz_bytes(content), *parts))


def wide_csv(_content: bytes, random: Random) -> bytes:
    """A CSV file with one enormous cell, line or header."""
    forms = (
        b"a,label\n" + b"1" * 100_000 + b",1\n",
        b"a,label\n" + b"1" * 200_000 + b",1\n",
        b"," * 100_000 + b"label\n",
        b'"a\n' * 5000 + b'",label\n1,2\n',
        b"a,label\n" + b"\n" * 100_000 + b"1,2\n",
        b"a,label\r1,2\r3,4\r",
        b"a,label\n" + b"1,2\n" * 1000 + b"x" * 50_000 + b",1\n",
        b"a\0,label\n1,2\n",
        b"label," * 5000 + b"a\n" + b"1," * 5000 + b"2\n",
        "a,b,c,d,label\n\u0661,\u0662,1,2,1\n".encode(),
        b"a,label\n \n\t\n",
        b"a,label\n1e308,0\n-1e308,1\n1e308,2\n",
    )
    return random.choice(forms)


def worded_csv(_content: bytes, random: Random) -> bytes:
    """A table with words, dates, booleans and gaps, damaged."""
    lines = [f'"a ""{label}"", b",2024-0{1 + label}-01 12:30,{"yes" if label else "no"},{label or ""},{label}'
             for label in Y.tolist()]  # fmt: skip
    return several(TEXT)("\n".join(["word,day,flag,gap,label", *lines, ""]).encode(), random)


def crafted_hdf5(_content: bytes, random: Random) -> bytes:
    """An HDF5 file of unusual data sets: sparse, linked, virtual, of other types, or deflated a thousandfold."""
    import h5py

    def write(file: Any) -> None:
        file["y"] = Y
        kind = random.randrange(9)
        if kind == 0:
            file.create_dataset("x", (24, 2**40), np.float32)
        elif kind == 1:
            file.create_dataset("x", (2**50, 2**12), np.float64, chunks=(2**10, 2**10))
        elif kind == 2:
            file["x"] = h5py.ExternalLink("/etc/passwd", "x")
        elif kind == 3:
            file["x"] = h5py.SoftLink("/x")
        elif kind == 4:
            file.create_dataset("x", (24,), h5py.vlen_dtype(np.float32))
        elif kind == 5:
            file.create_dataset("x", data=np.zeros((24, 2**18)), compression="gzip", compression_opts=9)
        elif kind == 6:
            file.create_dataset("x", (24, 4), np.float32, external=[("/dev/zero", 0, 24 * 16)])
        elif kind == 7:
            file.create_dataset("x", data=h5py.Empty("f4"))
        else:
            layout = h5py.VirtualLayout((24, 4), np.float32)
            layout[:] = h5py.VirtualSource("nowhere.h5", "x", (24, 4))
            file.create_virtual_dataset("x", layout)

    return hdf5_bytes(write)


def strange_attributes(content: bytes, random: Random) -> bytes:
    """A netCDF-4 file with a strange value of one of the attributes that say what stored numbers mean."""
    import h5py

    names = ("scale_factor", "add_offset", "_FillValue", "missing_value", "valid_range", "valid_min", "_Unsigned")
    values: list[Any] = [0.0, np.nan, np.inf, 1e308, -1e308, "", "x" * 300, "true", [], [1.0, 2.0], [9.0, 1.0], 2**63,
                         np.int8(-1), np.complex64(1j), h5py.Empty("f4"), [["a", "b"]], 5e-324, True]  # fmt: skip
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        target = file[random.choice(("level/t", "level/u", "lat", "y", "w"))]
        target.attrs[random.choice(names)] = random.choice(values)
    return stream.getvalue()


def changed_metadata(content: bytes, random: Random) -> bytes:
    """The metadata of a Zarr store with something else in a place of it."""
    if not content.startswith(b"{"):
        return several(BYTES)(content, random)
    value = json.loads(content)
    strange: list[Any] = [
        None, True, -1, 0, 2**31, 2**63, 1.5, float("nan"), "", "x" * 300, "pickle", [], {}, [24, 4], [2**40, 4],
        [0, 4], [24, 0], [1, 1, 1], {"id": "pickle"}, {"name": "sharding_indexed"}, {"id": "zlib", "level": 10**6},
        "<f8", "|O", "float64", "M8[s]", [{"id": "json2"}], [{"name": "numcodecs.zlib", "configuration": {}}], "NaN",
    ]  # fmt: skip
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = random.choice(keys) if keys else None
        if key is None:
            break
        if isinstance(place[key], dict | list) and random.random() < 0.6:
            place = place[key]
            continue
        place[key] = random.choice(strange)
        break
    return json.dumps(value).encode()


def crafted_parquet(_content: bytes, random: Random) -> bytes:
    """A Parquet file of unusual columns, or of very many equal values."""
    columns: list[dict[str, Any]] = [
        {"a": np.zeros(2**20), "b": np.zeros(2**20), "label": np.zeros(2**20, int)},
        {"a": [None, *X[1:, 0].tolist()], "label": Y},
        {"a": [[1.0]] * 24, "label": Y},
        {"a": [{"b": 1}] * 24, "label": Y},
        {"a": ["x"] * 24, "label": Y},
        {"label": Y},
        {"a": [], "label": []},
        {"a": np.full(24, 1.7e308), "label": Y},
    ]
    return parquet_bytes(random.choice(columns))


def crafted_feather(_content: bytes, random: Random) -> bytes:
    """A Feather file of unusual columns, or of very many equal values."""
    from pyarrow import feather

    columns: list[dict[str, Any]] = [
        {"a": np.zeros(2**18), "b": np.zeros(2**18), "flag": np.zeros(2**18), "label": np.zeros(2**18, int)},
        {"a": [[1.0]] * 24, "b": X[:, 0], "flag": X[:, 0], "label": Y},
        {"a": [2**60] * 24, "b": [None, *X[1:, 0]], "flag": [None, True] * 12, "label": Y},
        {"a": Y.astype("M8[D]"), "b": ["x", None] * 12, "flag": ["b", "c"] * 12, "label": ["d", "e"] * 12},
        {"a": [], "b": [], "flag": [], "label": []},
    ]
    stream = io.BytesIO()
    feather.write_feather(arrow_table(random.choice(columns)), stream)
    return stream.getvalue()


def packed_bomb(_content: bytes, random: Random) -> bytes:
    """A packed text file of equal lines, of 4 MB, or one that is packed twice, or followed by something else."""
    pack = random.choice((gz_bytes, bz2.compress, lzma.compress))
    rows = b"a,b,c,d,label\n" + b"1,2,3,4,0\n" * (400_000 if random.random() < 0.1 else 4000)
    return random.choice((pack(rows), pack(pack(rows)), pack(rows) + random.randbytes(9), pack(rows)[:-9], pack(b"")))


def odd_batch(content: bytes, random: Random) -> bytes:
    """A batch of CIFAR with a label that is no class, a record too few, or a part of one."""
    size = 3073 if len(content) % 3074 else 3074
    place = random.randrange(len(content) // size) * size
    return random.choice(
        (content[:place] + bytes((random.choice((9, 10, 99, 100, 255)),)) + content[place + 1 :], content[:place],
         content[: place + 3072], content + content, content + b"\0")
    )  # fmt: skip


def odd_text(content: bytes, random: Random) -> bytes:
    """Text that is none, or of another encoding, or of characters that are rarely met."""
    text = random.choice(("abc" * 30, "\0" * 40, "\U0010ffff\ue000" * 20, "\r\n" * 20, "é" * 50, "", "a", "abcd" * 9))
    code = random.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7"))
    return random.choice(
        (text.encode(code), content + b"\xed\xa0\x80", b"\xc0\x80" * 30, content + b"\xf0\x9f", b"\xff" * 99)
    )


def large_picture(content: bytes, random: Random) -> bytes:
    """A picture whose header declares other sizes, with a checksum that is right where there is one."""
    if not content.startswith(b"\x89PNG"):
        return several(BYTES)(content, random)
    sizes = struct.pack(">II", *random.choices((0, 1, 6, 4000, 8000, 10_000, 100_000, 2**31 - 1), k=2))
    header = b"IHDR" + sizes + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def _with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def lying_tar(content: bytes, random: Random) -> bytes:
    """An archive with a header whose checksum is right, but a field is not."""
    places = [found.start() - 257 for found in re.finditer(rb"ustar", content)]
    place = random.choice(places)
    header = bytearray(content[place : place + 512])
    sizes = [b"\x80" + number.to_bytes(11, "big") for number in BORDERS] + [b"\xff" * 12, b"\xff" * 11 + b"\0"]
    fields = {0: [b"", b"/etc/passwd", b"../a.npy", b"\xff\x1b[2J.npy", b"00.npy"], 124: [*sizes, b"777777777777"],
              156: [b"%c" % one for one in b"0123456789xgLKSDX\0"]}  # fmt: skip
    start = random.choice((0, 124, 124, 156))
    value = random.choice(fields[start]).ljust({0: 100, 124: 12, 156: 1}[start], b"\0")
    header[start : start + len(value)] = value
    return content[:place] + _with_checksum(header) + content[place + 512 :]


CRAFTED: dict[str, list[Mutation]] = {
    "npy": [lying_npy, lying_npy, pickled_npy, extreme_values],
    "npz": [damaged_member, damaged_member, lying_directory, lying_directory, zip_bomb, one_of_many_arrays],
    "npz weights": [lying_directory, odd_weights],
    "idx": [lying_idx],
    "idx.gz": [damaged_inside_gz, damaged_inside_gz, gz_bomb],
    "csv": [wide_csv, worded_csv],
    "packed csv": [packed_bomb],
    "cifar": [odd_batch],
    "images": [large_picture],
    "deep images": [large_picture],
    "image tables": [worded_csv, wide_csv],
    "masks": [large_picture],
    "webdataset": [lying_tar],
    "text": [odd_text],
    "hdf5": [crafted_hdf5],
    "hdf5 channels": [crafted_hdf5],
    "netcdf": [strange_attributes],
    "zarr": [changed_metadata],
    "parquet": [crafted_parquet],
    "feather": [crafted_feather],
}
"""Writers of hostile files of each kind; they ignore the sound content, or change it knowing the format."""


def put_other_thing(path: Path, random: Random) -> None:
    """Put something else than a file with bytes in place of `path`."""
    kind = random.randrange(7)
    if kind == 0:
        path.write_bytes(b"")
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.symlink_to(path.name)  # to itself
    elif kind == 4:
        path.symlink_to("nowhere")
    elif kind == 5:
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to("/proc/self/mem")
