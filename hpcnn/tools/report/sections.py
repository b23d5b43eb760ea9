"""The sections of a page that are about one run."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from hpcnn.core.formatting import counted
from hpcnn.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_STALLED, EXIT_STOPPED
from hpcnn.tools.html import Child, section, table, tag
from hpcnn.tools.report.bars import time_of_ranks
from hpcnn.tools.report.charts import svg_chart
from hpcnn.tools.report.confusion import confusion
from hpcnn.tools.report.curves import charts_of_run
from hpcnn.tools.report.network import network
from hpcnn.tools.report.nodes import nodes_in_words
from hpcnn.tools.report.record import VALIDATION, RunRecord
from hpcnn.tools.report.values import NONE, figure, moment, number, seconds, whole

_EXITS = {
    EXIT_DONE: "done",
    EXIT_STOPPED: "saved and stopped",
    EXIT_BAD_INPUT: "bad input",
    EXIT_STALLED: "a rank made no progress",
    EXIT_INTERRUPTED: "interrupted",
}
_MOST_ACCOUNTS, _MOST_ATTEMPTS = 4, 100


def body(run: RunRecord) -> list[Element | None]:
    """Return all that follows the heading; None for what the run has not."""
    return [
        troubles(run),
        learning(run),
        confusion(run),
        times(run),
        nodes(run),
        attempts(run),
        network(run),
        job_and_environment(run),
    ]


def tiles(run: RunRecord) -> Element:
    """Return the few figures that one looks for first."""
    best = run.best(run.monitor)
    of = f"of {run.epochs_asked:,} · " if run.epochs_asked else ""
    shards = whole(run.result.get("shards"))
    figures = [
        (f"best {run.monitor}", figure(best[1]), f"after epoch {best[0]:,}")
        if best
        else (f"best {run.monitor}", NONE, "no value yet"),
        ("epochs", f"{len(run.epochs):,}", f"{of}{_steps(run)}"),
        ("time", seconds(run.seconds), _time_note(run)),
        ("speed", figure(run.samples_per_s), "samples/s, median of epochs"),
        ("ranks", figure(run.ranks), counted(shards, "gradient shard") if shards else "at the last start"),
    ]
    return tag("dl", [tag("div", tag("dt", a), tag("dd", b, tag("small", c))) for a, b, c in figures], class_="tiles")


def _steps(run: RunRecord) -> str:
    known = run.result.get("steps"), run.progress.get("step"), run.epochs[-1].get("step") if run.epochs else None
    steps = next((step for step in map(whole, known) if step), None)
    return counted(steps, "step") if steps else "no step yet"


def _time_note(run: RunRecord) -> str:
    return "of the last attempt" if number(run.result.get("seconds")) is not None else "of all epochs so far"


def weights(run: RunRecord) -> Element | None:
    """Return the SHA-256."""
    if not run.weights_sha256:
        return None
    return tag("p", f"SHA-256 {run.weights_of} ", tag("code", run.weights_sha256), class_="sha")


def troubles(run: RunRecord) -> Element | None:
    """Return what is missing or damaged."""
    if not run.troubles:
        return None
    said = tag("ul", [tag("li", trouble) for trouble in run.troubles])
    return tag("aside", tag("strong", "What this report could not read"), said, class_="troubles")


def learning(run: RunRecord) -> Element | None:
    """Return the curves of the loss, each metric, the learning rate and the speed, and the values at the end."""
    if not run.epochs:
        return None
    charts = [svg_chart(chart) for chart in charts_of_run(run)]
    return section("Learning curves", tag("div", charts, _results(run), class_="charts"), note=run.critical_batch)


def _results(run: RunRecord) -> Element:
    rows: list[list[Child]] = []
    for name in run.values:
        judged = VALIDATION + name if run.points(VALIDATION + name) else name
        best = run.best(judged)
        cells = [figure(run.last(name)), figure(run.last(VALIDATION + name))]
        rows.append([name, *cells, *((figure(best[1]), f"{best[0]:,}") if best else (NONE, NONE))])
    epoch = whole(run.epochs[-1].get("epoch"))
    held = any(run.points(VALIDATION + name) for name in run.values)
    head = ["", "training", "validation", f"best {'validation' if held else 'training'}", "in epoch"]
    return table(head, rows, caption=f"Values after epoch {epoch:,}", class_="figures")


def times(run: RunRecord) -> Element | None:
    """Return where the time of each rank went."""
    shown = run.accounts[-_MOST_ACCOUNTS:]
    more = f"The last {len(shown)} of {len(run.accounts)} sets of ranks." if len(run.accounts) > len(shown) else ""
    return section("Where the time went", [time_of_ranks(account) for account in shown], note=more) if shown else None


def nodes(run: RunRecord) -> Element | None:
    """Return how many nodes pay, or what the run lacks for that."""
    if not run.epochs:
        return None
    verdict, basis = nodes_in_words(run)
    return section("Nodes", tag("p", " ".join(basis)) if basis else (), note=verdict)


def attempts(run: RunRecord) -> Element | None:
    """Return the attempts that the run had under Slurm."""
    lines = [line for line in run.attempts if line.get("event") in ("start", "end")]
    if not lines:
        return None
    rows: dict[tuple[str, str], dict[str, Child]] = {}
    for line in lines:
        row = rows.setdefault((str(line.get("job_id", NONE)), str(line.get("attempt", NONE))), {})
        step = whole(line.get("step"))
        if line["event"] == "start":
            row |= {"nodes": figure(whole(line.get("nodes"))), "ranks": figure(whole(line.get("tasks")))}
            row |= {"began": moment(line.get("time")), "from step": figure(step)}
        else:
            code = line.get("exit_code")
            known = _EXITS.get(code) if isinstance(code, int) else None
            row |= {"ended": moment(line.get("time")), "as": known or f"exit code {code}", "at step": figure(step)}
    columns = ["nodes", "ranks", "began", "from step", "ended", "as", "at step"]
    body = [[attempt, job, *(row.get(name, NONE) for name in columns)] for (job, attempt), row in rows.items()]
    shown = table(["attempt", "job", *columns], body[-_MOST_ATTEMPTS:], caption="Starts and ends under Slurm")
    return section("Attempts", shown, note=f"{counted(len(rows), 'attempt')}.")


def job_and_environment(run: RunRecord) -> Element:
    """Return what was trained, and on what."""
    job = tag("pre", tag("code", run.job), tabindex="0") if run.job else tag("p", "Not known.", class_="note")
    toml = tag("details", tag("summary", "The resolved job, with all defaults"), job, open="")
    rows: list[list[Child]] = [[name, value] for name, value in run.environment.items()]
    machine = table(["", ""], rows, caption="Versions and machine", class_="facts") if rows else None
    unknown = tag("p", "Neither the result nor a checkpoint tells the versions and the machine.", class_="note")
    return section("Job and environment", tag("div", machine or unknown, toml, class_="pair"))
