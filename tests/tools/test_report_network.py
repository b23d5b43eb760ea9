"""The network in a report: a table and a drawing, from the folder of a run that nobody has to trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcnn.tools.report.network import MOST_LAYERS, count_layers
from hpcnn.tools.report.page import page
from hpcnn.tools.report.read import read_run
from tests.tools.report_runs import JOB, make_run
from tests.tools.test_report import Walk

ENDS = '{ type = "dense", units = 10, activation = "softmax" }'


def report(folder: Path, model: str) -> Walk:
    """Return the page of a run whose job has that `[model]`."""
    run = make_run(folder)
    job = JOB.format(name="toy", rate=0.1, epochs=5)
    start, end = job.index("[[model.layers]]"), job.index("[loss]")
    (run / "job.toml").write_text(f"{job[:start]}[model]\n{model}\n\n{job[end:]}")
    return Walk(page([read_run(run)]))


def drawings(found: Walk) -> list[dict[str, str | None]]:
    return [one for one in found.named("svg") if one.get("class") == "network"]


def test_the_network_of_a_run(tmp_path: Path) -> None:
    found = report(tmp_path / "run", f'input_shape = [8, 8]\nlayers = [{{ type = "flatten" }}, {ENDS}]')
    said = found.said()
    assert "Network 650 parameters, 640 multiply-adds of a sample, forward." in said
    assert "flatten_1 flatten 64 - - dense_1 dense 10 650 640 output softmax 10 - -" in said
    (drawing,) = drawings(found)
    assert drawing["aria-label"] == "The network of toy"
    assert [one.get("open") for one in found.named("details")] == ["", ""]
    assert "dense_1: dense · 10 · 650 parameters, takes flatten_1." in said


def test_repetitions_have_one_row(tmp_path: Path) -> None:
    block = '{ type = "block", name = "b", repeat = 30, layers = [{ type = "dense", units = 4 }] }'
    found = report(tmp_path / "run", f"input_shape = [4]\nlayers = [{block}, {ENDS}]")
    assert "b_2 to b_30: each as b_1 580 464" in found.said()
    assert [one.get("open") for one in found.named("details")] == [None, ""]  # a long drawing is shown by a click


def test_a_network_by_name(tmp_path: Path) -> None:
    small = "depth = 8, filters = 2"
    found = report(tmp_path / "run", f'input_shape = [8, 8, 1]\nname = "resnet"\noptions = {{ {small} }}')
    assert "Network 1,468 parameters" in found.said()
    assert "stage2_block1" in found.said()


@pytest.mark.parametrize("options", ["{ depth = 602 }", "{ depth = 7 }", "{ depth = 5000 }", "{ size = 3 }", "3"])
def test_a_network_by_name_that_is_not_built(tmp_path: Path, options: str) -> None:
    found = report(tmp_path / "run", f'input_shape = [8, 8, 1]\nname = "resnet"\noptions = {options}')
    assert not drawings(found)
    assert ("more than 400 layers" in found.said()) == ("602" in options)


@pytest.mark.parametrize(
    ("model", "note"),
    [
        ('entry = "os:getcwd"', "Network A Python function, model.entry, builds it, which a report does not run."),
        (
            f'input_shape = [4]\nlayers = [{{ type = "block", repeat = 1000000000, layers = [{ENDS}] }}]',
            f"Network It has more than {MOST_LAYERS} layers: hpcnn show prints and draws them.",
        ),
        (f"layers = [{ENDS}]", ""),  # no checkpoint says the shape
        (f"input_shape = [0]\nlayers = [{ENDS}]", ""),
        ('input_shape = [4]\nlayers = [{ type = "of another version" }]', ""),
        ('input_shape = [4]\nlayers = [{ type = "reshape", shape = [3] }]', ""),
        (f"input_shape = [4]\nlayers = {{ a = [{ENDS}] }}", ""),
    ],
)
def test_a_network_that_is_not_built(tmp_path: Path, model: str, note: str) -> None:
    found = report(tmp_path / "run", model)
    assert drawings(found) == []
    assert note in found.said()
    assert ("Network" in found.said()) == bool(note)


def test_layers_are_counted_before_they_are_built() -> None:
    inner = {"type": "residual", "repeat": 4, "layers": [{"type": "dense"}, {"type": "dense"}]}
    assert count_layers([{"type": "block", "repeat": 5, "layers": [inner]}, {"type": "dense"}]) == 5 * (1 + 4 * 3) + 1
    assert count_layers([{"repeat": 3}, {"layers": 3, "repeat": "x"}]) == 2
