"""Reads a run folder, and reports what is missing. The contents are not trusted, and no error is raised for them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcnn.core.formatting import counted
from hpcnn.errors import CheckpointError, HpcnnError, shortened
from hpcnn.job.recorded import as_recorded
from hpcnn.runs.prediction.record import RunTimes
from hpcnn.slurm.run_files import RunFiles, holds_any, job_numbers, read_json, read_lines, require_run
from hpcnn.slurm.selection import Selection, queue_or_nothing, writes_to
from hpcnn.slurm.status import statuses
from hpcnn.tools.report.record import RunRecord, mapping
from hpcnn.tools.report.time_accounts import TimeAccount, time_accounts
from hpcnn.tools.report.values import moment, whole

_MOST_JOB_BYTES = 2**20


def read_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Return the runs in some folders; a sweep is all of its runs."""
    try:
        return [read_run(folder) for path in paths for folder in _folders(path)]
    except OSError as error:
        where = "" if error.filename is None else f" {str(error.filename)!r}"
        raise CheckpointError(f"can't read{where} ({error.strerror or error}). Ask its owner.") from None


def _folders(path: Path) -> list[Path]:
    files = RunFiles(path)
    if files.sweep.exists():
        elements = [element.path for element in files.elements().values()]
        if not elements:
            raise CheckpointError(f"no run of the sweep {str(path)!r} has begun. hpcnn status says what it waits for.")
        return elements
    if not holds_any(path) and not any(file.exists() for file in (files.metrics, *_states(files))):
        require_run(path)
    return [path]


def read_run(path: Path) -> RunRecord:
    """Return what the files of a run say."""
    files = RunFiles(path)
    troubles: list[str] = []
    job, settings = _job(files.job, troubles)
    result = read_json(files.result)
    if files.result.exists() and not result:
        troubles.append("result.json can't be read: what the run came to is taken from its last epoch.")
    metadata = _checkpoint_metadata(files, troubles) if not result.get("machine") else {}
    state, why = _state(files)
    accounts, times = _times(files.time, troubles)
    sha256, weights_of = _weights(result, metadata)
    return RunRecord(
        path=path,
        name=str(settings.get("name") or path.absolute().name),
        state=state,
        why=why,
        job=job,
        settings=settings,
        epochs=_epochs(files.metrics, troubles),
        result=result,
        progress=read_json(files.progress),
        environment={**_environment(result or metadata), **_data_changes(result)},
        weights_sha256=sha256,
        weights_of=weights_of,
        attempts=read_lines(files.attempts),
        accounts=accounts,
        times=times,
        troubles=troubles,
        input_shape=_shape(mapping(settings.get("model")).get("input_shape")) or _shape_in_checkpoint(files),
    )


def _data_changes(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the changes of its data that a run went on with."""
    changes = result.get("data_changes")
    found = [mapping(change) for change in changes] if isinstance(changes, list) else []
    return {f"data changed after step {change.get('step')}": str(change.get("text")) for change in found}


def _job(path: Path, troubles: list[str]) -> tuple[str, dict[str, Any]]:
    if not path.is_file():
        troubles.append("job.toml is missing: the settings are not known.")
        return "", {}
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_JOB_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        troubles.append(f"job.toml can't be read ({error.strerror}): the settings are not known.")
        return "", {}
    try:
        return text, as_recorded(tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        troubles.append(f"job.toml is no TOML ({shortened(error)}): it is shown as it is.")
        return text, {}


def _epochs(path: Path, troubles: list[str]) -> list[dict[str, Any]]:
    """Return the epochs in order; of those that were done twice, the last time."""
    lines = read_lines(path)
    epochs = {epoch: line for line in lines if (epoch := whole(line.get("epoch"))) is not None and epoch > 0}
    if not epochs:
        what = "holds no epoch" if path.exists() else "is missing"
        troubles.append(f"metrics.jsonl {what}: there are no curves. Each epoch that ends adds a line to it.")
    damaged = _count_lines(path) - len(lines) + sum((whole(line.get("epoch")) or 0) < 1 for line in lines)
    _note_damage("metrics.jsonl", damaged, troubles)
    return [epochs[epoch] for epoch in sorted(epochs)]


def _times(path: Path, troubles: list[str]) -> tuple[list[TimeAccount], RunTimes]:
    lines = read_lines(path)
    accounts, times, useless = time_accounts(lines)
    _note_damage("time.jsonl", useless + _count_lines(path) - len(lines), troubles)
    if not accounts:
        what = "holds no line yet" if path.exists() else "is missing"
        troubles.append(f"time.jsonl {what}: where the time went is not known.")
    return accounts, times


def _note_damage(name: str, damaged: int, troubles: list[str]) -> None:
    if damaged:
        verb = "is" if damaged == 1 else "are"
        troubles.append(f"{name}: {counted(damaged, 'line')} can't be read, and {verb} left out.")


def _count_lines(path: Path) -> int:
    try:
        return sum(bool(line.strip()) for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return 0


def _checkpoint_metadata(files: RunFiles, troubles: list[str]) -> dict[str, Any]:
    """Return what the newest checkpoint says beside its arrays; nothing if there is none."""
    from hpcnn.storage.checkpoint import read_facts  # NumPy comes with it

    for state in filter(Path.exists, _states(files)):
        try:
            return read_facts(state)
        except HpcnnError as error:
            troubles.append(f"{state.relative_to(files.path)} can't be read: {shortened(error)}")
    return {}


def _shape(value: object) -> tuple[int, ...]:
    """Return the shape of a sample; empty if it is none."""
    sizes = [whole(size) for size in value] if isinstance(value, list) else []
    return tuple(size for size in sizes if size and size > 0) if all(sizes) else ()


def _shape_in_checkpoint(files: RunFiles) -> tuple[int, ...]:
    from hpcnn.storage.checkpoint import read_facts  # NumPy comes with it

    for state in filter(Path.exists, _states(files)):
        with suppress(HpcnnError):  # said elsewhere
            return _shape(read_facts(state).get("input_shape"))
    return ()


def _states(files: RunFiles) -> tuple[Path, ...]:
    return files.model, files.last, files.best


def _state(files: RunFiles) -> tuple[str, str]:
    jobs = []
    if job_numbers(files):
        with suppress(HpcnnError):  # Slurm does not answer: the folder still tells much
            jobs = [job for job in queue_or_nothing() if writes_to(job, RunFiles(files.path.absolute()))]
    one = statuses(Selection(files, jobs))[0]
    if one.why != "not under Slurm":
        return one.state, one.why
    if one.state == "running":
        return one.state, "still running"
    last = read_json(files.progress).get("time")
    trace = f"; its last trace is of {moment(last)}" if last else ""
    return "incomplete", f"stopped, failed or lost{trace}; resume it: hpcnn train JOB --resume RUN"


def _weights(result: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Return a SHA-256, and of which weights it is."""
    if sha256 := result.get("weights_sha256"):
        return str(sha256), "of the trained weights"
    if sha256 := metadata.get("weights_sha256"):
        step = whole(mapping(metadata.get("progress")).get("step"))
        return str(sha256), "of the weights in the last checkpoint" + (f", at step {step:,}" if step else "")
    return "", ""


def _environment(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return versions and machine from a result or from the metadata of a checkpoint."""
    found = {"hpcnn": metadata.get("hpcnn"), **mapping(metadata.get("machine"))}
    return {str(name): str(value) for name, value in found.items() if value is not None}
