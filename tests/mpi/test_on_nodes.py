"""hpcnn on several nodes: the same checks, and the same bits, wherever the ranks are."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from hpcnn.comm.exchange.choice import CHOICE
from hpcnn.job.load import builtin_jobs, load_job
from hpcnn.runs.prediction.advice import Advice, advise
from hpcnn.tools.report.read import read_run
from tests.comm.conformance import CHECKS
from tests.mpi.launch import ROOT, Mpi, sha256_of
from tests.mpi.nodes import Testbed
from tests.require import require


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
    done = nodes.run(mpi, layout, "-m", "tests.comm.conformance", cwd=tmp_path, cyclic=cyclic)
    assert done.returncode == 0, done.stderr
    expected = f"{len(CHECKS)} checks passed on {sum(layout)} ranks as MpiCommunicator"
    assert done.stdout.startswith(expected), done.stdout


@pytest.mark.parametrize(("mpi", "layout"), [("mpich", [1, 2]), ("openmpi", [2])], indirect=["mpi"])
def test_pytorch_scripts(nodes: Testbed, mpi: Mpi, tmp_path: Path, layout: list[int]) -> None:
    require("torch")
    torch_folder = sysconfig.get_path("platlib")  # the environment of Open MPI has no PyTorch of its own
    command = ("-m", "tests.torch.borrowing", torch_folder, "tests.torch.scripts.training")
    # Buckets as small as those of the checks would be slower than a gather, which has none.
    done = nodes.run(mpi, layout, *command, cwd=tmp_path, environment={CHOICE: "direct"})
    assert done.returncode == 0, done.stderr
    assert f"checks passed on {sum(layout)} ranks" in done.stdout


JOB = load_job(builtin_jobs() / "digits_mlp.toml", ["train.shards=8"]).job
TRAIN = ("-m", "hpcnn.train", ROOT / "jobs" / "digits_mlp.toml", "--quiet", "--set", "train.epochs=2")


@pytest.fixture(scope="module")
def reference(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the short job in one plain process."""
    done = mpich.run(0, *TRAIN, cwd=tmp_path_factory.mktemp("reference"))
    assert done.returncode == 0, done.stderr
    return sha256_of(done.stdout)


@pytest.mark.parametrize(
    ("mpi", "layout", "cyclic", "exchange"),
    [
        ("mpich", [2, 2], False, "halving"),
        ("mpich", [2, 2], True, "direct"),
        ("mpich", [1, 1, 1, 1], False, ""),
        ("mpich", [1, 1, 1, 1], False, "halving"),
        ("mpich", [1, 3], False, "halving"),
        ("mpich", [3, 2, 1], False, "halving"),
        ("openmpi", [1, 2], False, "halving"),
    ],
    indirect=["mpi"],
)
def test_same_bits(
    nodes: Testbed, mpi: Mpi, tmp_path: Path, reference: str, layout: list[int], cyclic: bool, exchange: str
) -> None:
    measured = (*TRAIN, "--set", "run.noise_scale_every=5")
    done = nodes.run(mpi, layout, *measured, cwd=tmp_path, cyclic=cyclic, environment={CHOICE: exchange})
    assert done.returncode == 0, done.stderr
    assert sha256_of(done.stdout) == reference
    advice = advise(JOB, read_run(tmp_path / "runs" / "digits_mlp").times, 100.0)
    if len(set(layout)) > 1:
        assert "different numbers of ranks" in str(advice)
    else:
        assert isinstance(advice, Advice)
        assert (advice.own_nodes, advice.tasks) == (len(layout), layout[0])
        assert (advice.network is None) == bool(exchange)  # a choice that was made needs no measurement


COMPRESSED = (*TRAIN, "--set", "train.compression=bf16", "--set", "train.compression_groups=2")


@pytest.fixture(scope="module")
def compressed(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the short job with compression in one plain process."""
    done = mpich.run(0, *COMPRESSED, cwd=tmp_path_factory.mktemp("compressed"))
    assert done.returncode == 0, done.stderr
    return sha256_of(done.stdout)


def test_compression_halves_what_travels(
    nodes: Testbed, mpich: Mpi, tmp_path: Path, reference: str, compressed: str
) -> None:
    sent = []
    for job, sha256 in ((TRAIN, reference), (COMPRESSED, compressed)):
        before = nodes.sent_bytes("node1")
        replicated = (*job, "--set", "train.optimizer_sharding=false")
        done = nodes.run(mpich, [1, 1], *replicated, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        sent.append(nodes.sent_bytes("node1") - before)
        assert sha256_of(done.stdout) == sha256
    assert compressed != reference
    assert 0.45 < sent[1] / sent[0] < 0.6


@pytest.mark.parametrize(("mpi", "sharding"), [("mpich", "true"), ("openmpi", "auto")], indirect=["mpi"])
def test_compressed_stopped_on_nodes_and_resumed_alone(
    nodes: Testbed, mpi: Mpi, tmp_path: Path, compressed: str, sharding: str
) -> None:
    """The number of groups that was left open stays that of the nodes at the start."""
    job = (*TRAIN, "--set", "train.compression=bf16", "--out", tmp_path / "run")
    faster = ("--set", f"train.optimizer_sharding={sharding}", "--set", "train.bucket_mb=0.03")
    stopped = nodes.run(mpi, [1, 2], *job, *faster, "--set", "run.stop_at_step=9", cwd=tmp_path)
    assert "stopped after step 9" in stopped.stdout, stopped.stderr
    done = mpi.run(0, *job, "--resume", "auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sha256_of(done.stdout) == compressed


def test_few_parameters_are_compressed_too(nodes: Testbed, mpich: Mpi, tmp_path: Path) -> None:
    few = (*COMPRESSED, "--set", "model.layers.1.units=4", "--set", "model.layers.3.units=4")
    alone = mpich.run(0, *few, cwd=tmp_path)
    together = nodes.run(mpich, [1, 1], *few, cwd=tmp_path)
    assert together.returncode == 0, together.stderr
    assert sha256_of(together.stdout) == sha256_of(alone.stdout)


SAVING = """
import sys
from hpcnn.runs.checkpoints import saver
from hpcnn.storage.draft import Draft
saver._SMALL_BYTES = 0  # so that every rank writes its part
write = Draft.write
def told(draft, descriptor, arrays, share, beat):
    if not share.root and draft.path.name.startswith(".step"):
        print("writes" if descriptor is not None else "leaves it to rank 0", flush=True)
    return write(draft, descriptor, arrays, share, beat)
Draft.write = told
from hpcnn.train import main
sys.exit(main())
"""


def test_a_run_folder_that_each_node_has_for_itself(nodes: Testbed, mpich: Mpi, tmp_path: Path) -> None:
    """Rank 0 writes the checkpoints then; on a shared one each rank its part. The files are the same."""
    (tmp_path / "program.py").write_text(SAVING)
    files, said = {}, {"shared": "writes", "own": "leaves it to rank 0"}
    (tmp_path / "own").mkdir()
    nodes.start_on("node2", "mount", "-t", "tmpfs", "tmpfs", tmp_path / "own", cwd=tmp_path).communicate()
    try:
        for name, expected in said.items():
            out = Path(name, "run")
            done = nodes.run(mpich, [2, 1], "program.py", *TRAIN[2:], "--out", out, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            assert {line for line in done.stdout.splitlines() if line in said.values()} == {expected}
            files[name] = (tmp_path / out / "checkpoints" / "last.safetensors").read_bytes()
        assert files["own"] == files["shared"]
        listed, _ = nodes.start_on("node2", "ls", tmp_path / "own", cwd=tmp_path).communicate()
        assert listed == "", "another rank's folder"
    finally:
        nodes.start_on("node2", "umount", tmp_path / "own", cwd=tmp_path).communicate()
