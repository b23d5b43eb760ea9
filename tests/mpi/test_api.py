"""The Python API on several ranks: the examples, the bits of the command, and what happens when one rank fails."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT, Mpi
from tests.timing import check_in_time

EXAMPLES = ROOT / "examples"
SETTINGS = ("--quiet", "--set", "train.epochs=2")
SAME_AS_THE_COMMAND = """
import hpcnn

comm = hpcnn.connect()
x, y = hpcnn.load_digits()
short = {"train.epochs": 2, "run.display": "quiet"}
try:
    hpcnn.fit(data=(x + comm.rank, y), overrides=short, out="other")
except hpcnn.HpcnnError as error:
    print(f"rank {comm.rank} is told: {error}", flush=True)
fitted = hpcnn.fit(data=(x, y), overrides=short, out="run")
values = fitted.evaluate(x[:50], y[:50])
if any(other != values for other in comm.allgather(values)):
    raise RuntimeError("the ranks disagree")
"""
ON_ANY_RANKS = """
import hpcnn
from hpcnn.nn import Dense, Network
from hpcnn.sklearn import Classifier

comm = hpcnn.connect()
x, y = hpcnn.load_digits()
x, names = x.reshape(len(x), -1) / 16, y.astype(str)
classifier = Classifier(16, max_iter=4, learning_rate_init=0.02, random_state=3, shards=4).fit(x, names)
assert classifier.score(x, names) > 0.5
network = Network([Dense(16, activation="relu"), Dense(10, activation="softmax")], (64,))
short = {"train.epochs": 2, "train.shards": 4, "run.display": "none"}
fitted = hpcnn.fit(data=(x, y), network=network, overrides=short, out=f"run_{comm.size}")
trainer = hpcnn.Trainer(network, "sparse_categorical_crossentropy", shards=4)
trainer.step(x[:100], y[:100])
trainer.save(f"{comm.size}.safetensors")
comm.barrier()
saved = hpcnn.load(f"{comm.size}.safetensors").weights_sha256
drawn = Classifier(4, max_iter=1, shards=4).fit(x, names).fitted_.weights_sha256  # a seed of rank 0 for all
if len(set(comm.allgather(drawn))) != 1 or saved != trainer.weights_sha256:
    raise RuntimeError("the ranks disagree")
if comm.rank == 0:
    print(classifier.fitted_.weights_sha256, fitted.weights_sha256, saved)
"""
FAILING = """
import hpcnn

class Wrong(hpcnn.Callback):
    def on_epoch_end(self, report, replica, control):
        if hpcnn.connect().rank == 1 and report.epoch == 2:
            raise ValueError("a fault of the user's")

hpcnn.fit(overrides={"run.display": "quiet", "train.epochs": 1000}, callbacks=[Wrong()])
"""
IN_TWO_THREADS = """
import threading
import hpcnn

class Other(hpcnn.Callback):
    def on_train_begin(self, epoch, replica):
        thread = threading.Thread(target=self.fit)
        thread.start()
        thread.join()

    def fit(self):
        try:
            hpcnn.fit(overrides={"run.display": "quiet"})
        except hpcnn.HpcnnError as error:
            print(f"rank {hpcnn.connect().rank} is told: {error}", flush=True)

hpcnn.fit(overrides={"run.display": "quiet", "train.epochs": 2}, callbacks=[Other()])
"""
LEAVING = """
import sys
import hpcnn
from hpcnn.comm import failure

failure.LEAVING_S = 2.0
comm = hpcnn.connect()
try:
    sys.exit(5)
except SystemExit as error:
    assert error.code == 5
way, code = {"sys.exit": sys.exit, "exit": exit, "quit": quit}[sys.argv[1]], int(sys.argv[2])
if comm.rank == 1 or len(sys.argv) == 3:
    way(code)
comm.barrier()
"""
BESIDE_MPI4PY = """
import sys
import mpi4py

mpi4py.rc.thread_level = sys.argv[1]
from mpi4py import MPI

import hpcnn
import hpcnn.keras as hvd

ranks = MPI.COMM_WORLD.allreduce(1)
hvd.init()
fitted = hpcnn.fit(overrides={"train.epochs": 2, "run.display": "quiet"})
hvd.barrier()
assert MPI.COMM_WORLD.allreduce(1) == ranks == hpcnn.connect().size == hvd.size()
"""
FINALIZED = """
from mpi4py import MPI
import hpcnn

MPI.Finalize()
hpcnn.connect()
"""
CROWDED = """
import ctypes
import os
import re
import hpcnn
from hpcnn.comm import waiting

waiting.cpus_of_host = lambda root: 1.5
del os.environ[waiting.SLEEPS]
comm = hpcnn.connect()
(library,) = {line.split()[-1] for line in open("/proc/self/maps") if re.search(r"/libmpi\\.so", line)}
mpi, number, handle, count = ctypes.CDLL(library), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int()
value = ctypes.c_int()
assert mpi.MPI_T_init_thread(0, ctypes.byref(number)) == 0
assert mpi.MPI_T_cvar_get_index(waiting.SLEEPS.encode(), ctypes.byref(number)) == 0
assert mpi.MPI_T_cvar_handle_alloc(number, None, ctypes.byref(handle), ctypes.byref(count)) == 0
assert mpi.MPI_T_cvar_read(handle, ctypes.byref(value)) == 0
print(f"rank {comm.rank} sleeps: {value.value}")
"""
REFUSED = """
import hpcnn

hpcnn.connect()
hpcnn.fit(overrides={"train.epochs": 0})
"""


def hashes(output: str) -> list[str]:
    return re.findall(r"weights sha256 ([0-9a-f]{64})", output)


@pytest.mark.parametrize("name", ["custom_loop.py", "fit_arrays.py", "learning_rates.py"])
def test_examples(mpich: Mpi, name: str, tmp_path: Path) -> None:
    outputs = []
    for ranks in (0, 2):
        done = mpich.run(ranks, EXAMPLES / name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        outputs.append(done.stdout)
    alone, together = map(hashes, outputs)
    assert alone == together
    assert len(alone) >= 1


def test_the_bits_of_the_command(mpich: Mpi, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SAME_AS_THE_COMMAND)
    command = mpich.run(0, "-m", "hpcnn.train", *SETTINGS, cwd=tmp_path)
    (expected,) = hashes(command.stdout)
    done = mpich.run(3, script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hashes(done.stdout) == [expected]
    assert done.stdout.count("rank 1 gives hpcnn.fit other things than rank 0 does: data.sha256: ") == 3
    assert not (tmp_path / "other").exists()


def test_networks_estimators_and_saved_trainers_on_any_number_of_ranks(mpich: Mpi, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(ON_ANY_RANKS)
    alone, shared = (mpich.run(ranks, "script.py", cwd=tmp_path) for ranks in (0, 3))
    for done in (alone, shared):
        assert done.returncode == 0, done.stderr
    assert shared.stdout == alone.stdout
    assert len(alone.stdout.split()) == 3


def test_a_second_fit_in_another_thread_is_refused(mpich: Mpi, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(IN_TWO_THREADS)
    done = mpich.run(2, script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        assert f"rank {rank} is told: hpcnn.fit was called while another thread is in hpcnn.fit." in done.stdout
    assert len(hashes(done.stdout)) == 1


@pytest.mark.timed
def test_a_fault_on_one_rank_ends_all(mpich: Mpi, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FAILING)
    begin = time.monotonic()
    done = mpich.run(2, script, cwd=tmp_path)
    seconds = time.monotonic() - begin
    assert done.returncode == 1
    assert "ValueError: a fault of the user's" in done.stderr
    assert re.search(r"hpcnn: error: rank 1 on \S+, phase \w+, step 46 \(epoch 2\)", done.stderr)
    check_in_time(seconds, 20)  # and the start


@pytest.mark.parametrize("way", ["sys.exit", "exit", "quit"])
def test_an_exit_of_one_rank_ends_all(mpich: Mpi, way: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(LEAVING)
    done = mpich.run(2, script, way, "3", "alone", cwd=tmp_path)
    assert done.returncode == 3
    assert re.search(r"hpcnn: error: rank 1 on \S+, phase .*: exit\(3\) was called, but not on all ranks", done.stderr)


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_of_all_ranks_is_theirs_to_explain(mpich: Mpi, code: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(LEAVING)
    done = mpich.run(2, script, "sys.exit", code, cwd=tmp_path)
    assert done.returncode == code
    assert "hpcnn" not in done.stderr


@pytest.mark.parametrize("threads", ["single", "multiple"])
@pytest.mark.parametrize("ranks", [0, 2])
def test_a_program_that_uses_mpi4py_itself(mpi: Mpi, ranks: int, threads: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(BESIDE_MPI4PY)
    done = mpi.run(ranks, script, threads, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(hashes(done.stdout)) == 1


def test_a_program_that_has_finalized_mpi(mpi: Mpi, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FINALIZED)
    done = mpi.run(2, script, cwd=tmp_path)
    assert done.returncode != 0
    assert "this program has finalized MPI already, which can't be undone." in done.stderr


def test_ranks_that_outnumber_the_cpus_sleep_while_they_wait(mpich: Mpi, tmp_path: Path) -> None:
    """As MPICH itself says after MPI_Init."""
    script = tmp_path / "script.py"
    script.write_text(CROWDED)
    done = mpich.run(2, script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["rank 0 sleeps: 1", "rank 1 sleeps: 1"]


def test_an_error_of_all_ranks_is_one_message(mpich: Mpi, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(REFUSED)
    done = mpich.run(2, script, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("train.epochs = 0: expected an integer >= 1") == 1
    assert "Traceback" not in done.stderr
