"""Several runs side by side: best first, and the settings in which they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hpcnn.job.dump import leaves
from hpcnn.tools.report.record import RunRecord, layers_of, lower_is_better, mapping

MOST_SETTINGS = 200
"""Runs that differ in more settings are of different jobs: the table would tell nothing."""


def monitor_of(runs: Sequence[RunRecord]) -> str:
    """Return the value that most runs are judged by."""
    return Counter(run.monitor for run in runs).most_common(1)[0][0]


def best_first(runs: Sequence[RunRecord], monitor: str) -> list[RunRecord]:
    """Return the runs in the order of their best value; those without one last."""
    sign = 1 if lower_is_better(monitor) else -1

    def rank(run: RunRecord) -> tuple[bool, float]:
        best = run.best(monitor)
        return (True, 0.0) if best is None else (False, sign * best[1])

    return sorted(runs, key=rank)


def short_names(runs: Sequence[RunRecord]) -> list[str]:
    """Return a name for each run: its folder's, with as many of the folders above as it takes to tell them apart."""
    paths = [run.path.absolute().parts for run in runs]
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(names)) == len(names):
            break
    return names


def differing(runs: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Return the settings that are not the same in all runs, by their dotted names; empty for none."""
    flat = [dict(leaves(_told_apart(run.settings, runs), "")) for run in runs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    found = {}
    for name in names:
        values = [json.dumps(one[name], default=str, ensure_ascii=False) if name in one else "" for one in flat]
        if len(set(values)) > 1 and name != "name":
            found[name] = values
    return found


def _told_apart(settings: Mapping[str, Any], runs: Sequence[RunRecord]) -> Mapping[str, Any]:
    """Return the settings; the layers in few words, where they are of other kinds than in another run."""
    if len({str(_kinds(run.settings)) for run in runs}) == 1:
        return settings
    return {**settings, "model": {**mapping(settings.get("model")), "layers": _kinds(settings)}}


def _kinds(settings: Mapping[str, Any]) -> list[str]:
    """Return the layers in few words, as ``dense 128 relu``."""
    keys = ("type", "units", "activation", "rate")
    return [" ".join(str(layer[key]) for key in keys if key in layer) for layer in layers_of(settings)]
