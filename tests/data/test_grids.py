"""Several arrays of a grid as channels, coordinates beside them, and missing values, from HDF5 and Zarr alike."""

import warnings

import numpy as np
import pytest

from hpcnn.data.load import load, read_inputs
from hpcnn.data.readers import hdf5, read_source
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from hpcnn.job.data_checks import check_source
from tests.data.helpers import take
from tests.require import require

TIME, LAT, LON = np.arange(12.0), np.array([50.0, 47.5, 45.0]), np.array([5.0, 10.0])
T2M = 280 + np.random.default_rng(0).normal(size=(12, 3, 2)).astype(np.float32)
U10 = np.random.default_rng(1).integers(-100, 100, (12, 3, 2)).astype(np.int16)
HEIGHT = np.arange(6.0).reshape(3, 2)
AXES = {"t2m": "time lat lon", "u10": "time lat lon", "time": "time", "lat": "lat", "lon": "lon", "height": "lat lon",
        "whole": "time lat lon"}  # fmt: skip
ARRAYS = {"t2m": T2M, "u10": U10, "time": TIME, "lat": LAT, "lon": LON, "height": HEIGHT}
HOLE = (4, 1, 0)


def write_hdf5(path, arrays, attributes, *, named=True):
    with require("h5py").File(path, "w") as file:
        for name, array in arrays.items():
            chunks = (5, *array.shape[1:]) if array.ndim == 3 else None
            file.create_dataset(f"deep/{name}", data=array, chunks=chunks).attrs.update(attributes.get(name, {}))
        for name in ("time", "lat", "lon") if named else ():
            file[f"deep/{name}"].make_scale(name)
        for name in arrays if named else ():
            for place, axis in enumerate(AXES[name].split()):
                if name != axis:
                    file[f"deep/{name}"].dims[place].attach_scale(file[f"deep/{axis}"])


def write_zarr(path, arrays, attributes, *, named=True, form=3, consolidated=False):
    zarr = require("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=form)
    for name, array in arrays.items():
        axes = AXES[name].split() if named else None
        own = dict(attributes.get(name, {}))
        options = {"dimension_names": axes} if form == 3 else {}
        if axes and form == 2:
            own["_ARRAY_DIMENSIONS"] = axes
        chunks = (5, *(2,) * (array.ndim - 1))
        made = group.create_array(
            f"deep/{name}",
            shape=array.shape,
            dtype=array.dtype,
            chunks=chunks,
            attributes=own,
            fill_value=None,
            **options,
        )
        made[:] = array
    if consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(path)


def zipped(path, arrays, attributes, *, named=True):
    import zipfile

    folder = path.with_suffix(".folder")
    write_zarr(folder, arrays, attributes, named=named)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(one for one in folder.rglob("*") if one.is_file()):
            archive.write(file, file.relative_to(folder))


KINDS = {
    "hdf5": (schema.Hdf5, "d.nc", write_hdf5),
    "zarr 3": (schema.Zarr, "d.zarr", write_zarr),
    "zarr 2": (schema.Zarr, "d.zarr", lambda *a, **k: write_zarr(*a, form=2, consolidated=True, **k)),
    "zarr zip": (schema.Zarr, "d.zarr.zip", zipped),
}


HOLES = {"t2m": {"missing_value": 1e20}, "u10": {"scale_factor": 0.5, "add_offset": 3.0, "_FillValue": -999},
         "lat": {"_FillValue": 47.5}}  # fmt: skip


def with_holes():
    t2m, u10 = T2M.copy(), U10.copy()
    t2m[HOLE], t2m[9, 2, 1], u10[2, 0, 1] = 1e20, np.nan, -999
    return {"t2m": t2m, "u10": u10, "lat": LAT, "whole": T2M}


SQUARE = {"t2m": T2M[:, :2], "u10": U10[:, :2], "lon": LON, "lat": TIME[:7]}
CONTENTS = {"plain": (ARRAYS, {}, True), "holes": (with_holes(), HOLES, False), "unnamed": (ARRAYS, {}, False),
            "square": (SQUARE, {}, False)}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def grid(request, tmp_path_factory):
    """Return a function that gives the section of a job for one of the `CONTENTS`, which are written once."""
    section, name, write = KINDS[request.param]
    folder, written = tmp_path_factory.mktemp("grid"), {}

    def make(content="plain", **settings):
        if content not in written:
            (folder / content).mkdir()
            written[content] = folder / content / name
            arrays, attributes, named = CONTENTS[content]
            write(written[content], arrays, attributes, named=named)
        given = {"x": ["deep/t2m", "deep/u10"], "y": "deep/u10", "stack": "channels", **settings}
        return section(path=str(written[content]), **given)

    return make


def test_variables_are_channels_and_coordinates_more_of_them(grid, tmp_path):
    section = grid(coordinates=["deep/time", "deep/lat", "deep/lon", "deep/height"])
    x = read_source(section, tmp_path).x
    shape = T2M.shape
    lat, lon = np.broadcast_to(LAT[:, None], shape), np.broadcast_to(LON, shape)
    time, height = np.broadcast_to(TIME[:, None, None], shape), np.broadcast_to(HEIGHT, shape)
    expected = np.stack([T2M, U10, time, lat, lon, height], axis=-1)
    np.testing.assert_array_equal(take(x), expected)
    rows = [7, 7, 0, 11, 3]
    np.testing.assert_array_equal(take(x, np.float32, rows), expected[rows].astype(np.float32))
    np.testing.assert_array_equal(take(read_inputs(section.path, section, tmp_path, dtype="float64").x), expected)


def test_a_list_without_stack_is_inputs_side_by_side(grid, tmp_path):
    source = read_source(grid(stack="inputs"), tmp_path)
    assert source.inputs == {"deep/t2m": (3, 2), "deep/u10": (3, 2)}
    np.testing.assert_array_equal(take(source.x), np.hstack([T2M.reshape(12, -1), U10.reshape(12, -1)]))


def test_one_array_gets_a_channel_axis(grid, tmp_path):
    source = read_source(grid(x="deep/t2m", y=["deep/u10"]), tmp_path)
    np.testing.assert_array_equal(take(source.x), T2M[..., None])
    np.testing.assert_array_equal(take(source.y), U10[..., None])


def test_coordinates_without_names_go_by_their_lengths(grid, tmp_path):
    x = read_source(grid("unnamed", coordinates=["deep/lon", "deep/height"]), tmp_path).x
    np.testing.assert_array_equal(take(x)[..., 2], np.broadcast_to(LON, T2M.shape))
    with pytest.raises(DataError, match=r"'deep/lon' in .* and its axes could be several of these.*Name the axes"):
        read_source(grid("square", coordinates=["deep/lon"]), tmp_path)
    with pytest.raises(DataError, match=r"'deep/lat' in .* and its axes are none of these"):
        read_source(grid("square", coordinates=["deep/lat"]), tmp_path)


def test_missing_values_are_refused_or_filled(grid, tmp_path):
    def split(**settings):
        section = grid("holes", **{"y": "deep/whole", **settings})
        return load(section, seed=1, dtype="float64", base=tmp_path).train

    with pytest.raises(DataError, match=r"deep/t2m.* marked as missing in the file .*missing_value.* in row 4"):
        split()
    with pytest.raises(DataError, match=r"inputs of the training data, .*'deep/u10'.* marked as missing.* in row 2"):
        split(x=["deep/u10", "deep/whole"], stack="inputs")
    expected = np.stack([T2M, U10 * 0.5 + 3], axis=-1)
    places = [(*HOLE, 0), (9, 2, 1, 0), (2, 0, 1, 1)]
    for place in places:
        expected[place] = -1
    np.testing.assert_array_equal(take(split(fill=-1.0).x), expected)
    flat = split(fill=-1.0, stack="inputs").x
    np.testing.assert_array_equal(take(flat), np.moveaxis(expected, -1, 1).reshape(12, -1))
    masked = take(split(fill=-1.0, mask_channel=True).x)
    np.testing.assert_array_equal(masked[..., :2], expected)
    assert sorted(map(tuple, np.argwhere(masked[..., 2]))) == sorted(place[:3] for place in places)
    with pytest.raises(DataError, match=r"targets of the training data.* marked as missing"):  # those are never filled
        split(x="deep/t2m", y="deep/u10", fill=0.0)


def test_a_coordinate_with_holes_is_refused(grid, tmp_path):
    with pytest.raises(DataError, match=r"coordinate 'deep/lat' in .* has missing values"):
        read_source(grid("holes", coordinates=["deep/lat"]), tmp_path)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"x": ["deep/t2m", "deep/lat"]}, r"inputs in .* have different shapes: deep/t2m \(12, 3, 2\), deep/lat \(3,"),
        ({"x": ["deep/t3m"]}, "unknown array|unknown data set"),
        ({"coordinates": ["deep/heigth"]}, "Did you mean 'deep/height'"),
        ({"x": ["deep"]}, "unknown .* 'deep'"),
    ],
)
def test_bad_names(grid, tmp_path, settings, text):
    with pytest.raises(DataError, match=text):
        read_source(grid(**settings), tmp_path)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"coordinates": ["lat"]}, 'coordinates adds channels, but data.stack = "inputs"'),
        ({"stack": "channels", "mask_channel": True}, "mask_channel .* set data.fill"),
        ({"fill": float("nan")}, "data.fill = nan is not finite"),
        ({"x": ["a", "b", "a"]}, "data.x names 'a' twice"),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(JobError, match=text):
        check_source(schema.Zarr(path="d.zarr", **settings))


def test_names_of_axes_are_read_for_coordinates_alone(tmp_path, monkeypatch):
    write_hdf5(tmp_path / "d.nc", {**ARRAYS, "y": TIME}, {}, named=False)

    def never(_dataset):
        raise AssertionError("HDF5 may never end on damaged names of axes")

    monkeypatch.setattr(hdf5, "_axes", never)
    settings = {"path": "d.nc", "x": ["deep/t2m", "deep/u10"], "y": "deep/y", "stack": "channels"}
    assert read_source(schema.Hdf5(**settings), tmp_path).x.shape == (12, 3, 2, 2)
    with pytest.raises(AssertionError, match="may never end"):
        read_source(schema.Hdf5(**settings, coordinates=["deep/lat"]), tmp_path)
