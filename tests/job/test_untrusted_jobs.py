"""Job files from someone else end in a clear error: one test for each class of fault that the fuzzer has found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcnn.errors import JobError
from hpcnn.job import load_job
from hpcnn.job.load import DEPTH_LIMIT, DOTS_LIMIT, SIZE_LIMIT

SOUND_JOB = b'data = { source = "digits" }\nmodel = { layers = [{ type = "flatten" }] }\nloss = { name = "mse" }\n'

HOSTILE_JOBS = {
    "nested beyond Python's limit": (b"a = " + b"[" * 5000, "a number or nesting that can't be read"),
    "a number beyond Python's limit": (b"a = " + b"9" * 5000, "a number or nesting that can't be read"),
    "nested": (
        b"a = " + b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT,
        f"more than {DEPTH_LIMIT} levels deep",
    ),
    "dots": (b"a" + b".a" * (DOTS_LIMIT + 1) + b" = 1", f"a key or value has more than {DOTS_LIMIT} dots"),
    "size": (SOUND_JOB + b"#" * SIZE_LIMIT, f"has more than {SIZE_LIMIT} bytes and is not a job file"),
    "a long line": (b'a = """' + b"x" * 100_000, 'Unterminated string: \'a = """xxx'),
    "a long value": (SOUND_JOB + b"[train]\nseed = '" + b"x" * 100_000 + b"'", "train.seed = "),
    "a long choice": (SOUND_JOB + b"[optimizer]\nname = '" + b"x" * 100_000 + b"'", "unknown optimizer 'xxx"),
    "a long name": (b'name = "' + b"x" * 100_000 + b'"\n' + SOUND_JOB, "name = 'xxx"),
}


@pytest.mark.parametrize("case", HOSTILE_JOBS)
def test_hostile_jobs(case: str, tmp_path: Path) -> None:
    content, words = HOSTILE_JOBS[case]
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(JobError, match=words) as caught:
        load_job(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 3000


def test_limits_of_jobs_are_not_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    deep = "[" * (DEPTH_LIMIT - 3) + "]" * (DEPTH_LIMIT - 3)
    text = SOUND_JOB.decode().replace("layers = [{", f'entry = "a:b", options = {{ a = {deep} }}, layers = [{{')
    path.write_text(text.replace('layers = [{ type = "flatten" }]', "layers = []") + "#" * (SIZE_LIMIT // 2))
    assert load_job(path).job.model.options


def test_a_job_from_a_pipe_does_not_wait_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(JobError, match=r"can't read the job file '.*a\.toml': it is a pipe or device"):
        load_job(tmp_path / "a.toml")


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 5000])
def test_overrides_beyond_the_limits_of_python_are_plain_text(text: str) -> None:
    with pytest.raises(JobError, match=r"train\.seed = .*: expected an integer"):
        load_job(overrides=[f"train.seed={text}"])
