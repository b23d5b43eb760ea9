"""From a file to a job: where it may come from, and what each fault in the file looks like to its author."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcnn.errors import JobError
from hpcnn.job import LoadedJob, load_job
from hpcnn.job.load import DEFAULT_JOB, NAME_LIMIT, builtin_jobs
from tests.timing import WAIT_S

JOB = """
[data]
source = "digits"
[model]
layers = [{ type = "flatten" }, { type = "dense", units = 10, activation = "softmax" }]
[loss]
name = "sparse_categorical_crossentropy"
"""


def load(folder: Path, text: str, *overrides: str, name: str = "x.toml") -> LoadedJob:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_job(path, overrides)


def test_without_a_file_it_is_the_digits_job() -> None:
    loaded = load_job()
    assert (loaded.job.name, loaded.job.data.validation_fraction) == ("digits_mlp", 0.2)
    assert loaded.path == builtin_jobs() / DEFAULT_JOB


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, JOB)
    assert (loaded.path, loaded.base) == (tmp_path / "x.toml", tmp_path)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "jobs").glob("*.toml")), ids=lambda path: path.stem
)
def test_every_shipped_job_loads_and_says_its_shards(path: Path) -> None:
    job = load_job(path).job
    assert job.name == path.stem
    assert isinstance(job.train.shards, int)


def test_overrides_reach_the_job(tmp_path: Path) -> None:
    job = load(tmp_path, JOB, "train.epochs=3", "optimizer.learning_rate=0.1", "model.layers.1.use_bias=false").job
    assert (job.train.epochs, job.optimizer.learning_rate) == (3, 0.1)
    assert job.model.layers[1].use_bias is False  # type: ignore[union-attr]


def test_early_stopping_can_be_taken_out(tmp_path: Path) -> None:
    text = JOB + '[train.early_stopping]\nmonitor = "loss"\n'
    assert load(tmp_path, text).job.train.early_stopping is not None
    assert load(tmp_path, text, "train.early_stopping=").job.train.early_stopping is None


@pytest.mark.parametrize("text", ["\ufeff" + JOB, JOB.replace("\n", "\r\n"), "# é 漢\n" + JOB])
def test_files_of_other_editors_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode())
    assert load_job(path).job.name == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = = 2\n", ", line 2, column 5: Invalid value: 'b = = 2'"),
        ("a = 1\na = 2\n", "Cannot overwrite a value: 'a = 2'"),
        ("[train\n", ", line 1, column 7: Expected ']' at the end of a table declaration: '[train'"),
        ("a = [1,\n", ": Invalid value: 'a = [1,'"),
        ("a =", ", line 1, column 4: Invalid value: 'a ='"),
        ("", ': missing section [data]. Add it, for example:\n[data]\nsource = "digits"'),
        (JOB + "[train]\nepocs = 3\n", ": unknown key 'epocs' in [train]. Did you mean 'epochs'? Known: arithmetic, "),
        (JOB + "[train]\nbatch_size = 0\n", ': train.batch_size = 0: expected an integer >= 1, or "full"'),
        (JOB + '[optimizer]\nname = "sgd"\nnesterov = true\n', ": optimizer.nesterov = true needs momentum"),
    ],
)
def test_message_begins_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(JobError, match="^" + re.escape(str(tmp_path / "x.toml")) + ".*" + re.escape(message)):
        load(tmp_path, text)


def test_a_problem_that_an_override_made_names_the_override(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"x\.toml with --set train\.epocs: unknown key 'epocs'"):
        load(tmp_path, JOB, "train.epocs=3", "train.seed=3")
    with pytest.raises(JobError, match=r"x\.toml with --set model\.layers\.0\.type: missing key 'rate'"):
        load(tmp_path, JOB, "model.layers.0.type=dropout")
    with pytest.raises(JobError, match=r"x\.toml with --set train: train = 3: expected a table"):
        load(tmp_path, JOB, "train=3")
    with pytest.raises(JobError, match=r"x\.toml: unknown key 'epocs'"):
        load(tmp_path, JOB + "[train]\nepocs = 3", "train.seed=3")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"^no job file '.*y\.toml'\.$"):
        load_job(tmp_path / "y.toml")
    load(tmp_path, JOB, name="mnist.toml")
    with pytest.raises(JobError, match=r"^no job file '.*mnits\.toml'\. Did you mean 'mnist\.toml'\?$"):
        load_job(tmp_path / "mnits.toml")
    with pytest.raises(JobError, match=r"^no job file '.*y\.toml'\. That folder has: mnist\.toml\.$"):
        load_job(tmp_path / "y.toml")
    with pytest.raises(JobError, match=r"^no job file '.*y\.toml'\. There is no folder '.*z' either\.$"):
        load_job(tmp_path / "z" / "y.toml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"a = \xff")
    with pytest.raises(JobError, match=r"x\.toml: not a text file in UTF-8 \(byte 4\)"):
        load_job(tmp_path / "x.toml")
    with pytest.raises(JobError, match=r"is a folder, but a job file is needed\. That of a run is its job\.toml\."):
        load_job(tmp_path)


@pytest.mark.parametrize("name", ["a", "my job", "v1.2", "é", "x" * NAME_LIMIT])
def test_names_that_can_name_a_folder(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, f'name = "{name}"\n' + JOB).job.name == name
    assert load(tmp_path, JOB, name=f"{name}.toml").job.name == name


@pytest.mark.parametrize("name", ["a/b", ".", "..", ".a", "-a", " a", "a ", "a.", "a:b", "é" * (NAME_LIMIT // 2 + 1)])
def test_names_that_can_not(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobError, match=r"name = .* can't name a run folder: expected at most .*Change it"):
        load(tmp_path, f'name = "{name}"\n' + JOB)


def test_a_name_taken_from_the_file_that_can_not(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"name = 'a:b', from the file name, can't .* Give the job a name at the top"):
        load(tmp_path, JOB, name="a:b.toml")


def test_importing_the_package_costs_little() -> None:
    code = "import sys, hpcnn.job; sys.exit(any(name in sys.modules for name in ('numpy', 'msgspec', 'tomllib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=WAIT_S).returncode == 0


def test_loading_a_job_needs_no_numpy() -> None:
    code = "import sys, hpcnn.job; hpcnn.job.load_job(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=WAIT_S).returncode == 0


def test_whether_the_arithmetic_was_said(tmp_path: Path) -> None:
    assert not load(tmp_path, JOB).says_arithmetic
    assert not load(tmp_path, JOB, "train.epochs=3").says_arithmetic
    assert load(tmp_path, JOB, "train.arithmetic=native").says_arithmetic
    assert load(tmp_path, JOB + '[train]\narithmetic = "numpy"\n').says_arithmetic
