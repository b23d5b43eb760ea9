"""The example of docs/grids.md: one result on any number of ranks, from any format, from windows made by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.mpi.launch import ROOT, sha256_of
from tests.mpi.rank_server import RankServer
from tests.mpi.served_training import train
from tests.require import require

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs/grids.md").read_text(encoding="utf-8"))
NAMES = ["t2m", "u10", "v10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the code of the page, and write the same values in other formats."""
    h5py, zarr = require("h5py"), require("zarr")
    folder = tmp_path_factory.mktemp("weather")
    (folder / "weather.toml").write_text(next(text for kind, text in BLOCKS if kind == "toml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(next(text for kind, text in BLOCKS if kind == "python"), "grids.md", "exec"), {})
    with h5py.File(folder / "weather.nc") as file:
        for form in (2, 3):
            group = zarr.open_group(folder / f"weather{form}.zarr", mode="w", zarr_format=form)
            for name in (*NAMES, "lat"):
                axes = ["time", "lat", "lon"] if name in NAMES else ["lat"]
                attributes = {key: value.item() for key, value in file[name].attrs.items() if value.dtype.kind in "if"}
                group.create_array(
                    name,
                    data=file[name][...],
                    chunks=(30, 5, 5) if name in NAMES else (8,),
                    attributes=attributes | ({"_ARRAY_DIMENSIONS": axes} if form == 2 else {}),
                    **({"dimension_names": axes} if form == 3 else {}),
                )
        fields = [file[name][...] * file[name].attrs["scale_factor"] + file[name].attrs["add_offset"] for name in NAMES]
        lat = np.broadcast_to(file["lat"][...][:, None], fields[0].shape)
    np.savez(folder / "rows.npz", x=np.stack([*fields, lat], axis=-1), y=np.stack(fields, axis=-1))
    return folder


@pytest.fixture(scope="module")
def reference(folder: Path, ranks_of_mpich: RankServer) -> str:
    return sha256_of(train(ranks_of_mpich, 1, folder / "weather.toml", "train.epochs=2", cwd=folder))


@pytest.mark.parametrize("ranks", [3, 5])
def test_any_number_of_ranks(folder: Path, ranks_of_mpich: RankServer, reference: str, ranks: int) -> None:
    settings = ["train.epochs=2", "data.keep=file"] if ranks == 3 else ["train.epochs=2"]
    assert sha256_of(train(ranks_of_mpich, ranks, folder / "weather.toml", *settings, cwd=folder)) == reference


@pytest.mark.parametrize(("form", "keep"), [(2, "file"), (3, "memory")])
def test_any_format(folder: Path, ranks_of_mpich: RankServer, reference: str, form: int, keep: str) -> None:
    text = (
        (folder / "weather.toml").read_text().replace('"hdf5"', '"zarr"').replace("weather.nc", f"weather{form}.zarr")
    )
    (folder / "zarr.toml").write_text(text)
    settings = ["train.epochs=2", f"data.keep={keep}"]
    assert sha256_of(train(ranks_of_mpich, 2, folder / "zarr.toml", *settings, cwd=folder)) == reference


def test_rows_of_an_archive(folder: Path, ranks_of_mpich: RankServer, reference: str) -> None:
    text = (folder / "weather.toml").read_text().replace('source = "hdf5"', 'source = "npz"')
    lines = [line for line in text.splitlines() if not line.startswith(("x =", "y =", "stack", "coordinates", "path"))]
    (folder / "npz.toml").write_text("\n".join(lines).replace('"npz"', '"npz"\npath = "rows.npz"'))
    assert sha256_of(train(ranks_of_mpich, 2, folder / "npz.toml", "train.epochs=2", cwd=folder)) == reference
