import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import threadpoolctl

from hpcnn.system import blas
from hpcnn.system.denormals import FlushDenormals, flushing
from tests.forks import ends_in_a_child
from tests.require import missing
from tests.timing import WAIT_S

ROOT = Path(__file__).parents[2]


def in_python(code, **settings):
    """Return what `code` prints in a fresh Python without any setting of threads but `settings`."""
    clean = {name: value for name, value in os.environ.items() if name not in (blas.THREADS, *blas.THREAD_VARIABLES)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"PYTHONPATH": str(ROOT)} | settings,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    return json.loads(done.stdout)


THREADS = """
import json, os, sys
{before}
from hpcnn.system import blas
from hpcnn.system.denormals import FlushDenormals
blas.use_one_thread()
print(json.dumps([os.environ.get(name) for name in (blas.THREADS, *blas.THREAD_VARIABLES)]))
"""
NAMES = [blas.THREADS, *blas.THREAD_VARIABLES]


@pytest.mark.parametrize(
    ("settings", "threads"),
    [
        ({}, "auto"),
        ({"OMP_NUM_THREADS": ""}, "auto"),
        ({"OMP_NUM_THREADS": "many"}, "auto"),
        ({"OMP_NUM_THREADS": "0"}, "auto"),
        ({"OMP_NUM_THREADS": "4"}, "4"),
        ({"OMP_NUM_THREADS": "4, 2"}, "4"),
        ({"MKL_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "1"}, "1"),
        ({"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "x"}, "4"),
        ({"HPCNN_THREADS": "auto", "OMP_NUM_THREADS": "4"}, "auto"),
        ({"HPCNN_THREADS": "2"}, "2"),
        ({"HPCNN_THREADS": "", "OMP_NUM_THREADS": "4"}, "4"),
        ({"HPCNN_THREADS": "two"}, "two"),  # for others to complain of
    ],
)
def test_blas_gets_one_thread_and_hpcnn_those_that_were_asked_for(settings, threads):
    assert in_python(THREADS.format(before=""), **settings) == [threads, "1", "1", "1", "1"]


@pytest.mark.parametrize("settings", [{}, {"OMP_NUM_THREADS": "4"}])
def test_nothing_changes_once_numpy_is_loaded(settings):
    found = in_python(THREADS.format(before="import numpy"), **settings)
    assert found == [settings.get(name) for name in NAMES]


def test_the_threads_that_were_asked_for_do_not_reach_blas():
    code = "from hpcnn.system import blas; blas.use_one_thread(); import json; print(json.dumps(blas.fingerprint()))"
    assert in_python(code, OMP_NUM_THREADS="2") == in_python(code, OMP_NUM_THREADS="1")


def test_importing_it_imports_no_numpy():
    assert in_python("import sys, json, hpcnn.system.blas; print(json.dumps('numpy' in sys.modules))") is False


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_fingerprint_knows_the_threads(threads):
    facts = in_python(
        "import json, hpcnn.system.blas; print(json.dumps(hpcnn.system.blas.fingerprint()))", OMP_NUM_THREADS=threads
    )
    assert facts["numpy"]
    assert facts["processor"]
    if "openblas" in facts["blas"]:  # as in NumPy's wheels
        assert facts["kernel"]
        assert facts["threads"] == min(int(threads), len(os.sched_getaffinity(0)))


def test_the_fingerprint_is_the_same_each_time_and_fits_json():
    facts = blas.fingerprint()
    assert json.loads(json.dumps(facts)) == facts == blas.fingerprint()


def test_the_libraries_are_searched_for_once(monkeypatch):
    with blas.one_thread():
        pass
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda: pytest.fail("searched again"))
    with blas.one_thread():
        pass


@pytest.mark.parametrize("asked", [None, "", "3"])
def test_one_thread_leaves_the_environment_as_it_was(monkeypatch, asked):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.setenv(blas.THREADS, asked or "")
    if asked is None:
        monkeypatch.delenv(blas.THREADS)
    with blas.one_thread():
        assert os.environ[blas.THREADS] == (asked or "2")
    assert os.environ.get(blas.THREADS) == asked


def test_the_fingerprint_needs_no_proc(monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError("no /proc")

    monkeypatch.setattr(Path, "read_text", refuse)
    blas._built_with.cache_clear()
    try:
        assert blas.fingerprint()["processor"] == os.uname().machine
    finally:
        blas._built_with.cache_clear()


def openblas():
    library = next((each for each in blas._loaded(len(sys.modules)) if each.internal_api == "openblas"), None)
    return library or missing("NumPy is not linked to OpenBLAS")


def test_one_blas_thread_within_the_block() -> None:
    library = openblas()
    before = library.num_threads
    library.set_num_threads(2)
    try:
        with blas.one_thread():
            assert library.num_threads == 1
        assert library.num_threads == 2
    finally:
        library.set_num_threads(before)


def test_the_last_thread_to_leave_gives_blas_its_threads_back(monkeypatch) -> None:
    library = openblas()
    monkeypatch.setenv(blas.THREADS, "3")
    before = library.num_threads
    library.set_num_threads(2)
    try:
        first, second = blas.one_thread(), blas.one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert library.num_threads == 1, "the second block still computes"
        second.__exit__(None, None, None)
        assert library.num_threads == 2
        assert os.environ[blas.THREADS] == "3"
    finally:
        library.set_num_threads(before)


MKL = """
#include <string.h>
static int process = 8;
static __thread int local;
int MKL_Get_Max_Threads(void) { return local ? local : process; }
int MKL_Set_Num_Threads_Local(int threads) { int before = local; local = threads; return before; }
void MKL_Get_Version_String(char *text, int size) { strncpy(text, "Version 1 of a stand-in", size); }
int MKL_Set_Threading_Layer(int layer) { return 1; }
"""
IN_MKL = """
import ctypes, json, sys, threading
import numpy as np
from hpcnn.nn.matmul import matmul_on
from hpcnn.system.blas import one_thread
mkl = ctypes.CDLL(sys.argv[1])
seen, used = [], {}
def multiply(a, b, out):
    used.setdefault(threading.current_thread().name.partition("_")[0], set()).add(mkl.MKL_Get_Max_Threads())
    return np.matmul(a, b, out=out)
def two_blocks():
    with one_thread(), one_thread():
        seen.append(mkl.MKL_Get_Max_Threads())
    seen.append(mkl.MKL_Get_Max_Threads())
two_blocks()
mkl.MKL_Set_Num_Threads_Local(4)
two_blocks()
with one_thread():
    product, a = matmul_on(2), np.ones((512, 512), np.float32)
    product._product = multiply
    product(a, a, out=np.empty_like(a))
print(json.dumps([seen, {name: sorted(numbers) for name, numbers in used.items()}]))
"""


def test_mkl_runs_on_one_thread_in_each_thread_that_computes(tmp_path) -> None:
    """It has a number of threads for each thread of the program."""
    compiler = shutil.which("cc")
    if compiler is None:
        missing("there is no C compiler")
    source, library = tmp_path / "mkl.c", tmp_path / "libmkl_rt.so"
    source.write_text(MKL)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=WAIT_S)
    done = subprocess.run(
        [sys.executable, "-c", IN_MKL, library], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert json.loads(done.stdout) == [[1, 8, 1, 4], {"MainThread": [1], "matmul": [1]}]


def test_threads_share_what_flushes_denormals() -> None:
    """Each has to find the environment again that was its own."""
    shared, flushing = FlushDenormals(), np.full(4, 1e-38, np.float32)
    if not shared.active:
        missing("denormals can't be flushed here")

    def kept() -> bool:
        return bool((flushing * np.float32(0.1)).any())

    def enter_and_leave() -> None:
        with FlushDenormals(), shared:
            assert not kept()

    with shared:
        thread = threading.Thread(target=enter_and_leave)
        thread.start()
        thread.join()
        assert not kept()
    assert kept()


def stand_in(use):
    """Return a library of 7 threads whose number `use` sets."""
    return SimpleNamespace(filepath="lib", internal_api="blis", num_threads=7, set_num_threads=use)


def test_ctrl_c_at_the_begin_of_a_block_leaves_all_as_it_was(monkeypatch):
    monkeypatch.delenv(blas.THREADS, raising=False)
    used = []

    def interrupted(threads):
        used.append(threads)
        if len(used) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(blas, "_loaded", lambda modules: (stand_in(interrupted),))
    with pytest.raises(KeyboardInterrupt), blas.one_thread():
        pytest.fail("it was interrupted")
    assert used == [1, 7]
    assert blas.THREADS not in os.environ
    with blas.one_thread():
        assert used == [1, 7, 1]
    assert used == [1, 7, 1, 7]


def test_a_child_process_is_not_in_the_blocks_of_other_threads(monkeypatch):
    monkeypatch.delenv(blas.THREADS, raising=False)
    used = []
    monkeypatch.setattr(blas, "_loaded", lambda modules: (stand_in(used.append),))

    def enter_and_leave():
        with blas.one_thread():
            assert used == [1]
        assert used == [1, 7]
        assert blas.THREADS not in os.environ

    with blas.one_thread():
        with blas._one_thread.lock:  # as if another thread were about to leave
            assert ends_in_a_child(enter_and_leave)
        assert used == [1]
    assert used == [1, 7]


def test_a_context_without_flushing_keeps_denormals_within_one_that_flushes() -> None:
    flush, keep, small = FlushDenormals(), FlushDenormals(flush=False), np.full(4, 1e-38, np.float32)
    if not flush.active:
        missing("denormals can't be flushed here")
    with flush:
        assert not (small * np.float32(0.1)).any()
        assert flushing()
        with keep:
            assert (small * np.float32(0.1)).all()
            assert not flushing()
        assert not (small * np.float32(0.1)).any()
    assert (small * np.float32(0.1)).all()
    assert not flushing()
