"""The page of a scaling study in Markdown, with its plots beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from hpcnn.core.formatting import counted, percent, three_digits
from hpcnn.errors import JobError
from hpcnn.tools.outputs import write_whole
from hpcnn.tools.scaling.figures import Figures, Study, read_study
from hpcnn.tools.scaling.names import ALLREDUCE, DDP, HOROVOD, HPCNN, KIND_TITLES, LABELS, RIVALS, STRONG, WEAK
from hpcnn.tools.scaling.plan import StudyFiles
from hpcnn.tools.scaling.plot import scaling_plot

_SHOWN = 16
"""Digits of a hash in a table."""
_REMEDY = "Make the folder writable, and write the page again by --page."


def write_page(files: StudyFiles) -> str:
    """Write the page and the plots of the runs that there are; return a line that says so.

    Raises:
        JobError: there is no study, or no run of it is done.
    """
    study = read_study(files)
    if not study.runs:
        raise JobError(f"no run of the study in {str(files.path)!r} is done yet: there is nothing to show")
    for kind in study.plan.kinds:
        if drawing := _plot(study, kind):
            write_whole(files.path / f"{kind}.svg", drawing, _REMEDY)
    write_whole(files.page, page(study), _REMEDY)
    return f"page        {files.page}: {len(study.runs)} of {counted(len(study.plan.runs()), 'run')}"


def page(study: Study) -> str:
    """Return the page."""
    sections = [
        _introduction(study),
        _verdict(study),
        *(_scaling(study, kind) for kind in study.plan.kinds),
        _machine(study),
        _method(study),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(study: Study) -> str:
    run, plan = _any(study), study.plan
    sizes = ", ".join(map(str, plan.nodes))
    done = f"{len(study.runs)} of {len(plan.runs())} runs are done. " if len(study.runs) < len(plan.runs()) else ""
    return (
        f"# Scaling of {run.raw['job']}\n\n"
        f"{done}Training on {sizes} nodes with {counted(plan.tasks_per_node, 'rank')} each, a network of "
        f"{counted(run.raw['parameters'], 'parameter')}, {run.raw['arithmetic']} arithmetic. "
        f"Measured by hpcnn {_each(each.raw['environment']['hpcnn'] for each in _runs(study))} until "
        f"{max(each.raw['time'] for each in _runs(study))}."
    )


def _verdict(study: Study) -> str:
    """Return whether all strong-scaling runs have the same bits."""
    hashes = study.strong_hashes()
    if not hashes:
        return ""
    steps = _any(study).raw["sides"][HPCNN]["steps"]
    if len(hashes) == 1:
        (nodes,) = hashes
        return f"Strong scaling is measured on {counted(nodes, 'node')} only: there is no other hash to compare."
    sizes = f"{', '.join(map(str, hashes))} nodes"
    if len(set(hashes.values())) == 1:
        return (
            f"**All {len(hashes)} strong-scaling runs have one SHA-256** of the weights after {steps} steps, on "
            f"{sizes}: `{next(iter(hashes.values()))}`"
        )
    return (
        f"**The strong-scaling runs have {len(set(hashes.values()))} different SHA-256** of the weights after {steps} "
        f"steps, on {sizes}. That is a fault: of a processor, of memory, or because the runs used different software."
    )


def _scaling(study: Study, kind: str) -> str:
    runs = study.of_kind(kind)
    if not runs:
        return ""
    what = (
        "The job as it is: the batch stays the same, and each rank has less of it."
        if kind == STRONG
        else "Each node has the same number of samples a step: batch and gradient shards grow with the nodes."
    )
    picture = f"![{KIND_TITLES[kind]}]({kind}.svg)" if _is_drawn(study, kind) else ""
    tables = [_own_table(study, kind, runs), _table_beside(study, kind, runs)]
    return "\n\n".join(part for part in (f"## {KIND_TITLES[kind]}", what, picture, *tables) if part)


def _own_table(study: Study, kind: str, runs: Sequence[Figures]) -> str:
    heading = ["nodes", "ranks", "batch", "ms a step", "samples/s", "efficiency", "SHA-256 of the weights"]
    rows = []
    for run in runs:
        times = run.step_ms(HPCNN)
        rows.append(
            [
                f"{run.nodes:,}",
                f"{run.ranks:,}",
                f"{run.raw['batch_size']:,}",
                f"{three_digits(median(times))} ({three_digits(min(times))} to {three_digits(max(times))})",
                f"{run.rate(HPCNN):,.0f}",
                _percent(study.efficiency(kind, run, HPCNN)),
                f"`{run.sha256()[:_SHOWN]}`",
            ]
        )
    return _table(heading, rows)


def _table_beside(study: Study, kind: str, runs: Sequence[Figures]) -> str:
    """Return the table of all sides: milliseconds a step, its ratio to hpcnn's, and efficiency."""
    others = study.sides()[1:]
    if not others:
        return ""
    heading = ["nodes", "hpcnn, ms a step"]
    for side in others:
        heading += [f"{LABELS[side]}, ms a step", "/ hpcnn", "efficiency"]
    rows = []
    for run in runs:
        cells = [f"{run.nodes:,}", three_digits(median(run.step_ms(HPCNN)))]
        for side in others:
            measured = run.has(side)
            cells += [
                three_digits(median(run.step_ms(side))) if measured else "",
                f"{run.ratio(side):.2f}" if measured else "",
                _percent(study.efficiency(kind, run, side)),
            ]
        rows.append(cells)
    return _table(heading, rows)


def _machine(study: Study) -> str:
    environments = [run.raw["environment"] for run in _runs(study)]
    networks = [run.raw["network"] for run in _runs(study) if run.raw["network"]]
    rows = [
        ("processor", _each(one["machine"]["processor"] for one in environments)),
        ("CPUs of a node", _each(one["cpus_a_node"] for one in environments)),
        ("threads of a rank", _each(_range(*one["threads_a_rank"]) for one in environments)),
        ("kernels of the compiled core", _each(one["kernels"] for one in environments)),
        ("BLAS of NumPy", _each(one["machine"]["blas"] for one in environments)),
        ("MPI", _each(" ".join(one.get("mpi", "").split()) for one in environments)),
        ("latency between nodes", _measured(networks, "latency_s", 1e6, "us")),
        ("overhead of a message", _measured(networks, "overhead_s", 1e6, "us")),
        ("bandwidth between two ranks", _bandwidth(networks)),
        ("system", _each(one["system"] for one in environments)),
        ("Python, NumPy", _each(f"{one['python']}, {one['machine']['numpy']}" for one in environments)),
        ("packages", _each(", ".join(f"{n} {v}" for n, v in one["versions"].items()) for one in environments)),
    ]
    known = [[name, value] for name, value in rows if value]
    return f"## The machine\n\n{_table(['', ''], known)}"


def _method(study: Study) -> str:
    run, plan, sides = _any(study), study.plan, study.sides()
    rounds = len(run.step_ms(HPCNN))
    lines = [
        f"- Each figure is the median of {rounds} measurements of {plan.steps} training steps, reading of samples "
        "included, evaluation and checkpoints not; in brackets the fastest and the slowest. A measurement ends when "
        "the slowest rank has ended.",
        f"- {_jobs(study)}",
        f"- Efficiency is samples per second, over those on {counted(plan.nodes[0], 'node')} and over how many times "
        "as many nodes there are. Each side is compared with itself.",
    ]
    in_turn = [LABELS[side] for side in sides if side != HOROVOD]
    if len(in_turn) > 1:
        lines.append(
            f"- {', '.join(in_turn[:-1])} and {in_turn[-1]} take turns in one process on each rank. `/ hpcnn` is the "
            "time as a multiple of hpcnn's, the median over the pairs of measurements that follow each other: on a "
            "busy machine it differs from the ratio of the two medians."
        )
    if ALLREDUCE in sides:
        lines.append(
            "- MPI_Allreduce: the same network and arithmetic, with gradients summed by the MPI library in an order of "
            f"its own.{_other_hashes(study)}"
        )
    if DDP in sides:
        lines.append(
            "- PyTorch DDP: the same layers, samples, optimizer and cores in PyTorch, with DistributedDataParallel "
            "over gloo, which sends by TCP; hpcnn also computes the job's metrics. NCCL, for GPUs, is not compared."
        )
    if HOROVOD in sides:
        lines.append(
            "- Horovod: hpcnn's network and arithmetic, with gradients summed by Horovod. It is measured after the "
            "others, since its thread never rests once it runs; its ratio is that of the medians."
        )
    if any(run.ranks == 1 for run in study.runs.values()) and {ALLREDUCE, HOROVOD} & {*sides}:
        lines.append("- One rank exchanges nothing: there, hpcnn's figure is the base of other exchanges as well.")
    if WEAK in plan.kinds:
        lines.append("- Where the samples of an epoch are no multiple of the batch, its last batch is smaller.")
    lines += [f"- {note}" for note in _remarks(study)]
    return "\n".join(["## How it was measured", "", *lines, "", "The raw figures of each run are in [raw](raw/)."])


def _jobs(study: Study) -> str:
    """Return on which nodes the runs were."""
    jobs: dict[str, list[str]] = {}
    for name, run in study.runs.items():
        jobs.setdefault(run.raw["slurm_job"], []).append(name)
    if "" in jobs:
        return f"Not started by Slurm: {', '.join(jobs[''])}. Nothing says that these runs had the same nodes."
    if len(jobs) == 1:
        return (
            "One Slurm job had the nodes of the largest size, and smaller sizes ran on the first of them: all sizes "
            "had the same nodes and software."
        )
    parts = "; ".join(", ".join(names) for names in jobs.values())
    return (
        f"The runs come from {len(jobs)} starts of Slurm jobs ({parts}), each with the nodes of the largest size, of "
        "which smaller sizes used the first. The nodes may differ between them."
    )


def _other_hashes(study: Study) -> str:
    hashes = set(study.strong_hashes(ALLREDUCE).values())
    count = len(study.strong_hashes(ALLREDUCE))
    if count < 2:
        return ""
    if len(hashes) > 1:
        return f" Its {count} strong-scaling runs have {len(hashes)} different SHA-256."
    same = "that of hpcnn" if hashes == set(study.strong_hashes().values()) else "another than hpcnn's"
    return f" Its {count} strong-scaling runs have one SHA-256 here, {same}; nothing guarantees that."


def _remarks(study: Study) -> list[str]:
    """Return why something was left out or is disturbed, each once with the runs that it holds for."""
    said: dict[str, list[str]] = {}
    for name, run in study.runs.items():
        for side, why in run.raw["left_out"].items():
            if run.ranks > 1 or side == DDP:
                said.setdefault(f"{LABELS[side]} was left out: {why.rstrip('.')}", []).append(name)
        for note in run.raw["notes"]:
            said.setdefault(f"Note: {note.rstrip('.')}", []).append(name)
    missing = [run.name for run in study.plan.runs() if run.name not in study.runs]
    if missing:
        said["Not measured yet"] = missing
    unasked = [LABELS[side] for side in RIVALS if side not in study.plan.rivals]
    if unasked:
        said["Left out on request"] = unasked
    return [f"{what} ({', '.join(names)})." for what, names in said.items()]


def _plot(study: Study, kind: str) -> str:
    """Return the plot; empty if the smallest size is not measured."""
    if not _is_drawn(study, kind):
        return ""
    runs = study.of_kind(kind)
    rates, shares = {}, {}
    for side in study.sides():
        rates[LABELS[side]] = [(run.nodes, run.rate(side)) for run in runs if run.has(side)]
        known = [(run.nodes, study.efficiency(kind, run, side)) for run in runs]
        shares[LABELS[side]] = [(nodes, share) for nodes, share in known if share is not None]
    return scaling_plot(KIND_TITLES[kind], rates, shares)


def _is_drawn(study: Study, kind: str) -> bool:
    runs = study.of_kind(kind)
    return len(runs) > 1 and runs[0].nodes == study.plan.nodes[0]


def _runs(study: Study) -> list[Figures]:
    return list(study.runs.values())


def _any(study: Study) -> Figures:
    return next(iter(study.runs.values()))


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _each(values: Iterable[Any]) -> str:
    """Return the different values of the runs."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in ("", None)))


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _measured(networks: Sequence[dict[str, float]], key: str, factor: float, unit: str) -> str:
    values = [factor * network[key] for network in networks]
    return f"{three_digits(median(values))} {unit}, measured" if values else ""


def _bandwidth(networks: Sequence[dict[str, float]]) -> str:
    values = [8e-9 / network["byte_s"] for network in networks if network["byte_s"]]
    return f"{three_digits(median(values))} Gbit/s, measured with 256 KiB" if values else ""


def _percent(share: float | None) -> str:
    return "" if share is None else percent(share)
