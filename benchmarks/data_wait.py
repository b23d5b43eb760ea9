"""How long a training waits for its data: jobs/digits_cnn.toml, with the digits in files that are read as it goes on.

    python -m benchmarks.data_wait

Starts the ranks itself, by the mpirun of the environment.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
from PIL import Image

from benchmarks.report import facts, make_parser, positive
from hpcnn.comm.serial import SerialCommunicator

ROOT = Path(__file__).parents[1]
COMMON = {"validation_fraction": 0.2, "scale": "standardize", "scale_over": "all"}
HDF5 = {"source": "hdf5", "path": "digits.h5", "keep": "file"}
SOURCES: dict[str, dict[str, object]] = {
    "in memory": {"source": "digits"},
    "npy": {"source": "npy", "x_path": "x.npy", "y_path": "y.npy"},
    "gzip HDF5, windows": HDF5 | {"order": "windows", "window_chunks": 4},
    "the same, not read ahead": HDF5 | {"order": "windows", "window_chunks": 4, "prefetch": 0},
    "gzip HDF5, global": HDF5,
    "PNG": {"source": "images", "folder": "pictures", "channels": "grey", "keep": "file"},
    "PNG, not read ahead": {
        "source": "images",
        "folder": "pictures",
        "channels": "grey",
        "keep": "file",
        "prefetch": 0,
    },
}
STEP = ("compute", "wait", "reduce", "data")
"""Shares of the time that are those of the steps."""


def write_digits(folder: Path) -> None:
    """Write the digits in each of the formats."""
    with np.load(ROOT / "hpcnn" / "data" / "digits.npz") as digits:
        x, y = digits["x"], digits["y"]
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    with h5py.File(folder / "digits.h5", "w") as file:
        for name, rows in (("x", x), ("y", y)):
            file.create_dataset(name, data=rows, chunks=(64, *rows.shape[1:]), compression="gzip")
    for number, (pixels, label) in enumerate(zip(x.reshape(-1, 8, 8), y, strict=True)):
        place = folder / "pictures" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:04}.png")


def write_job(folder: Path, data: dict[str, object]) -> Path:
    """Write the job with another section of data."""
    text = (ROOT / "jobs" / "digits_cnn.toml").read_text(encoding="utf-8")
    lines = [f"{key} = {json.dumps(value)}" for key, value in (data | COMMON).items()]
    job = folder / "job.toml"
    job.write_text(re.sub(r"\[data\].*?(?=\n\[)", "\n".join(["[data]", *lines, ""]), text, flags=re.DOTALL))
    return job


def wait_of(folder: Path, job: Path, ranks: int, epochs: int) -> float:
    """Return what part of the time of the steps a training waits for its data."""
    out = next(path for place in count() if not (path := folder / f"run{place}").exists())
    words = ["mpirun", "-n", str(ranks), sys.executable, "-m", "hpcnn.train", str(job), "--quiet", "--out", str(out)]
    done = subprocess.run(
        [*words, "--set", f"train.epochs={epochs}"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        sys.exit(done.stderr)
    shares = json.loads((out / "result.json").read_text(encoding="utf-8"))["time"]
    return float(shares["data"] / sum(shares[name] for name in STEP))


def main() -> int:
    parser = make_parser("data_wait", "Measures how long steps wait for data.", ranks=1, rounds=3)
    parser.add_argument("--ranks", type=positive, default=2, metavar="N", help="2")
    parser.add_argument("--epochs", type=positive, default=4, metavar="N", help="of each training; 4")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES), help="; all of them")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in arguments.sources}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder)
        for _ in range(arguments.rounds):
            for source in found:
                job = write_job(folder, SOURCES[source])
                found[source].append(wait_of(folder, job, arguments.ranks, arguments.epochs))
    for source, shares in found.items():
        print(f"{source:<28}{100 * statistics.median(shares):8.2f} %  of the time of the steps")
    if arguments.json is not None:
        content = facts(SerialCommunicator()) | {"ranks": arguments.ranks, "epochs": arguments.epochs} | found
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
