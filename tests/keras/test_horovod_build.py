"""The build of Horovod, without a compiler: what it looks at, what it refuses, what it asks pip for, what it keeps."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcnn.errors import CommunicatorError, MissingExtraError
from hpcnn.keras import horovod_environment
from hpcnn.keras.horovod_build import Options, build_wheel, cache_folder, install_wheel
from hpcnn.keras.horovod_environment import Environment, find_environment
from tests.keras import fake_pip
from tests.mpi.launch import OPEN_MPI_PREFIX
from tests.require import missing

Patch = pytest.MonkeyPatch

# ------------------------------------------------------------------------------------------- what there is to build for


@pytest.fixture
def programs(monkeypatch: Patch, tmp_path: Path) -> Path:
    """Return a folder of programs that are found before all others; with it come a TensorFlow and mpi4py of no size."""
    folder, site = tmp_path / "bin", tmp_path / "site"
    folder.mkdir()
    write_package(site / "tensorflow", "__version__ = '2.21.0'\nfrom . import sysconfig\n")
    (site / "tensorflow" / "sysconfig.py").write_text("get_include = lambda: '/include'\n")
    version = "Get_library_version = lambda: 'MPICH Version:    5.0.2\\nbuilt here'\n"
    write_package(site / "mpi4py", "class rc: pass\n")
    (site / "mpi4py" / "MPI.py").write_text(f"{version}\nclass COMM_WORLD:\n    size = {SIZE}\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(horovod_environment, "search_path", lambda: f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]:
        monkeypatch.delitem(sys.modules, name)
    write_program(folder / "mpicxx", compiler_of("MPICH Version:      5.0.2"))
    write_program(folder / "mpirun", 'shift 2\n"$@"; "$@"')
    return folder


SIZE = "int(__import__('os').environ.get('FAKE_SIZE', '2'))"


def write_package(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(text)


def write_program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def compiler_of(library: str) -> str:
    """Return a compiler whose programs say that they use this MPI."""
    return f'while [ $# -gt 1 ]; do shift; done\nprintf \'#!/bin/sh\\necho "{library}"\' > "$1"\nchmod +x "$1"'


def test_what_fits_is_found(programs: Path) -> None:
    found = find_environment()
    assert found == Environment("2.21.0", Path("/include"), "MPICH Version: 5.0.2", programs / "mpicxx")
    assert found.key.endswith("_tensorflow-2.21.0_MPICH-Version-5.0.2")
    assert "cpython-3" in found.key


def test_compiler_of_another_mpi(programs: Path) -> None:
    write_program(programs / "mpicxx", compiler_of("Open MPI v5.0.11, package: Open MPI of somebody"))
    expected = rf"mpi4py uses MPICH Version: 5\.0\.2, but {programs}/mpicxx is of Open MPI v5\.0\.11: .* pip install"
    with pytest.raises(CommunicatorError, match=expected):
        find_environment()


def test_no_compiler_of_mpi(programs: Path, monkeypatch: Patch) -> None:
    (programs / "mpicxx").unlink()
    monkeypatch.setattr(horovod_environment, "search_path", lambda: str(programs))
    with pytest.raises(CommunicatorError, match=r"no mpicxx on the path.*MPICH Version: 5\.0\.2.*pip install"):
        find_environment()


def test_no_compiler(programs: Path) -> None:
    write_program(programs / "mpicxx", "echo 'mpicxx: line 3: c++: not found' >&2; exit 127")
    with pytest.raises(
        CommunicatorError, match=r"can't compile a small program: .*c\+\+: not found.*apt install g\+\+"
    ):
        find_environment()


@pytest.mark.parametrize(("launcher", "processes"), [("mpirun -n 2", 2), ("env -i FAKE_SIZE=1 PYTHONPATH=SITE", 1)])
def test_launcher_of_another_mpi(programs: Path, monkeypatch: Patch, launcher: str, processes: int) -> None:
    monkeypatch.setenv("FAKE_SIZE", "1")
    launcher = launcher.replace("SITE", str(programs.parent / "site"))
    expected = rf"'{launcher}' started {processes} process(es)? that sees? a world of 1\. .*is not of MPICH"
    with pytest.raises(CommunicatorError, match=expected):
        find_environment(launcher.split())


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (("env",), r"'env' started 1 process that sees a world of 2"),
        (("nosuch", "-n", "2"), r"'nosuch -n 2' could not start ranks .*nosuch: not found.*--launcher"),
        (("false",), r"'false' could not start ranks .*exit code 1"),
    ],
)
def test_launcher_that_is_none(programs: Path, launcher: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommunicatorError, match=message):
        find_environment(launcher)


@pytest.mark.parametrize(("package", "extra"), [("tensorflow", "keras"), ("mpi4py", "mpi")])
def test_missing_package(programs: Path, monkeypatch: Patch, package: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs the package '{package}'.*hpcnn\[{extra}\]"):
        find_environment()


def test_packages_that_do_not_work(programs: Path) -> None:
    site = programs.parent / "site"
    (site / "tensorflow" / "__init__.py").write_text("raise ImportError('no such file')")
    with pytest.raises(CommunicatorError, match="TensorFlow can't be imported: ImportError: no such file"):
        find_environment()
    (site / "mpi4py" / "MPI.py").write_text("raise RuntimeError('cannot load MPI library')")
    with pytest.raises(CommunicatorError, match=r"can't load an MPI library.*RuntimeError: cannot load MPI library"):
        find_environment()


def test_two_real_mpis(programs: Path, monkeypatch: Patch) -> None:
    prefix = Path(os.environ.get(OPEN_MPI_PREFIX, "/nonexistent"))
    if not (prefix / "bin" / "mpicxx").exists() or shutil.which("c++") is None:
        missing(f"there is no C++ compiler, or no Open MPI: {OPEN_MPI_PREFIX} names its environment")
    shutil.rmtree(programs.parent / "site" / "mpi4py")  # the real one, of MPICH
    found = "/usr/bin:/bin"
    monkeypatch.setattr(horovod_environment, "search_path", lambda: f"{prefix}/bin:{found}")
    with pytest.raises(CommunicatorError, match=r"mpi4py uses MPICH .*/bin/mpicxx is of Open MPI v"):
        find_environment()
    monkeypatch.setattr(horovod_environment, "search_path", lambda: f"{Path(sys.executable).parent}:{found}")
    with pytest.raises(CommunicatorError, match=r"started 2 processes that see a world of 1|could not start ranks"):
        find_environment((str(prefix / "bin" / "mpirun"), "-n", "2"))


# ------------------------------------------------------------------------------------------------- what is asked of pip

Notes = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def notes(monkeypatch: Patch, tmp_path: Path) -> Notes:
    """Put a pip that builds nothing in place of the real one; return what reads how it was called."""
    site = tmp_path / "site" / "pip"
    site.mkdir(parents=True)
    shutil.copy(fake_pip.__file__, site / "__main__.py")
    (site / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(site.parent))
    monkeypatch.setenv("FAKE_PIP_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("HPCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MAKEFLAGS", "w --jobserver-auth=3,4")
    (tmp_path / "notes").touch()
    return lambda: [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


def environment(folder: Path, *, headers: bool = False, tensorflow: str = "2.21.0") -> Environment:
    """Return an environment whose TensorFlow has the headers of old, or has not."""
    old = folder / "include" / "tensorflow" / "compiler" / "xla" / "client" / "xla_builder.h"
    if headers:
        old.parent.mkdir(parents=True, exist_ok=True)
        old.touch()
    return Environment(tensorflow, folder / "include", "MPICH Version: 5.0.2", Path("mpicxx"))


def ignore(text: str) -> None:
    pass


def test_flags_of_the_build(notes: Notes, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("CXXFLAGS", "-march=native")
    wheel = build_wheel(environment(tmp_path), Options(jobs=3), ignore)
    assert wheel.exists()
    tools, build = notes()
    assert any(one.startswith("cmake") and one.endswith("<4") for one in tools["arguments"])
    assert {"--no-cache-dir", "--no-build-isolation", "--no-deps", "horovod==0.28.1"} <= set(build["arguments"])
    asked = build["environment"]
    with_and_without = {name: value for name, value in asked.items() if name.startswith("HOROVOD_WITH")}
    assert with_and_without == {
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_MPI": "1",
        "HOROVOD_WITHOUT_GLOO": "1",
    }
    assert asked["MAKEFLAGS"] == "-j3"
    assert asked["CXXFLAGS"].startswith("-march=native -DOMPI_SKIP_MPICXX -I")
    assert "HOROVOD_GPU_OPERATIONS" not in asked
    assert len(build["headers"]) == 7
    assert "tensorflow/compiler/xla/shape.h" in build["headers"]


def test_an_older_tensorflow_keeps_its_headers(notes: Notes, tmp_path: Path) -> None:
    build_wheel(environment(tmp_path, headers=True), Options(), ignore)
    assert notes()[-1]["headers"] == []


def test_a_wheel_is_kept_for_its_environment(notes: Notes, tmp_path: Path) -> None:
    said: list[str] = []
    first = build_wheel(environment(tmp_path), Options(), ignore)
    calls = len(notes())
    assert build_wheel(environment(tmp_path), Options(), said.append) == first
    assert len(notes()) == calls
    assert said == [f"takes the wheel that was kept: {first}"]
    other = build_wheel(environment(tmp_path, tensorflow="2.21.1"), Options(), ignore)
    assert other.parent != first.parent
    before = first.read_text()
    assert build_wheel(environment(tmp_path), Options(rebuild=True), ignore) == first
    assert first.read_text() != before
    assert sorted(path.name for path in first.parent.iterdir()) == ["build.log", first.name]


def test_nccl(notes: Notes, tmp_path: Path) -> None:
    with pytest.raises(CommunicatorError, match=r"can't be built with NCCL for TensorFlow 2\.21\.0.*2\.18 or older"):
        build_wheel(environment(tmp_path), Options(nccl=True), ignore)
    old = environment(tmp_path, headers=True)
    assert build_wheel(old, Options(nccl=True), ignore).parent != build_wheel(old, Options(), ignore).parent
    assert [one["environment"].get("HOROVOD_GPU_OPERATIONS") for one in notes()] == [None, "NCCL", None, None]


def test_a_build_that_fails(notes: Notes, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("FAKE_PIP_FAILS", "1")
    with pytest.raises(CommunicatorError) as caught:
        build_wheel(environment(tmp_path), Options(), ignore)
    (log,) = (tmp_path / "cache").rglob("build.log")
    assert str(caught.value) == (
        "the build of Horovod failed: mpi_ops.cc:35:10: fatal error: nowhere.h: No such file or directory. "
        f"All of its output is in {log}"
    )
    assert fake_pip.LOG_OF_A_FAILURE in log.read_text()
    assert list(log.parent.iterdir()) == [log]


def test_installing(notes: Notes, tmp_path: Path) -> None:
    wheel = build_wheel(environment(tmp_path), Options(), ignore)
    install_wheel(wheel, ignore)
    replaced, needed = (one["arguments"] for one in notes()[-2:])
    assert replaced == ["install", "--force-reinstall", "--no-deps", str(wheel)]
    assert needed[0] == "install"
    assert {"cloudpickle", "psutil", "pyyaml"} <= set(needed)


def test_where_wheels_are_kept(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("HPCNN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/me/.cache/hpcnn/horovod")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/hpcnn/horovod")
    monkeypatch.setenv("HPCNN_CACHE", "/mine")
    assert cache_folder() == Path("/mine/horovod")


def test_wheels_that_can_not_be_kept(notes: Notes, tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HPCNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(CommunicatorError, match=rf"can't keep a wheel in {tmp_path}/file/.*Set HPCNN_CACHE=FOLDER"):
        build_wheel(environment(tmp_path), Options(), ignore)
