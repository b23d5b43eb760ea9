"""`import hpcnn.keras as hvd` in scripts that were written for Horovod, under mpirun."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.mpi.launch import ROOT, Mpi

Run = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLES = ["digits_fit", "digits_advanced", "digits_loop"]


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dropin")


@pytest.fixture(scope="session")
def run(tensorflow_environment: Mpi, out: Path) -> Run:
    """Return what runs a script on so many ranks; 0: as a plain process."""
    environment = {"OUT": str(out), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}

    def run(script: str, ranks: int, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        module = f"tests.keras.scripts.{script}"
        return tensorflow_environment.run(ranks, "-m", module, *arguments, cwd=out, environment=environment | more)

    return run


@pytest.fixture(scope="session")
def examples(run: Run) -> Callable[[int], str]:
    """Return what runs all examples on so many ranks, once for each number, and returns what they print."""

    def started(ranks: int) -> str:
        done = run("examples", ranks, *(["collectives"] if ranks > 1 else []))
        assert done.returncode == 0, done.stderr
        assert f"the examples ran on {ranks} ranks" in done.stdout
        assert "Epoch 2: finished gradual learning rate warmup" in done.stdout
        assert done.stderr.count("jit_compile is set to False") == (ranks > 1)  # by rank 0 alone
        return done.stdout

    return functools.cache(started)


@pytest.fixture(scope="session", params=[1, 3])
def ranks_of_examples(request: pytest.FixtureRequest, examples: Callable[[int], str]) -> int:
    """Run all examples on so many ranks, which must agree on the weights they end with."""
    examples(request.param)
    return int(request.param)


def test_examples_end_with_the_weights_of_one_process(
    ranks_of_examples: int, examples: Callable[[int], str], out: Path
) -> None:
    examples(1)
    for example in ("digits_fit", "digits_loop"):
        with np.load(out / f"{example}-1.npz") as expected, np.load(out / f"{example}-{ranks_of_examples}.npz") as got:
            assert expected.files
            for name in expected.files:
                np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-6, err_msg=example)


def test_one_rank_saves_the_best_model(ranks_of_examples: int, out: Path) -> None:
    assert (out / f"best-{ranks_of_examples}.keras").stat().st_size > 0


def test_the_example_of_the_guide(tensorflow_environment: Mpi, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
    (script,) = [block for block in re.findall(r"^```python\n(.*?)^```", guide, re.M | re.S) if "as hvd" in block]
    (tmp_path / "train.py").write_text(script)
    done = tensorflow_environment.run(2, "train.py", cwd=tmp_path, environment={"TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0, done.stderr
    accuracies = [float(found) for found in re.findall(r"accuracy: ([\d.]+)", done.stdout)]
    assert len(accuracies) == 10  # of one rank
    assert accuracies[-1] > 0.93


@pytest.mark.parametrize("ranks", [0, 3])
def test_collectives(run: Run, examples: Callable[[int], str], ranks: int) -> None:
    """On several ranks behind the examples."""
    if ranks:
        said = examples(ranks)
    else:
        done = run("collectives", ranks)
        assert done.returncode == 0, done.stderr
        said = done.stdout
    assert f"checks passed on {max(1, ranks)} ranks" in said


def test_optimizers_tapes_and_what_was_reported(run: Run) -> None:
    done = run("optimizers", 2)
    assert done.returncode == 0, done.stderr
    assert "21 checks passed on 2 ranks" in done.stdout


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("raises", 1, "rank 1 on .*ZeroDivisionError: an error of the script's own"),
        ("leaves", 2, "rank 0 makes barrier, rank 1 the end of its program. Let every rank take as many steps"),
        ("exits", 2, "rank 0 makes barrier, rank 1 the end of its program"),
        ("misuses", 2, r"root_rank 7 is not one of the ranks \[0, 1\]"),
        ("disagrees_in_a_graph", 2, r"rank 0 makes allreduce\(Average\) of float32 \(3,\), rank 1 .* \(4,\)"),
        ("fails_in_a_thread", 1, "rank 1 on .*in thread 'loader': unexpected failure"),
    ],
)
def test_what_goes_wrong_on_a_rank_ends_the_job(run: Run, what: str, code: int, message: str) -> None:
    done = run("failing", 2, what)
    assert done.returncode == code, done.stderr
    _, *errors = done.stderr.split("hpcnn: error: ")
    assert len(errors) == 1, done.stderr
    assert re.search(message, errors[0], re.DOTALL), done.stderr


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_backends(run: Run, backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: it is no part of the environment of the tests, and needed by none")
    done = run("other_backends", 2, KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert f"4 checks passed on 2 ranks with {backend}" in done.stdout
