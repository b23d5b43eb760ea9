"""Reads a job file, applies overrides from the command line, and checks the job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnn.core.run_paths import RunPaths
from hpcnn.errors import JobError, nearest, shortened
from hpcnn.job.origin import read_origin
from hpcnn.job.recorded import as_recorded

if TYPE_CHECKING:
    from hpcnn.job.overrides import Keys
    from hpcnn.job.schema import Job

DEFAULT_JOB = "digits_mlp.toml"
NAME_LIMIT = 100
"""Bytes; a run folder's name adds a number to the job's, and 255 is what file systems take."""
SIZE_LIMIT = 2**20
"""Bytes of a job file."""
DEPTH_LIMIT = 64
"""Nesting of tables and lists. At about 300, Python itself crashes."""
LINE_SHOWN = 100
"""Characters of a faulty line in a message."""
MESSAGE_LIMIT = 2000
"""Characters of a message about a setting: it quotes values, which may be as long as the file."""
DOTS_LIMIT = 4 * DEPTH_LIMIT
"""Dots in one key: parsing time grows with the square of their number."""


@dataclass(frozen=True)
class LoadedJob:
    """A job and its origin."""

    job: Job
    path: Path
    base: Path
    """Folder of the job file: relative paths in the job start here."""
    says_arithmetic: bool = True
    """Whether `train.arithmetic` was given; a job that leaves it out resumes a run with the run's own."""


def load_job(path: Path | None = None, overrides: Sequence[str] = ()) -> LoadedJob:
    """Read the job file at `path` (None: the digits job that comes with hpcnn) and apply `overrides`.

    Each override is ``key=value``, see `hpcnn.job.overrides`.

    Raises:
        JobError: no such file, not TOML, or the first setting that is unknown, missing, out of range, or
            inconsistent with another one.

    >>> load_job(overrides=["train.epochs=3"]).job.train.epochs
    3
    """
    from hpcnn.job.overrides import apply_overrides

    path = builtin_jobs() / DEFAULT_JOB if path is None else path
    table = read_table(path)
    return check_table(table, path, apply_overrides(table, overrides))


def check_table(table: dict[str, Any], path: Path, changed: Mapping[Keys, bool] | None = None) -> LoadedJob:
    """Return the job that a table of sections, as in a job file, describes.

    Args:
        table: sections by name.
        path: the file, real or notional; its name is the default name of the job.
        changed: the keys that were overridden; see `hpcnn.job.overrides.apply_overrides`.

    Raises:
        JobError: the first setting that is unknown, missing, out of range, or inconsistent with another one.
    """
    import msgspec

    from hpcnn.core.conversion import convert
    from hpcnn.job.checks import check_job
    from hpcnn.job.overrides import check_emptied
    from hpcnn.job.schema import Job
    from hpcnn.job.validate import SettingError, check, job_type

    changed = changed or {}
    try:
        check(table, job_type())
        job = convert(table, Job)
        check_emptied(job, changed)
        job = msgspec.structs.replace(job, name=_checked_name(job.name, path))
        check_job(job)
    except SettingError as error:
        raise JobError(f"{path}{_blamed(error.path, changed)}: {shortened(error, MESSAGE_LIMIT)}") from None
    except JobError as error:
        raise JobError(f"{path}: {shortened(error, MESSAGE_LIMIT)}") from None
    return LoadedJob(job, path, _base_of(path), says_arithmetic="arithmetic" in table.get("train", {}))


def _base_of(path: Path) -> Path:
    """Return the base of relative paths: for the job file of a run, that of the job file it was started with."""
    origin = read_origin(path.parent) if path == RunPaths(path.parent).job else None
    return origin or path.parent


def builtin_jobs() -> Path:
    """Return the folder of the jobs that come with hpcnn: in the package, or next to it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "jobs"
    return installed if installed.is_dir() else package.parent / "jobs"


def read_table(path: Path) -> dict[str, Any]:
    """Return the sections of a job file as written; those of a run with what an older version did not record.

    Raises:
        JobError: no such file, or not TOML.
    """
    import tomllib

    text = _read_text(path)
    if any(piece.count(".") > DOTS_LIMIT for piece in re.split("[=,\n]", text)):
        raise JobError(f"{path}: a key or value has more than {DOTS_LIMIT} dots. Is it a job file?")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{path}{_toml_problem(str(error), text)}") from None
    except (ValueError, RecursionError) as error:
        raise JobError(f"{path}: a number or nesting that can't be read ({error})") from None
    _check_depth(table, path)
    run = RunPaths(path.parent)
    return as_recorded(table) if path == run.job and run.origin.is_file() else table


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise JobError(f"{str(path)!r} is a folder, but a job file is needed. That of a run is its job.toml.")
        if path.exists() and not path.is_file():  # reading a pipe may block for ever
            raise JobError(f"can't read the job file {str(path)!r}: it is a pipe or device. Give a file.")
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
        if len(content) > SIZE_LIMIT:
            raise JobError(
                f"{path} has more than {SIZE_LIMIT} bytes and is not a job file. Store data in files of their own."
            )
        return content.decode("utf-8-sig")  # some editors write a byte order mark
    except FileNotFoundError:
        raise JobError(f"no job file {str(path)!r}.{_other_jobs(path)}") from None
    except OSError as error:
        raise JobError(f"can't read the job file {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None


def _check_depth(table: dict[str, Any], path: Path) -> None:
    level: list[Any] = [table]
    for _ in range(DEPTH_LIMIT):
        inner = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
        level = [value for value in inner if isinstance(value, dict | list)]
    if level:
        raise JobError(f"{path}: tables and lists are nested more than {DEPTH_LIMIT} levels deep")


def _toml_problem(message: str, text: str) -> str:
    """Turn "Invalid value (at line 3, column 5)" into ", line 3, column 5: Invalid value"."""
    what, _, where = message.rpartition(" (at ")
    found = re.match(r"line (\d+), column (\d+)", where)
    lines = text.splitlines() or [""]
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    return f", line {line}, column {column}: {what}: {lines[min(line, len(lines)) - 1].strip()[:LINE_SHOWN]!r}"


def _other_jobs(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {str(path.parent)!r} either."
    others = sorted(entry.stem for entry in path.parent.glob("*.toml"))
    near = nearest(path.stem, others).replace("'?", ".toml'?")
    return near or (f" That folder has: {', '.join(f'{stem}.toml' for stem in others)}." if others else "")


def _blamed(path: Sequence[str | int], changed: Iterable[Keys]) -> str:
    """Return which overrides contribute to an error at `path`: the file alone may be valid."""
    keys = tuple(map(str, path))
    parts = sorted(".".join(one) for one in changed if one[: len(keys)] == keys or keys[: len(one)] == one)
    return f" with --set {', '.join(parts)}" if parts else ""


def _checked_name(name: str, path: Path) -> str:
    """Return the name of the job, by default that of the file, after checking that it can name a folder."""
    given, name = name, name or path.stem
    bad = not name.isprintable() or set(name) & set('/\\:*?"<>|') or len(name.encode()) > NAME_LIMIT
    if bad or name[0] in ".- " or name[-1] in ". ":
        raise JobError(
            f"name = {name!r}{'' if given else ', from the file name,'} can't name a run folder: expected at most "
            f'{NAME_LIMIT} bytes without / \\ : * ? " < > |, not starting with . or - and not ending with a dot. '
            f"{'Change it' if given else 'Give the job a name at the top of the file'}, for example: "
            'name = "my-job"'
        )
    return name
