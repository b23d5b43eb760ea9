"""Bad input: one message, exit code 2, in seconds, on any number of ranks, with nothing overwritten."""

from __future__ import annotations

import gzip
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.mpi.launch import Mpi
from tests.timing import check_in_time

BAD_INPUT, FAILURE = 2, 1
LIMIT_S = 5.0
RANKS = [0, 3]
FOUND_TOGETHER = "missing data", "labels out of range", "nan in the data", "batch too large", "unknown key"
"""Cases for several ranks: when the data are opened, when each rank reads its share, and in the job alone."""

JOB = """
[data]
source = "npz"
path = "data.npz"

[model]
layers = [{ type = "dense", units = 8, activation = "relu" }, { type = "dense", units = 3, activation = "softmax" }]

[loss]
name = "sparse_categorical_crossentropy"

[train]
epochs = 2
batch_size = 16
shards = 4
metrics = ["accuracy"]
"""


def write_data(folder: Path, **changes: np.ndarray) -> None:
    random = np.random.default_rng(0)
    arrays = {"x": random.standard_normal((64, 5)).astype(np.float32), "y": random.integers(0, 3, 64)} | changes
    np.savez(folder / "data.npz", **arrays)


def with_nan(folder: Path) -> None:
    x = np.zeros((64, 5), np.float32)
    x[40, 3] = np.nan
    write_data(folder, x=x)


def truncated_npz(folder: Path) -> None:
    write_data(folder)
    whole = (folder / "data.npz").read_bytes()
    (folder / "data.npz").write_bytes(whole[: len(whole) // 2])


def truncated_idx(folder: Path) -> None:
    for name, head, body in (
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x803, 10, 4, 4), bytes(99)),
        ("train-labels-idx1-ubyte.gz", struct.pack(">2I", 0x801, 10), bytes(10)),
        ("t10k-images-idx3-ubyte", struct.pack(">4I", 0x803, 2, 4, 4), bytes(32)),
        ("t10k-labels-idx1-ubyte", struct.pack(">2I", 0x801, 2), bytes(2)),
    ):
        content = head + body
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


Prepare = Callable[[Path], None]
CASES: dict[str, tuple[Prepare, list[str], str]] = {
    "missing data": (lambda folder: None, [], r"data\.npz"),
    "truncated npz": (truncated_npz, [], r"data\.npz"),
    "truncated idx": (
        truncated_idx,
        [
            'data={source="idx", folder="."}',
            "model.layers=[{type='flatten'}, {type='dense', units=10, activation='softmax'}]",
        ],
        r"train-images-idx3-ubyte",
    ),
    "labels out of range": (lambda f: write_data(f, y=np.full(64, 3)), [], r"0 .* 2|\[0, 3\)|0 to 2"),
    "nan in the data": (with_nan, [], r"(column|feature).*\b3\b"),
    "shapes that don't fit": (
        write_data,
        ["model.layers=[{type='reshape', shape=[2, 3]}, {type='activation', activation='softmax'}]"],
        r"\(5,\)|5",
    ),
    "counts differ": (lambda f: write_data(f, y=np.zeros(63, np.int64)), [], r"64.*63"),
    "unknown key": (write_data, ["train.epocs=3"], r"unknown key 'epocs'.*Did you mean 'epochs'"),
    "unknown layer": (write_data, ["model.layers.0.type=dens"], r"'dens'.*Did you mean 'dense'"),
    "unknown activation": (write_data, ["model.layers.0.activation=rellu"], r"'rellu'.*Did you mean 'relu'"),
    "unknown loss": (write_data, ["loss.name=msee"], r"'msee'.*Did you mean 'mse'"),
    "batch too large": (write_data, ["train.batch_size=65"], r"train\.batch_size = 65.*64"),
    "shapes of targets": (write_data, ["loss.name=mse"], r"one_hot|shape"),
}


def one_message(stderr: str) -> str:
    """Return the one message; launchers add nothing when all ranks leave by themselves."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("hpcnn"), stderr
    assert ": error: " in lines[0]
    assert "Traceback" not in stderr
    return lines[0]


@pytest.mark.timed
@pytest.mark.parametrize(("case", "ranks"), [*((case, 0) for case in CASES), *((case, 3) for case in FOUND_TOGETHER)])
def test_bad_job_or_data(mpich: Mpi, tmp_path: Path, case: str, ranks: int) -> None:
    prepare, overrides, pattern = CASES[case]
    prepare(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    options = [part for override in overrides for part in ("--set", override)]
    begin = time.monotonic()
    done = mpich.run(ranks, "-m", "hpcnn.train", "job.toml", *options, "--out", "run", cwd=tmp_path)
    assert done.returncode == BAD_INPUT, f"{done.stdout}\n{done.stderr}"
    seconds = time.monotonic() - begin
    assert re.search(pattern, one_message(done.stderr)), done.stderr
    assert not (tmp_path / "run" / "result.json").exists()
    check_in_time(seconds, LIMIT_S)


COMMAND_LINES: dict[str, tuple[list[str], str]] = {
    "no such job": (["-m", "hpcnn.train", "nosuch.toml"], r"nosuch\.toml"),
    "unknown option": (["-m", "hpcnn.train", "--bogus"], r"--bogus"),
    "override without a value": (["-m", "hpcnn.train", "--set", "train.epochs"], r"train\.epochs"),
    "no such checkpoint": (["-m", "hpcnn.train", "--resume", "nosuch"], r"no checkpoint"),
    "no such run": (["-m", "hpcnn.evaluate", "nosuch"], r"no run 'nosuch'"),
    "no command": (["-m", "hpcnn", "fly"], r"fly"),
}


@pytest.mark.timed
@pytest.mark.parametrize(
    ("case", "ranks"),
    [*((case, 0) for case in COMMAND_LINES), ("unknown option", 3), ("no such checkpoint", 3), ("no such run", 3)],
)
def test_bad_command_line(mpich: Mpi, tmp_path: Path, case: str, ranks: int) -> None:
    arguments, pattern = COMMAND_LINES[case]
    begin = time.monotonic()
    done = mpich.run(ranks, *arguments, cwd=tmp_path)
    assert done.returncode == BAD_INPUT, f"{done.stdout}\n{done.stderr}"
    seconds = time.monotonic() - begin
    assert re.search(pattern, one_message(done.stderr)), done.stderr
    check_in_time(seconds, LIMIT_S)


@pytest.fixture
def finished(mpich: Mpi, tmp_path: Path) -> Path:
    """A folder with a job, its data and a finished run in `run`."""
    write_data(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    done = mpich.run(0, "-m", "hpcnn.train", "job.toml", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REFUSED: dict[str, tuple[list[str], str]] = {
    "folder taken": ([], r"'run' holds a run already"),
    "another job's run": (["--resume", "auto", "--set", "train.batch_size=8"], r"train\.batch_size: 16 -> 8"),
    "another model": (["--resume", "auto", "--set", "model.layers.0.units=9"], r"model\.layers\.0\.units: 8 -> 9"),
    "too many ranks": (["--resume", "auto", "--set", "train.epochs=9"], r"5 ranks for 4 gradient shards"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_is_overwritten(mpich: Mpi, finished: Path, case: str) -> None:
    options, pattern = REFUSED[case]
    before = content(finished / "run")
    ranks = 5 if case == "too many ranks" else 3
    done = mpich.run(ranks, "-m", "hpcnn.train", "job.toml", "--out", "run", *options, cwd=finished)
    assert done.returncode == BAD_INPUT, f"{done.stdout}\n{done.stderr}"
    assert re.search(pattern, one_message(done.stderr)), done.stderr
    assert content(finished / "run") == before


def test_checkpoint_of_another_model(mpich: Mpi, finished: Path) -> None:
    """The job in the file says one thing, its weights another."""
    from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

    path = finished / "run" / "model.safetensors"
    checkpoint = load_checkpoint(path)
    tensors = dict(checkpoint.tensors)
    tensors["model/dense_1/kernel"] = tensors["model/dense_1/kernel"][:, :4]
    save_checkpoint(path, Checkpoint(tensors, checkpoint.facts))
    for ranks in RANKS:
        done = mpich.run(ranks, "-m", "hpcnn.evaluate", "run", cwd=finished)
        assert done.returncode == BAD_INPUT
        assert "'dense_1/kernel' has shape (5, 4)" in one_message(done.stderr)


@pytest.mark.parametrize("ranks", RANKS)
def test_damaged_checkpoint(mpich: Mpi, finished: Path, ranks: int) -> None:
    path = finished / "run" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    done = mpich.run(ranks, "-m", "hpcnn.evaluate", "run", cwd=finished)
    assert done.returncode == BAD_INPUT
    assert "model.safetensors" in one_message(done.stderr)


@pytest.mark.parametrize("ranks", [0, 4])
def test_divergence_names_step_rank_and_layer(mpich: Mpi, finished: Path, ranks: int) -> None:
    """The loss is infinite at the second step: the job ends there, and what was saved stays."""
    done = mpich.run(
        ranks,
        *("-m", "hpcnn.train", "job.toml", "--out", "diverging", "--set", "optimizer={name='sgd'}"),
        *("--set", "optimizer.learning_rate=1e38", "--set", "run.display=quiet"),
        cwd=finished,
    )
    assert done.returncode == FAILURE
    message = one_message(done.stderr)
    assert re.search(r"step 2 \(epoch 1\), rank \d on \S+: the loss is not finite; .* layer 'dense_[12]'", message)
    assert not (finished / "diverging" / "result.json").exists()


@pytest.mark.timed
def test_file_missing_on_one_rank_alone(mpich: Mpi, finished: Path) -> None:
    """As on a cluster where one node lacks a mount: the rank is named, no rank hangs."""
    program = "\n".join(
        (
            "import os, sys",
            "os.chdir('/') if os.environ['PMI_RANK'] == '1' else None",
            "from hpcnn.train import main",
            f"sys.exit(main([{str(finished / 'job.toml')!r}, '--out', {str(finished / 'new')!r}, '--set', "
            f"'data.path=' + (os.environ['PMI_RANK'] == '1' and 'gone.npz' or 'data.npz')]))",
        )
    )
    (finished / "program.py").write_text(program)
    begin = time.monotonic()
    done = mpich.run(3, "program.py", cwd=finished)
    assert done.returncode == BAD_INPUT, done.stderr
    seconds = time.monotonic() - begin
    assert "rank 1 on " in one_message(done.stderr)
    check_in_time(seconds, LIMIT_S)


@pytest.mark.parametrize("options", [["--bogus"], ["--set", "train.epocs=1"], ["--set", "train.shards=1"], []])
def test_one_message_under_open_mpi(open_mpi: Mpi, tmp_path: Path, options: list[str]) -> None:
    """Its mpirun adds lines of its own, and ends the job as soon as one rank leaves with a code that is not 0."""
    (tmp_path / "job.toml").write_text(JOB)  # and no data
    done = open_mpi.run(2, "-m", "hpcnn.train", "job.toml", *options, cwd=tmp_path)
    assert done.returncode == BAD_INPUT, done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("hpcnn")]) == 1, done.stderr
    assert "Traceback" not in done.stderr
