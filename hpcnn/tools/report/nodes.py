"""How many nodes pay for a run, in sentences."""

from __future__ import annotations

from pathlib import Path

from hpcnn.errors import HpcnnError
from hpcnn.tools.report.record import RunRecord


def nodes_in_words(run: RunRecord) -> tuple[str, list[str]]:
    """Return how many nodes pay, and what that rests on; or, with nothing, what the run lacks for an advice."""
    from hpcnn.job.load import check_table  # NumPy comes with these
    from hpcnn.runs.prediction.advice import advise

    try:
        job = check_table(dict(run.settings), Path("job.toml")).job
    except HpcnnError:  # of another version, or damaged: that is said elsewhere
        return "No advice on how many nodes pay: the settings are not known.", []
    advice = advise(job, run.times, run.noise_scale)
    if isinstance(advice, str):
        return advice, []
    return f"{advice.verdict[0].upper()}{advice.verdict[1:]}.", advice.basis
