"""Reads a job file, applies changes from the command line, and returns a job that is checked through and through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnn.errors import JobError, nearest

if TYPE_CHECKING:
    from hpcnn.job.schema import Job

DEFAULT_JOB = "digits_mlp.toml"
NAME_LIMIT = 100
"""Bytes; a run folder's name adds a number to the job's, and 255 is what file systems take."""


@dataclass(frozen=True)
class LoadedJob:
    """A job, and where it came from."""

    job: Job
    path: Path
    base: Path
    """Folder of the job file: relative paths in the job start here."""


def load_job(path: Path | None = None, overrides: Sequence[str] = ()) -> LoadedJob:
    """Read the job file at `path` (None: the digits job that comes with hpcnn), changed by `overrides`.

    Each override is ``key=value``, see `hpcnn.job.overrides`.

    Raises:
        JobError: no such file, not TOML, or the first setting that is unknown, missing, out of range, or at odds
            with another one.

    >>> load_job(overrides=["train.epochs=3"]).job.train.epochs
    3
    """
    import msgspec

    from hpcnn.job.checks import check_job
    from hpcnn.job.overrides import apply_overrides
    from hpcnn.job.schema import Job
    from hpcnn.job.validate import SettingError, check, job_type

    path = builtin_jobs() / DEFAULT_JOB if path is None else path
    table = _read_toml(path)
    changed = apply_overrides(table, overrides)
    try:
        check(table, job_type())
        job = msgspec.convert(table, Job)
        job = msgspec.structs.replace(job, name=_checked_name(job.name, path))
        check_job(job)
    except SettingError as error:
        raise JobError(f"{path}{_blamed(error.path, changed)}: {error}") from None
    except JobError as error:
        raise JobError(f"{path}: {error}") from None
    return LoadedJob(job, path, path.parent)


def builtin_jobs() -> Path:
    """Return the folder of the jobs that come with hpcnn: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "jobs"
    return installed if installed.is_dir() else package.parent / "jobs"


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors write a byte order mark
    except FileNotFoundError:
        raise JobError(f"no job file {str(path)!r}.{_other_jobs(path)}") from None
    except OSError as error:
        raise JobError(f"can't read the job file {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{path}{_toml_problem(str(error), text)}") from None


def _toml_problem(message: str, text: str) -> str:
    """Turn "Invalid value (at line 3, column 5)" into ", line 3, column 5: Invalid value"."""
    what, _, where = message.rpartition(" (at ")
    found = re.match(r"line (\d+), column (\d+)", where)
    lines = text.splitlines() or [""]
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    return f", line {line}, column {column}: {what}: {lines[min(line, len(lines)) - 1].strip()!r}"


def _other_jobs(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {str(path.parent)!r} either."
    others = sorted(entry.stem for entry in path.parent.glob("*.toml"))
    near = nearest(path.stem, others).replace("'?", ".toml'?")
    return near or (f" That folder has: {', '.join(f'{stem}.toml' for stem in others)}." if others else "")


def _blamed(path: Sequence[str | int], changed: set[tuple[str, ...]]) -> str:
    """Return which overrides have a part in a problem at `path`: the file alone may be without fault."""
    keys = tuple(map(str, path))
    parts = sorted(".".join(one) for one in changed if one[: len(keys)] == keys or keys[: len(one)] == one)
    return f" with --set {', '.join(parts)}" if parts else ""


def _checked_name(name: str, path: Path) -> str:
    """Return the job's name, the file's if it has none, once it can name a folder."""
    given, name = name, name or path.stem
    if (
        not name.isprintable()
        or set(name) & set('/\\:*?"<>|')
        or name[0] in ".- "
        or name[-1] in ". "
        or len(name.encode()) > NAME_LIMIT
    ):
        raise JobError(
            f"name = {name!r}{'' if given else ', from the file name,'} can't name a run folder: expected at most "
            f'{NAME_LIMIT} bytes without / \\ : * ? " < > |, not starting with . or - and not ending with a dot. '
            f"{'Change it' if given else 'Give the job a name at the top of the file'}, for example: "
            'name = "my-job"'
        )
    return name
