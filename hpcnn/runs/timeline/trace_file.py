"""The marks of all ranks as a trace for Perfetto (https://ui.perfetto.dev) and chrome://tracing.

The format is Chrome's: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.core.activity import OTHER, PHASES
from hpcnn.runs.timeline.clocks import on_one_clock
from hpcnn.runs.timeline.marks import FIRST_LAYER, LAYER_END, STEP_BEGIN, Marks
from hpcnn.system.atomic import atomic_path

_COMPRESSION = 3
"""Level of gzip: 9 makes the file a tenth smaller, and takes three times as long."""
_MAIN, _EXCHANGE = 1, 2
"""Thread ids in the trace."""


@dataclass(frozen=True)
class RankTrace:
    """The marks of one rank."""

    rank: int
    host: str
    main: Marks
    """Of the main thread."""
    exchange: Marks
    """Of the exchange thread; empty if there is none."""
    clock: Array
    """The points of its `RankClock`."""


def write_trace(path: Path, parts: Sequence[RankTrace], layers: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write the trace of the ranks in `parts`, with `facts` as additional data."""
    zero = min(float(on_one_clock(part.main.times[:1], part.clock)[0]) for part in parts)
    error_us = max(1e6 * float(part.clock[:, 2].max()) for part in parts)
    head = json.dumps({"displayTimeUnit": "ms", "otherData": {**facts, "clock_error_us": round(error_us, 3)}})
    names = _names(layers)
    lines = chain.from_iterable(_rank_lines(part, zero, names) for part in parts)
    with atomic_path(path) as temporary, gzip.open(temporary, "wt", _COMPRESSION, encoding="utf-8") as file:
        file.write(head[:-1] + ', "traceEvents": [\n')
        file.write(",\n".join(lines))
        file.write("\n]}\n")


def _nanoseconds(seconds: Array, zero: float) -> list[int]:
    whole = np.rint((seconds - zero) * 1e9).astype(np.int64)
    numbers: list[int] = np.maximum.accumulate(whole).tolist()
    return numbers


def _rank_lines(part: RankTrace, zero: float, names: Mapping[int, str]) -> Iterator[str]:
    process = part.rank + 1  # Perfetto takes 0 for the idle process
    yield _named(process, _MAIN, "process_name", {"name": f"rank {part.rank} on {part.host}"})
    yield _named(process, _MAIN, "process_sort_index", {"sort_index": part.rank})
    at_work = {code: name for code, name in names.items() if code != PHASES.index(OTHER)}
    threads = ((_MAIN, "main", part.main, names), (_EXCHANGE, "exchange", part.exchange, at_work))
    for number, thread, marks, shown in threads:
        if len(marks.codes):
            yield _named(process, number, "thread_name", {"name": thread})
            times = _nanoseconds(on_one_clock(marks.times, part.clock), zero)
            yield from _slices(marks, times, shown, f'"pid":{process},"tid":{number}')


def _slices(marks: Marks, times: Sequence[int], names: Mapping[int, str], thread: str) -> Iterator[str]:
    """Yield the events of a thread in the order of time; nested slices end before the outer ones."""
    places = {mark: (epoch, step) for mark, epoch, step in marks.places.tolist()}
    epoch = step = at = 0
    opened: list[int] = []
    for number, (code, at) in enumerate(zip(marks.codes.tolist(), times, strict=True)):
        epoch, step = places.get(number, (epoch, step))
        if opened and opened[-1] == code < len(PHASES):  # the same phase was entered again
            continue
        time = f'"ts":{at / 1000:.3f},{thread}'
        while len(opened) > _stay(code, opened):
            opened.pop()
            yield f'{{"ph":"E",{time}}}'
        if code == STEP_BEGIN or code in names:
            name = names.get(code) or f'"name":"step {step}","cat":"step"'
            place = f',"args":{{"epoch":{epoch},"step":{step}}}' if code < FIRST_LAYER else ""
            opened.append(code)
            yield f'{{"ph":"B",{name},{time}{place}}}'
    for _ in opened:
        yield f'{{"ph":"E","ts":{at / 1000:.3f},{thread}}}'


def _stay(code: int, opened: Sequence[int]) -> int:
    """Return how many of the open slices a mark leaves open: a step contains phases, and a phase layers."""
    if code >= FIRST_LAYER:
        return len(opened)
    if code == LAYER_END:
        return len(opened) - (bool(opened) and opened[-1] >= FIRST_LAYER)
    if code < len(PHASES):
        return int(bool(opened) and opened[0] == STEP_BEGIN)
    return 0


def _names(layers: Sequence[str]) -> dict[int, str]:
    phases = {code: f'"name":{json.dumps(phase)},"cat":"phase"' for code, phase in enumerate(PHASES)}
    return phases | {
        FIRST_LAYER + number: f'"name":{json.dumps(layer)},"cat":"layer"' for number, layer in enumerate(layers)
    }


def _named(process: int, thread: int, what: str, values: Mapping[str, Any]) -> str:
    return json.dumps({"ph": "M", "name": what, "pid": process, "tid": thread, "args": values})
