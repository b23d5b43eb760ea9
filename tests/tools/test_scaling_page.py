"""The page of a scaling study, from made-up figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hpcnn import scaling_study as command
from hpcnn.errors import JobError
from hpcnn.tools.scaling.figures import read_study
from hpcnn.tools.scaling.page import page, write_page
from hpcnn.tools.scaling.plan import StudyFiles
from tests.tools.test_scaling_plan import plan_of

ONE, OTHER = "ab" * 32, "cd" * 32


def side(ms: float, batch: int, sha256: str = "") -> dict[str, Any]:
    """Return three measurements of 5 steps, the middle one of `ms` a step."""
    seconds = [5e-3 * ms * share for share in (0.5, 1.0, 4.0)]
    return {"seconds": seconds, "samples": [5 * batch] * 3, "steps": 35, "weights_sha256": sha256}


def figures(run: str, ms: dict[str, float], sha256: str = ONE, **changes: Any) -> dict[str, Any]:
    """Return the raw figures of a run on nodes of two ranks."""
    kind, _, size = run.partition("-")
    nodes = int(size)
    batch = 64 * (nodes if kind == "weak" else 1)
    hashes = {"hpcnn": sha256, "allreduce": OTHER if nodes == 2 else ONE}
    machine = {"processor": "a | processor", "blas": "a BLAS", "numpy": "2.0"}
    environment = {
        "hpcnn": "1.0", "machine": machine, "ranks": 2 * nodes, "mpi": "MPI  4", "threads_a_rank": [1, 2],
        "cpus_a_node": 2, "kernels": "avx2", "system": "Linux", "python": "3.12", "versions": {"torch": "2.4"},
    }  # fmt: skip
    network = {"latency_s": 2e-6, "overhead_s": 4e-7, "byte_s": 8e-11} if nodes > 1 else None
    return {
        "run": run, "kind": kind, "nodes": nodes, "tasks_per_node": 2, "time": f"2026-01-0{nodes}", "job": "digits",
        "parameters": 1000, "steps": 5, "batch_size": batch, "shards": 8, "arithmetic": "native",
        "sides": {name: side(each, batch, hashes.get(name, "")) for name, each in ms.items()},
        "left_out": {}, "network": network, "environment": environment, "notes": [], "slurm_job": "7.0",
    } | changes  # fmt: skip


ALL = [
    figures("strong-1", {"hpcnn": 8.0, "allreduce": 8.0, "ddp": 16.0}),
    figures("strong-2", {"hpcnn": 5.0, "allreduce": 8.0, "ddp": 10.0, "horovod": 20.0}),
    figures("weak-2", {"hpcnn": 10.0, "allreduce": 16.0, "ddp": 16.0}),
    figures("strong-4", {"hpcnn": 4.0, "allreduce": 8.0}, left_out={"ddp": "no network."}),
    figures("weak-4", {"hpcnn": 16.0, "allreduce": 16.0}, left_out={"ddp": "no network."}, notes=["2 ranks are busy"]),
]


@pytest.fixture
def files(tmp_path: Path) -> StudyFiles:
    """Return an empty study."""
    files = StudyFiles(tmp_path / "study")
    files.write_plan(plan_of())
    return files


def put(files: StudyFiles, *raw: dict[str, Any]) -> None:
    for one in raw:
        (files.raw / f"{one['run']}.json").write_text(json.dumps(one))


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose heading begins so."""
    lines = text.splitlines()
    tables = [place for place, line in enumerate(lines) if line.startswith(heading)]
    found = []
    for place in tables:
        end = next((after for after in range(place, len(lines)) if not lines[after].startswith("|")), len(lines))
        found += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[place + 2 : end]]
    return found


def test_medians_and_efficiency(files: StudyFiles) -> None:
    put(files, *ALL)
    study = read_study(files)
    strong, weak = ({run.nodes: run for run in study.of_kind(kind)} for kind in ("strong", "weak"))
    assert [strong[4].rate("hpcnn"), weak[2].rate("hpcnn")] == pytest.approx([64 / 4e-3, 128 / 10e-3])
    assert study.efficiency("strong", strong[1], "hpcnn") == pytest.approx(1.0)
    assert study.efficiency("strong", strong[4], "hpcnn") == pytest.approx(8 / 4 / 4)
    assert study.efficiency("weak", weak[4], "hpcnn") == pytest.approx(8 / 16)
    assert study.efficiency("weak", weak[2], "ddp") == pytest.approx(1.0)
    assert study.efficiency("weak", weak[4], "ddp") is None  # left out
    assert study.efficiency("strong", strong[2], "horovod") is None  # not measured on two ranks of one node
    assert [strong[2].ratio(side) for side in ("allreduce", "ddp", "horovod")] == pytest.approx([1.6, 2.0, 4.0])


def test_one_rank_is_the_base_of_other_exchanges_too(files: StudyFiles) -> None:
    alone = figures("strong-1", {"hpcnn": 8.0})
    alone["environment"] = alone["environment"] | {"ranks": 1}
    put(files, alone, ALL[1])
    study = read_study(files)
    (_, two) = study.of_kind("strong")
    assert study.efficiency("strong", two, "allreduce") == pytest.approx(8 / 8 / 2)
    assert study.efficiency("strong", two, "horovod") == pytest.approx(8 / 20 / 2)
    assert study.efficiency("strong", two, "ddp") is None
    assert "One rank exchanges nothing" in page(study)


def test_the_page(files: StudyFiles) -> None:
    put(files, *ALL)
    text = page(read_study(files))
    assert (
        f"**All 3 strong-scaling runs have one SHA-256** of the weights after 35 steps, on 1, 2, 4 nodes: `{ONE}`"
        in text
    )
    own = rows(text, "| nodes | ranks |")
    assert own[2] == ["4", "8", "64", "4.00 (2.00 to 16.0)", "16,000", "50 %", f"`{ONE[:16]}`"]
    assert own[5][:3] == ["4", "8", "256"]
    beside = rows(text, "| nodes | hpcnn, ms a step")
    assert beside[1] == ["2", "5.00", "8.00", "1.60", "50 %", "10.0", "2.00", "80 %", "20.0", "4.00", ""]
    assert beside[2][5:] == [""] * 6
    machine = dict(row for row in rows(text, "|  |  |"))
    assert machine["processor"] == "a / processor"
    assert machine["latency between nodes"] == "2.00 us, measured"
    assert machine["bandwidth between two ranks"].startswith("100 Gbit/s")
    assert machine["MPI"] == "MPI 4"
    assert machine["threads of a rank"] == "1 to 2"
    assert "PyTorch DDP was left out: no network (strong-4, weak-4)." in text
    assert "Note: 2 ranks are busy (weak-4)." in text
    assert "Its 3 strong-scaling runs have 2 different SHA-256." in text
    assert "runs are done" not in text
    assert "on request" not in text
    assert "- hpcnn, MPI_Allreduce and PyTorch DDP take turns" in text
    assert "One Slurm job had the nodes of the largest size" in text


def test_runs_of_several_jobs_are_told(files: StudyFiles) -> None:
    put(files, ALL[0], ALL[1] | {"slurm_job": "7.1"}, ALL[2] | {"slurm_job": "7.1"})
    text = page(read_study(files))
    assert "The runs come from 2 starts of Slurm jobs (strong-1; strong-2, weak-2), each with the nodes" in text
    put(files, ALL[1] | {"slurm_job": ""})
    assert "Not started by Slurm: strong-2. Nothing says" in page(read_study(files))


def test_hashes_that_differ_are_said_first(files: StudyFiles) -> None:
    put(files, ALL[0], figures("strong-2", {"hpcnn": 5.0}, sha256=OTHER))
    text = page(read_study(files))
    assert "**The strong-scaling runs have 2 different SHA-256** of the weights after 35 steps, on 1, 2 nodes" in text
    assert "have one SHA-256**" not in text


def test_a_study_that_was_cut_off(files: StudyFiles) -> None:
    put(files, ALL[1])
    text = page(read_study(files))
    assert "1 of 5 runs are done." in text
    assert "Strong scaling is measured on 2 nodes only: there is no other hash to compare." in text
    assert "Not measured yet (strong-1, weak-2, strong-4, weak-4)." in text
    assert "![" not in text  # without the smallest size, there is nothing to draw


def test_files_and_drawings(files: StudyFiles) -> None:
    put(files, *ALL)
    assert write_page(files) == f"page        {files.page}: 5 of 5 runs"
    for kind in ("strong", "weak"):
        root = ElementTree.parse(files.path / f"{kind}.svg").getroot()
        words = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"hpcnn", "MPI_Allreduce", "PyTorch DDP", "ideal", "4 nodes", "100%"} <= {*words}
        assert f"({kind}.svg)" in files.page.read_text()


def test_one_kind_alone_has_its_page(tmp_path: Path) -> None:
    files = StudyFiles(tmp_path)
    files.write_plan(plan_of(kinds=["weak"], rivals=["ddp"]))
    put(files, figures("weak-1", {"hpcnn": 8.0}), ALL[2])
    text = page(read_study(files))
    assert "## Weak scaling" in text
    assert "- Left out on request (MPI_Allreduce, Horovod)." in text
    assert "strong-scaling" not in text
    assert "Strong scaling" not in text


def test_nothing_is_done_yet(files: StudyFiles) -> None:
    with pytest.raises(JobError, match=r"no run of the study in .* is done yet: there is nothing to show"):
        write_page(files)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sides": {}}'])
def test_figures_that_are_damaged(files: StudyFiles, text: str) -> None:
    (files.raw / "strong-1.json").write_text(text)
    with pytest.raises(JobError, match=r"strong-1.json' can't be read .*Remove the file, and submit the study again"):
        read_study(files)


def test_the_command_writes_the_page_and_lists_what_is_missing(
    files: StudyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    put(files, *ALL[:2])
    assert command.main(["--page", str(files.path)]) == 0
    assert capsys.readouterr().out.endswith("README.md: 2 of 5 runs\n")
    assert command.main(["--missing", str(files.path)]) == 0
    assert capsys.readouterr().out.splitlines() == ["weak-2 2 2", "strong-4 4 2", "weak-4 4 2"]
    assert command.main(["--page", str(files.path.parent / "none")]) == 2
    assert capsys.readouterr().err.startswith("hpcnn: error: there is no scaling study in ")
