"""`[data]`: files with arrays, whose first axis is that of the samples."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.data.base import DataSection, FileSection, Texts
from hpcnn.job.section import Text


class ArraySection(FileSection, frozen=True, kw_only=True):
    """Settings of files with named arrays, whose first axis is that of the samples."""

    x: Texts = "x"
    """Name of the array of inputs; or a list of them, side by side, which are the model's inputs by name."""
    y: str | Annotated[list[Text], Meta(min_length=1)] = "y"
    """Name of the array of targets; or a list of them, side by side, in the order of the model's outputs. Empty, with \
`window`: the inputs themselves, later."""
    weights: str = ""
    """Name of the array of weights of the samples."""
    group: str = ""
    """Name of the array that says which samples belong together."""
    validation_x: str | list[Text] = ""
    """Name of an array of inputs for validation, of the same file; or a list."""
    validation_y: str | list[Text] = ""
    """The same of targets."""
    validation_weights: str = ""
    """The same of weights."""


class Npz(ArraySection, frozen=True, kw_only=True, tag="npz"):
    """One NumPy `.npz` archive."""


class Npy(DataSection, frozen=True, kw_only=True, tag="npy"):
    """A pair of NumPy `.npy` files, memory-mapped."""

    x_path: Text
    """Inputs, one row per sample."""
    y_path: str
    """Targets, one row per sample. Empty, with `window`: the inputs themselves, later."""
    validation_x_path: str = ""
    """Inputs for validation."""
    validation_y_path: str = ""
    """Targets for validation."""
    weights_path: str = ""
    """Weights of the samples, one number each."""
    validation_weights_path: str = ""
    """The same for validation."""
    group_path: str = ""
    """Numbers that say which samples belong together."""


class GridSection(ArraySection, frozen=True, kw_only=True):
    """Settings of files with named arrays in groups, which may become channels."""

    stack: Literal["inputs", "channels"] = "inputs"
    """What a list of arrays in `x` or `y` becomes. `inputs`: several inputs of the model by name, side by side; of \
targets, those of its outputs in order. `channels`: one array with a new last axis, as (lat, lon, 3); a single array \
gets one, too."""
    coordinates: list[Text] = []
    """`channels`: arrays that become further channels, repeated along the axes that they lack: as `lat`, `lon`."""
    fill: float | None = None
    """Number in place of missing inputs. Without it they are refused; so are missing targets."""
    mask_channel: bool = False
    """With `fill`: one more channel, 1 where a value was missing in any of the others, else 0."""


class Hdf5(GridSection, frozen=True, kw_only=True, tag="hdf5"):
    """Arrays of one HDF5 or netCDF-4 file, by names with their groups (`group/x`), read row by row (extra `hdf5`)."""


class Zarr(GridSection, frozen=True, kw_only=True, tag="zarr"):
    """Arrays of one Zarr store, format 2 or 3, by names with groups: folder, `.zip` file or address (extra `zarr`)."""
