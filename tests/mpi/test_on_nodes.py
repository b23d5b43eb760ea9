"""hpcnn on several nodes: the same checks, and the same bits, wherever the ranks are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.comm.conformance import CHECKS
from tests.mpi.launch import ROOT, Mpi, sha256_of
from tests.mpi.nodes import Testbed


@pytest.mark.parametrize(
    ("mpi", "layout", "cyclic"),
    [
        ("mpich", [1, 1], False),
        ("mpich", [2, 2], False),
        ("mpich", [1, 3], False),
        ("mpich", [1, 1, 1, 1], False),
        ("mpich", [2, 1], True),
        ("openmpi", [1, 1], False),
        ("openmpi", [1, 2], False),
    ],
    indirect=["mpi"],
)
def test_conformance(nodes: Testbed, mpi: Mpi, tmp_path: Path, layout: list[int], cyclic: bool) -> None:
    done = nodes.run(mpi, layout, "-m", "tests.comm.conformance", cwd=tmp_path, cyclic=cyclic, timeout_s=60)
    assert done.returncode == 0, done.stderr
    expected = f"{len(CHECKS)} checks passed on {sum(layout)} ranks as MpiCommunicator"
    assert done.stdout.startswith(expected), done.stdout


TRAIN = ("-m", "hpcnn.train", ROOT / "jobs" / "digits_mlp.toml", "--quiet", "--set", "train.epochs=2")


@pytest.fixture(scope="module")
def reference(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the short job in one plain process."""
    done = mpich.run(0, *TRAIN, cwd=tmp_path_factory.mktemp("reference"))
    assert done.returncode == 0, done.stderr
    return sha256_of(done.stdout)


@pytest.mark.parametrize(
    ("mpi", "layout", "cyclic"),
    [
        ("mpich", [2, 2], False),
        ("mpich", [2, 2], True),
        ("mpich", [1, 1, 1, 1], False),
        ("mpich", [1, 3], False),
        ("openmpi", [1, 2], False),
    ],
    indirect=["mpi"],
)
def test_same_bits(nodes: Testbed, mpi: Mpi, tmp_path: Path, reference: str, layout: list[int], cyclic: bool) -> None:
    done = nodes.run(mpi, layout, *TRAIN, cwd=tmp_path, cyclic=cyclic, timeout_s=60)
    assert done.returncode == 0, done.stderr
    assert sha256_of(done.stdout) == reference
