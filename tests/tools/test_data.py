"""`hpcnn data`: what it says of data, what it finds wrong in them, and how it bounds its work."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcnn.__main__ import main
from hpcnn.data.reduction import SERIAL
from hpcnn.data.rows import ArrayRows
from hpcnn.job.dump import to_toml
from hpcnn.tools.data.look import look
from hpcnn.tools.data.measure import MOST_ENTRIES, SampledReduction, chosen_rows, measure, moments_of
from hpcnn.tools.data.page import address

DRAW = np.random.default_rng(3)
N = 80
X, LABELS = DRAW.normal(size=(N, 4)), DRAW.integers(0, 3, N)
MODEL = {
    "model": {"layers": [{"type": "dense", "units": 3, "activation": "softmax"}]},
    "loss": {"name": "sparse_categorical_crossentropy"},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "train": {"epochs": 1, "batch_size": 8},
}
VALUES = {"model": {"layers": [{"type": "dense", "units": 1}]}, "loss": {"name": "mse"}}


def write_job(folder: Path, job: dict[str, Any]) -> Path:
    path = folder / "job.toml"
    path.write_text(to_toml(job))
    return path


def with_column(values: Any, place: int = 1) -> np.ndarray:
    x = X.copy()
    x[:, place] = values
    return x


def looked(folder: Path, x: np.ndarray, y: np.ndarray, most_rows: int = 1000, **changes: Any) -> Any:
    np.savez(folder / "d.npz", x=x, y=y)
    data = {"source": "npz", "path": "d.npz", "validation_fraction": 0.25} | changes.pop("data", {})
    return look(write_job(folder, MODEL | changes | {"data": data}), [], most_rows)


def said(folder: Path, x: np.ndarray, y: np.ndarray, **changes: Any) -> str:
    return "\n".join(f"{one.level}: {one.text}" for one in looked(folder, x, y, **changes).facts.findings)


def test_sound_data_have_no_findings(tmp_path: Path) -> None:
    assert said(tmp_path, X, LABELS) == ""


FINDINGS = [
    (with_column(7), LABELS, {}, r"warning: constant in the training data: 1 input, '1'"),
    (with_column(LABELS), LABELS, {}, r"warning: input '1' is the target 0\. If it is not known"),
    (with_column(3 * X[:, 0] + 1), X[:, 0], VALUES, r"'1' gives the target away 0 \(correlation 1\.00000\)"),
    (with_column(300 * X[:, 1]), LABELS, {}, r'1 of 4 inputs have values beyond 100 \(\'1\': .* data\.scale is "none"'),
    (X, 1000 + X[:, 0] * X[:, 1], VALUES, r"targets .* are around 1000, with a deviation of .*data\.scale_targets"),
    (X, np.full(N, 3.0), VALUES, r"warning: target 0 is constant in the training data"),
    (np.tile(X[:10], (8, 1)), LABELS, {}, r"20 of 20 validation samples have the inputs of a training sample"),
    (np.tile(X[:10], (8, 1)), LABELS, {}, r"note: 50 training samples repeat the inputs of another; \d+ of them have"),
    (X, np.minimum(LABELS, 1), {}, r"no sample of the training data is of class 2 \(1 of 3\)"),
    (X, np.arange(N) // 78, {}, r"classes are imbalanced: 5\d of class '0', \d of class '1'\. Consider loss\.class_w"),
    (X, np.repeat([0, 1, 2], [40, 39, 1]), {}, r"no validation sample is of class '2'"),
    (with_column(np.where(X[:, 1] > 2, np.nan, X[:, 1])), LABELS, {}, r"error: the training would end at once: inputs"),
    (with_column(np.where(X[:, 1] > 1, np.inf, X[:, 1])), LABELS, {}, r"infinite in the inputs .*: \d+ values, in '1'"),
    (X, LABELS + 5, {}, r"error: the training would end at once: targets of the training data: labels run from 5 to 7"),
    (X, LABELS, {"data": {"validation_fraction": 0.0}}, r"note: there are no validation data\. Set data\.validation_f"),
    (X, LABELS, {"train": {"epochs": 1, "batch_size": 99}}, r"batch_size = 99 is larger than the training data: 60"),
]  # fmt: skip


@pytest.mark.parametrize(("x", "y", "changes", "text"), FINDINGS, ids=[text[:40] for *_, text in FINDINGS])
def test_findings(x: np.ndarray, y: np.ndarray, changes: Any, text: str, tmp_path: Path) -> None:
    assert re.search(text, said(tmp_path, x, y, **changes))


def test_scaled_inputs_may_be_large(tmp_path: Path) -> None:
    assert "beyond 100" not in said(tmp_path, 1000 * X, LABELS, data={"scale": "standardize"})


def test_the_figures_are_those_of_numpy() -> None:
    x = DRAW.normal(5, 3, size=(9000, 41))
    x[7, 2], x[8, 2] = np.nan, np.inf
    y = np.column_stack([x[:, 0] * 2 + DRAW.normal(size=9000), x[:, 5]])
    found = measure(ArrayRows(x), ArrayRows(y), np.arange(9000))
    known = np.where(np.isfinite(x), x, np.nan)
    for own, theirs in ((found.x.low, np.nanmin), (found.x.high, np.nanmax), (found.x.mean, np.nanmean)):
        assert own == pytest.approx(theirs(known, axis=0))
    assert found.x.deviation == pytest.approx(np.nanstd(known, axis=0))
    assert (found.x.missing[2], found.x.infinite[2], found.x.missing.sum()) == (1, 1, 1)
    assert found.x.overall().mean[0] == pytest.approx(np.nanmean(known))
    assert found.x.overall().deviation[0] == pytest.approx(np.nanstd(known))
    assert found.correlation is not None
    assert found.correlation[[0, 5], [0, 1]] == pytest.approx([np.corrcoef(x[:, 0], y[:, 0])[0, 1], 1.0])
    assert found.identical is not None
    assert np.argwhere(found.identical).tolist() == [[5, 1]]


def test_large_data_are_looked_at_in_part(tmp_path: Path) -> None:
    facts = looked(tmp_path, np.tile(X, (10, 1)), np.tile(LABELS, 10), most_rows=128).facts
    assert [(part.samples, part.looked_at) for part in facts.parts] == [(600, 128), (200, 128)]
    assert sum(one.training for one in facts.classes) == 600, "targets are few enough to count all"
    assert facts.sampled


def test_large_samples_are_looked_at_as_a_whole() -> None:
    rows = ArrayRows(np.broadcast_to(np.float32(2), (4, 2**17)))
    assert moments_of(rows, np.arange(4)).count.tolist() == [4 * 2**17]
    many = ArrayRows(np.broadcast_to(np.uint8(2), (10**5, 1)))
    many.shape = (10**5, MOST_ENTRIES // 64)
    assert len(chosen_rows(many, 10**5)) == 64


def test_sums_of_many_leaves_are_estimated() -> None:
    leaf = np.array
    assert SampledReduction().sum(100, leaf) == SERIAL.sum(100, leaf)
    assert SampledReduction().sum(10**5, leaf) == pytest.approx(SERIAL.sum(10**5, leaf), rel=0.01)
    assert SampledReduction().max(10**5, leaf) > 0.99 * 10**5


CITIES, MEMBERS = ("Rome", "Oslo"), ("no", "yes")
ROWS = [
    f"{'' if row == 3 else 20 + row},{CITIES[row % 2]},2024-01-{row + 10},{row % 3 == 0},{MEMBERS[row % 4 > 1]}"
    for row in range(16)
]
TABLE = "\n".join(["age,city,when,member,who", *ROWS, ""])


def test_a_table_in_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.csv").write_text(TABLE)
    data = {"source": "csv", "path": "d.csv", "targets": ["who"], "missing": "mean"}
    job = str(write_job(tmp_path, MODEL | {"data": data}))
    assert main(["data", job]) == 0
    text = capsys.readouterr().out
    for line in (
        r"  samples           16 for training\n",
        r"  the network gets  9, from",
        r"  age +number +1 +20 +27\.8 +35 ",
        r"  city +words +-\n    2 words: Oslo \(8\), Rome \(8\)\n",
        r"  when +date +- +2024-01-10 ",
        r"  no +8  █+\n  yes +8  █+\n",
        r"  who +age +city +member +when\n  no +20 +Rome +(?i:true) +2024-01-10\n",
        r"note: missing \(NaN\) in the inputs of the training data: 1 value, in 'age'\.\n",
    ):
        assert re.search(line, text), line
    assert max(map(len, text.splitlines())) <= 120
    assert main(["data", job, "--json", "--rows", "8"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in facts["inputs"]] == ["age", "city", "member", "when"]
    assert facts["parts"] == [{"name": "training", "samples": 16, "looked_at": 8}]


def test_a_text_is_shown_by_its_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.txt").write_text("abc " * 200)
    model = {
        "model": {
            "layers": [
                {"type": "embedding", "input_dim": 4, "output_dim": 2},
                {"type": "dense", "units": 4, "activation": "softmax"},
            ]
        }
    }
    data = {"source": "text", "path": "d.txt", "length": 7, "validation_fraction": 0.25}
    assert main(["data", str(write_job(tmp_path, MODEL | model | {"data": data}))]) == 0
    text = capsys.readouterr().out
    assert re.search(r"vocabulary +4 characters", text)
    assert re.search(r"\n  bc abc +abc abc\n", text)
    assert re.search(r"\n  ' ' +14\d +4\d  █+\n", text)


def test_the_page_has_pictures_and_escapes_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data.html"
    assert main(["data", "-o", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {out}\n")
    html = out.read_text()
    assert html.count("<img ") == 24
    assert "img-src data:" in html
    (tmp_path / "d.csv").write_text("<b>a,t\n1,0\n2,1\n3,0\n")
    data = {"source": "csv", "path": "d.csv", "targets": ["t"]}
    job = write_job(tmp_path, MODEL | {"data": data, "train": {"epochs": 1, "batch_size": 2}})
    assert main(["data", str(job), "-o", str(out)]) == 0
    assert "&lt;b&gt;a" in out.read_text()
    assert "<b>" not in out.read_text()


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (600, 300)])
def test_pictures_are_png(shape: tuple[int, ...]) -> None:
    image = DRAW.uniform(size=shape)
    png = base64.b64decode(address(image).removeprefix("data:image/png;base64,"))
    width, height = np.frombuffer(png[16:24], ">u4")
    step = 3 if shape[0] > 256 else 1
    pixels = np.rint(255 * image[::step, ::step]).astype(np.uint8).reshape(height, -1)
    begin = png.index(b"IDAT") + 4
    lines = np.frombuffer(zlib.decompressobj().decompress(png[begin:]), np.uint8).reshape(height, -1)
    assert (width, png[25]) == (len(image[0, ::step]), 2 if len(shape) == 3 else 0)
    assert (lines[:, 1:] == pixels).all()


def test_a_wrong_name_of_the_page_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "-o", str(tmp_path / "page.toml")]) == 2
    assert "expected the name of a file that ends in .html" in capsys.readouterr().err
    assert main(["data", str(tmp_path / "none.toml")]) == 2
    assert capsys.readouterr().err.startswith("hpcnn: error: ")
