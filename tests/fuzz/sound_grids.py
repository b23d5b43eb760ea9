"""Sound files of grids: HDF5 and netCDF-4, with variables as channels, and Zarr."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.job import data as schema
from tests.fuzz.samples import COLUMNS, ROWS, Sample, X, Y


def hdf5_bytes(fill: Callable[[Any], None]) -> bytes:
    """Return the file that ``fill(file)`` has written to."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def hdf5() -> list[Sample]:
    """Return HDF5 files of one array of inputs and one of targets."""

    def contiguous(file: Any) -> None:
        file["x"], file["y"] = X, Y

    def chunked(file: Any) -> None:
        file.create_dataset("group/x", data=X, chunks=(7, COLUMNS), compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("y", data=Y.astype(np.uint8), chunks=(5,))

    return [
        Sample({"d.h5": hdf5_bytes(contiguous)}, "d.h5", schema.Hdf5(path="d.h5")),
        Sample({"d.h5": hdf5_bytes(chunked)}, "d.h5", schema.Hdf5(path="d.h5", x="group/x")),
    ]


def zarr_files(form: int, **options: Any) -> dict[str, bytes]:
    """Return the files of a Zarr store with the folder `x` for inputs, and `y`."""
    import zarr

    with tempfile.TemporaryDirectory() as name:
        group = zarr.open_group(name, mode="w", zarr_format=form)
        group.create_array("x", data=X, chunks=(6, 4), attributes={"scale_factor": 2.0}, **options)
        group.create_array("y", data=Y.astype(np.uint8), chunks=(24,))
        files = {path.relative_to(name): path for path in sorted(Path(name).rglob("*")) if path.is_file()}
        return {path.as_posix(): file.read_bytes() for path, file in files.items()}


def zarr() -> list[Sample]:
    """Return Zarr stores of both formats, of which one file is damaged."""
    import numcodecs
    from zarr.codecs import BloscCodec, GzipCodec

    stores = [
        (zarr_files(3), ["x/zarr.json", "x/c/1/0", "zarr.json"]),
        (zarr_files(3, compressors=[BloscCodec()]), ["x/c/0/0"]),
        (zarr_files(3, shards=(12, 4), compressors=[GzipCodec()]), ["x/c/1/0", "x/zarr.json"]),
        (zarr_files(2, compressors=numcodecs.Blosc(cname="zstd")), ["x/.zarray", "x/1.0", "x/.zattrs"]),
        (zarr_files(2, compressors=numcodecs.LZ4(), filters=[numcodecs.Shuffle(4)]), ["x/2.0", "y/0"]),
    ]
    samples = [
        Sample({f"d.zarr/{name}": content for name, content in files.items()}, f"d.zarr/{target}",
               schema.Zarr(path="d.zarr"), "d.zarr")
        for files, targets in stores
        for target in targets
    ]  # fmt: skip
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in stores[0][0].items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return [*samples, Sample({"d.zarr.zip": stream.getvalue()}, "d.zarr.zip", schema.Zarr(path="d.zarr.zip"))]


def _write_grid(file: Any, *, named: bool = True, packed: bool = False, **options: Any) -> None:
    """Write two variables on a grid, its coordinates, targets and weights, as the library of netCDF-4 does."""
    field = X.reshape(ROWS, 2, 2)
    sizes = {"time": np.arange(ROWS) * 6.0, "lat": np.array([50.0, 45.0]), "lon": np.array([5.0, 10.0])}
    for name, values in sizes.items():
        file[name] = values
        file[name].make_scale(name)
    stored = {"t": (field * 100).astype(np.int16), "u": (field * 50).astype(np.int16)} if packed else {}
    for name in ("t", "u"):
        made = file.create_dataset(f"level/{name}", data=stored.get(name, field), **options)
        made.attrs.update({"units": "K", "_FillValue": made.dtype.type(-999)})
        if packed:
            made.attrs.update({"scale_factor": 0.01, "add_offset": 273.0, "valid_range": np.int16([-900, 900])})
        for place, axis in enumerate(sizes if named else ()):
            made.dims[place].attach_scale(file[axis])
    file["y"] = Y
    file["w"] = np.linspace(0.5, 2, ROWS)


def hdf5_channels() -> list[Sample]:
    """Return HDF5 files of variables that become channels, with coordinates and weights."""
    settings: dict[str, Any] = {"path": "d.h5", "x": ["level/t", "level/u"]}
    forms: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"stack": "channels", "coordinates": ["lat", "time"]}),
        ({"named": False}, {"stack": "channels", "fill": 0.0, "mask_channel": True}),
        ({"packed": True}, {"stack": "channels", "fill": 0.0, "mask_channel": True, "coordinates": ["lon"]}),
        ({"chunks": (5, 2, 2), "compression": "gzip"}, {"weights": "w"}),
        ({"chunks": (5, 1, 2)}, {"x": "level/t", "stack": "channels", "weights": "w"}),
    ]
    return [
        Sample({"d.h5": hdf5_bytes(lambda file, own=own: _write_grid(file, **own))}, "d.h5",
               schema.Hdf5(**{**settings, **given}))
        for own, given in forms
    ]  # fmt: skip


def netcdf() -> list[Sample]:
    """Return netCDF-4 files: packed, chunked, with named axes."""
    settings: dict[str, Any] = {"path": "d.nc", "x": ["level/t", "level/u"], "stack": "channels"}
    chunked: dict[str, Any] = {"chunks": (6, 2, 2), "shuffle": True, "compression": "gzip", "fletcher32": True}
    forms: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"packed": True}, {"fill": 0.0}),
        ({"packed": True, **chunked}, {"coordinates": ["lat", "lon"]}),
        (chunked, {"fill": -1.0, "mask_channel": True}),
        ({"maxshape": (None, 2, 2), "chunks": (1, 2, 2)}, {"weights": "w"}),
    ]
    return [
        Sample({"d.nc": hdf5_bytes(lambda file, own=own: _write_grid(file, **own))}, "d.nc",
               schema.Hdf5(**{**settings, **given}))
        for own, given in forms
    ]  # fmt: skip
