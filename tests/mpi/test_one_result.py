"""One SHA-256 for a job on every instruction set, number of ranks and threads, MPI, NumPy, BLAS and environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hpcnn.comm.protocol import Communicator
from hpcnn.errors import EXIT_STOPPED
from tests.kernels.build import variants
from tests.mpi import network_jobs
from tests.mpi.launch import ROOT, Mpi, sha256_of
from tests.mpi.rank_server import RankServer
from tests.mpi.served_training import train
from tests.mpi.test_jobs import MNIST, write_mnist
from tests.mpi.test_jobs import OF_HPCNN as JOBS
from tests.quick_jobs import TINY, changes_of
from tests.require import missing

DIGITS = "digits_mlp.toml"
NUMPY_FOLDER = "HPCNN_NUMPY20_FOLDER"
EPOCHS = {"linear_regression.toml": 3, "sigmoid_net.toml": 20, "binary_nesterov.toml": 1}
OPTIMIZERS = {
    "momentum": 'name = "sgd"\nlearning_rate = 0.05\nmomentum = 0.9',
    "nesterov": 'name = "sgd"\nlearning_rate = 0.05\nmomentum = 0.9\nnesterov = true\nclip_norm = 0.5',
    "adamw": 'name = "adamw"\nlearning_rate = 0.003\nclip_value = 0.1',
    "rmsprop": 'name = "rmsprop"\nlearning_rate = 0.003\ncentered = true\nmomentum = 0.5',
    "adagrad": 'name = "adagrad"\nlearning_rate = 0.05',
}
OTHERS = {
    "wide": ["model.layers.1.units=192", "model.layers.3.units=192", "train.batch_size=full"],
    "steered": [
        "train.epochs=4",
        "loss.class_weights=balanced",
        "train.early_stopping.patience=1",
        "train.reduce_on_plateau.patience=1",
        "model.layers.1.kernel_l2=0.001",
        "model.layers.3.kernel_l1=0.0001",
        'train.metrics=["accuracy", "f1", "top_k_accuracy"]',
    ],
}
"""The digits job with products large enough for several threads, and with all that decides by values."""
NETWORKS = [f"{name}.toml" for name in TINY]
CASES = [*JOBS, *OPTIMIZERS, *OTHERS, *network_jobs.JOBS]
RANKS = {"avx512": (2, 5), "avx2": (1, 8), "neon": (2, 5), "scalar": (0, 3)}


def settings_of(case: str, folder: Path) -> tuple[Path, list[str]]:
    """Return a job file and what makes it short. The optimizers train the digits job, which has dropout."""
    if case in OPTIMIZERS:
        path = folder / f"{case}.toml"
        before, rest = JOBS[DIGITS].read_text().split("[optimizer]")
        path.write_text(f"{before}[optimizer]\n{OPTIMIZERS[case]}\n\n[schedule]{rest.split('[schedule]')[1]}")
        return path, ["train.epochs=1"]
    if case in network_jobs.JOBS:
        return network_jobs.write(case, folder), []
    if case in OTHERS:
        return JOBS[DIGITS], ["train.epochs=2", *OTHERS[case]]
    if case in MNIST:
        if not (folder / "mnist").exists():
            write_mnist(folder / "mnist")
        return JOBS[case], ["train.epochs=1", "train.shards=8", f"data.folder={folder / 'mnist'}"]
    if case in NETWORKS:
        return JOBS[case], changes_of(Path(case).stem, folder, tiny=True)
    return JOBS[case], [f"train.epochs={EPOCHS.get(case, 2)}", "train.shards=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("one_result")


@pytest.fixture(scope="module")
def ranks_with(mpich: Mpi, folder: Path) -> Iterator[object]:
    """Return what starts ranks with variables in their environment, once for all tests of the module."""
    servers: dict[tuple[tuple[str, str], ...], RankServer] = {}
    with ExitStack() as stack:

        def started(**variables: str) -> RankServer:
            key = tuple(sorted(variables.items()))
            if key not in servers:
                own = folder / f"ranks-{len(servers)}"
                own.mkdir()
                servers[key] = stack.enter_context(RankServer(replace(mpich, variables=key), 8, own))
            return servers[key]

        yield started


@pytest.fixture(scope="module")
def expected(ranks_with, folder: Path):
    """Return what gives the hash of a case on one rank, without MPI, with the widest instruction set."""
    known: dict[str, str] = {}

    def of(case: str) -> str:
        if case not in known:
            known[case] = trained(ranks_with(), 0, case, folder)
        return known[case]

    return of


def trained(server: RankServer, ranks: int, case: str, folder: Path, threads: int = 1) -> str:
    job, settings = settings_of(case, folder)
    environment = {"HPCNN_THREADS": str(threads)}
    return sha256_of(train(server, ranks, job, *settings, cwd=folder, environment=environment))


@pytest.mark.parametrize("isa", variants())
@pytest.mark.parametrize("case", CASES)
def test_instruction_sets_ranks_and_threads(ranks_with, expected, folder: Path, case: str, isa: str) -> None:
    server = ranks_with(HPCNN_ISA=isa)
    for ranks in RANKS[isa]:
        for threads in (2, 3) if case == "wide" else (1 + (ranks + len(case)) % 3,):
            assert trained(server, ranks, case, folder, threads=threads) == expected(case), ranks


@pytest.mark.parametrize("case", CASES)
def test_another_numpy(ranks_with, expected, folder: Path, case: str) -> None:
    numpy = Path(os.environ.get(NUMPY_FOLDER, "/nonexistent"))
    if not (numpy / "numpy").exists():
        missing(f"there is no NumPy 2.0 in {numpy}; {NUMPY_FOLDER} names its folder")
    server = ranks_with(PYTHONPATH=f"{numpy}{os.pathsep}{ROOT}")
    assert server.call(1, f"{__name__}:numpy_version", cwd=folder)[0].value.startswith("2.0.")
    assert trained(server, 2, case, folder) == expected(case)


def numpy_version(comm: Communicator) -> str:
    import numpy as np

    return np.__version__


@pytest.mark.parametrize("case", [*JOBS, *network_jobs.JOBS])
def test_open_mpi(ranks_of_open_mpi: RankServer, expected, folder: Path, case: str) -> None:
    assert trained(ranks_of_open_mpi, 3, case, folder) == expected(case)


@pytest.mark.parametrize("kernels", ["Haswell", "SkylakeX"])
@pytest.mark.parametrize("case", JOBS)
def test_kernels_of_blas(ranks_with, expected, folder: Path, case: str, kernels: str) -> None:
    if kernels == "SkylakeX" and "avx512" not in variants():
        kernels = "Nehalem"  # those for AVX-512 would end the process
    assert trained(ranks_with(OPENBLAS_CORETYPE=kernels), 2, case, folder) == expected(case)


def test_an_empty_environment(mpich: Mpi, expected, folder: Path) -> None:
    job, settings = settings_of(DIGITS, folder)
    options = [word for setting in settings for word in ("--set", setting)]
    command = [mpich.python, "-m", "hpcnn.train", str(job), "--quiet", *options]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT)}, cwd=folder, capture_output=True, text=True, timeout=300, check=True
    )
    assert sha256_of(done.stdout) == expected(DIGITS)


def choose(comm: Communicator, sets: list[str]) -> str:
    """Take another instruction set on each rank, before the core is loaded; return which."""
    os.environ["HPCNN_ISA"] = sets[comm.rank % len(sets)]
    from hpcnn.kernels import core

    return core.isa()


@pytest.mark.parametrize("case", CASES)
def test_unlike_ranks_of_one_job(ranks_with, expected, folder: Path, case: str) -> None:
    server = ranks_with(HPCNN_ISA="")
    isas = [answer.value for answer in server.call(3, f"{__name__}:choose", variants(), cwd=folder)]
    assert isas == [variants()[rank % len(variants())] for rank in range(3)]
    assert trained(server, 3, case, folder) == expected(case)


@pytest.mark.parametrize("case", [*NETWORKS, *network_jobs.JOBS])
def test_resumed_on_another_number_of_ranks_and_instruction_set(ranks_with, expected, folder: Path, case: str) -> None:
    job, settings = settings_of(case, folder)
    out, before, after = folder / f"{case}-resumed", variants()[-2:][0], variants()[-1]
    stop = [*settings, "run.stop_at_step=1"]
    train(ranks_with(HPCNN_ISA=before), 2, job, *stop, cwd=folder, out=out, expect=EXIT_STOPPED)
    resumed = train(ranks_with(HPCNN_ISA=after), 5, job, *settings, cwd=folder, out=out, resume="auto")
    assert sha256_of(resumed) == expected(case)


def test_the_check_can_fail(ranks_with, expected, folder: Path) -> None:
    """NumPy's arithmetic has other bits with other kernels of BLAS, and another job has another result."""
    job, settings = settings_of(DIGITS, folder)
    if "avx512" in variants():
        servers = [ranks_with(OPENBLAS_CORETYPE=kernels) for kernels in ("Haswell", "SkylakeX")]
        numpy = [train(server, 2, job, *settings, "train.arithmetic=numpy", cwd=folder) for server in servers]
        assert sha256_of(numpy[0]) != sha256_of(numpy[1])
    other = train(ranks_with(), 2, job, *settings, "train.seed=1", cwd=folder)
    assert sha256_of(other) != expected(DIGITS)
