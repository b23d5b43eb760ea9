"""`import hpcnn.torch as hvd` in scripts that were written for Horovod or for DDP, under mpirun."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hpcnn.torch as hvd
from tests.mpi import launch
from tests.mpi.launch import ROOT, Mpi
from tests.require import missing

ASKED = """
init shutdown rank size local_rank local_size cross_rank cross_size is_initialized allreduce allreduce_ allreduce_async
allreduce_async_ grouped_allreduce grouped_allreduce_ grouped_allreduce_async grouped_allreduce_async_ allgather
allgather_async broadcast broadcast_ broadcast_async broadcast_async_ alltoall alltoall_async reducescatter
reducescatter_async join barrier poll synchronize broadcast_parameters broadcast_optimizer_state broadcast_object
allgather_object DistributedOptimizer SyncBatchNorm Compression ProcessSet DistributedDataParallel DistributedSampler
"""


@pytest.fixture(scope="module")
def torch_environment() -> Mpi:
    """Return the MPI of this environment, which has PyTorch."""
    if importlib.util.find_spec("torch") is None:
        missing(f"PyTorch is not installed in {sys.prefix}")
    return launch.mpich()


def test_every_name_is_there(torch_environment: Mpi) -> None:
    assert set(ASKED.split()) <= set(hvd.__all__) <= set(dir(hvd))
    assert all(getattr(hvd, name) is not None for name in hvd.__all__)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elastic", "hpcnn.torch has no 'elastic'. Save checkpoints and start the job again"),
        ("Adasum", "hpcnn.torch has no 'Adasum'. Use op=hvd.Average"),
        ("sparse_allreduce_async", "hpcnn.torch has no 'sparse_allreduce_async'. Use allreduce of tensor.to_dense"),
        ("DistributedDataParalel", "hpcnn.torch has no 'DistributedDataParalel'. Did you mean 'DistributedDataPar"),
    ],
)
def test_names_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(AttributeError, match="^" + re.escape(message)):
        getattr(hvd, name)


def test_importing_it_is_light() -> None:
    code = "import sys, hpcnn.torch as hvd; hvd.rank; print(*[n for n in ('torch', 'mpi4py') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []


@pytest.mark.parametrize("ranks", [0, 3])
@pytest.mark.parametrize(("script", "checks"), [("collectives", 6), ("training", 15)])
def test_checks(torch_environment: Mpi, ranks: int, script: str, checks: int, tmp_path: Path) -> None:
    done = torch_environment.run(ranks, "-m", f"tests.torch.scripts.{script}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{checks} checks passed on {max(1, ranks)} ranks" in done.stdout


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("raises", 1, "rank 1 on .*ZeroDivisionError: an error of the script's own"),
        (
            "leaves",
            2,
            "the ranks do not .* rank 0 makes gradients.DistributedDataParallel. of float32 .1, 3.*, rank 1 the end of "
            "its program.*: in PyTorch, give DataLoader batch_sampler=hpcnn.torch.DistributedBatchSampler",
        ),
        ("early", 2, r"^the ranks are not connected: call init\(\) first\n"),
        ("differs", 2, r"the ranks do not make the same call: rank 0 makes broadcast.*\(1, 3\).* rank 1 .*\(2, 3\)"),
        ("mixes", 2, "rank 0 makes gradients.*, rank 1 allreduce"),
        ("accumulates", 2, "2 backward passes before optimizer.step.*, and backward_passes_per_step=1: give"),
        ("zeroes", 2, "zero_grad.* between backward.* and step.*: the other ranks wait for these gradients"),
    ],
)
def test_what_goes_wrong_on_a_rank_ends_the_job(
    torch_environment: Mpi, what: str, code: int, message: str, tmp_path: Path
) -> None:
    done = torch_environment.run(2, "-m", "tests.torch.scripts.failing", what, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    _, *errors = done.stderr.split("hpcnn: error: ")
    assert len(errors) == 1, done.stderr
    assert re.search(message, errors[0], re.DOTALL), done.stderr


def test_the_example_of_the_guide(torch_environment: Mpi, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "torch-scripts.md").read_text(encoding="utf-8")
    (script,) = [block for block in re.findall(r"^```python\n(.*?)^```", guide, re.M | re.S) if "load_digits" in block]
    (tmp_path / "train.py").write_text(script)
    found = {}
    for ranks in (0, 2):
        done = torch_environment.run(ranks, "train.py", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found[ranks] = float(done.stdout.split("accuracy ")[1])
    assert found[0] > 0.95
    assert abs(found[0] - found[2]) < 0.03
