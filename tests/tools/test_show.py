"""`hpcnn show`: the table of a network, its drawing, and what is refused."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hpcnn.nn import BatchNormalization, Block, Dense, Dropout, Flatten, LayerNorm, Network, Residual, Shared
from hpcnn.show import main
from hpcnn.tools.show import memory as shown_memory
from hpcnn.tools.show.drawing import boxes_of, svg_file
from hpcnn.tools.show.layout import BOX_HEIGHT, BOX_WIDTH, Box, layout_of
from hpcnn.tools.show.rows import rows_of
from hpcnn.tools.show.table import network_lines, network_table, totals

SVG = "{http://www.w3.org/2000/svg}"


def mixer(repeat: int) -> Block:
    inner = Residual([LayerNorm(), Dense(16, activation="gelu"), Dropout(0.1), Dense(4)], name="mix")
    return Block([inner, LayerNorm()], repeat=repeat, name="encoder")


NETWORK = Network(
    [
        Dense(4, trainable=False),
        mixer(3),
        Dense(4, name="mid"),
        Shared("mid"),
        Flatten(),
        Dense(1000, activation="softmax"),
    ],
    (6, 5),
)
TABLE = """\
layer             kind        output  inputs            parameters  multiply-adds
input                         6 x 5                              -              -
dense_1           dense       6 x 4                      24 frozen            120
encoder_1         block
  mix_1           residual
    layer_norm_1  layer_norm  6 x 4                              8              -
    dense_2       dense       6 x 16                            80            384
    dropout_1     dropout     6 x 16                             -              -
    dense_3       dense       6 x 4                             68            384
    (sum)         add         6 x 4   dense_1, dense_3           -              -
  layer_norm_2    layer_norm  6 x 4                              8              -
encoder_2 to encoder_3: each as encoder_1                      328          1,536
mid               dense       6 x 4                             20             96
shared_1          dense       6 x 4                         of mid             96
flatten_1         flatten     24                                 -              -
dense_9           dense       1,000                         25,000         24,000
output            softmax     1,000                              -              -

parameters                                                    25,536
  trainable                                                   25,512
  frozen                                                          24
multiply-adds of a sample, forward                            26,616
multiply-adds of a step of 32 samples                      2,555,136
"""


def test_the_table() -> None:
    assert "\n".join(network_table(NETWORK, 32)) + "\n" == TABLE


def test_the_totals_are_those_of_the_network() -> None:
    sums, rows = totals(NETWORK), rows_of(NETWORK)
    assert sums["parameters"] == NETWORK.layout.size == sum(row.parameters for row in rows)
    assert sums["trainable"] == NETWORK.layout.trainable_size == sum(row.total("trainable") for row in rows)
    assert sums["frozen"] == sum(row.total("frozen") for row in rows)
    numbers = [line.cells[4] for line in network_lines(NETWORK)]
    counted = [int(number.split()[0].replace(",", "")) for number in numbers if number[:1].isdigit()]
    assert sum(counted) == NETWORK.layout.size


def test_names_are_never_cut() -> None:
    names = ["a_name_that_goes_on_and_on_for_longer_than_a_column_is_wide", "x" * 90]
    network = Network([Dense(3, name=names[0]), Residual([Dense(3, name=names[1])])], (5,))
    said = "\n".join(network_table(network, 1))
    assert f"{names[0]}, {names[1]}" in said
    assert re.search(rf"^{names[0]} +dense +3 +18 +15$", said, re.MULTILINE)


def test_moving_averages_are_not_frozen() -> None:
    network = Network([Dense(4), BatchNormalization(), BatchNormalization(trainable=False)], (3,))
    said = [" ".join(line.split()) for line in network_table(network, 1)]
    assert said[2:9] == [
        "dense_1 dense 4 16 12",
        "batch_normalization_1 batch_normalization 4 16 -",
        "batch_normalization_2 batch_normalization 4 16 frozen -",
        "",
        "parameters 48",
        "trainable 24",
        "frozen 16",
    ]
    assert said[9] == "moving averages 8"


def test_blocks_that_differ_have_rows_of_their_own() -> None:
    network = Network(
        [Dense(4), Block([Dense(4)], name="one"), Block([Dense(5), Dense(4)], name="other"), mixer(2)], (4,)
    )
    said = "\n".join(network_table(network, 1))
    assert "other" in said
    assert "encoder_2 as encoder_1" in said
    assert "as one" not in said


# ------------------------------------------------------------------------------------------------------------ drawing


def test_the_drawing_has_one_box_for_each_layer() -> None:
    root = ElementTree.fromstring(svg_file(NETWORK, "toy"))
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}title").text == root.get("aria-label") == "The network of toy"  # type: ignore[union-attr]
    assert "mix_1: add · 6 x 4, takes dense_1 and dense_3." in root.find(f"{SVG}desc").text  # type: ignore[union-attr]
    boxes = [one for one in root.iter(f"{SVG}rect") if "layer" in one.get("class", "").split()]
    assert len(boxes) == len(NETWORK.nodes) + 2  # input and output
    names = [one.text for one in root.iter(f"{SVG}text") if one.get("class") == "name"]
    assert names == ["input", *(node.layer.name for node in NETWORK.nodes), "output"]
    edges = list(root.iter(f"{SVG}polyline"))
    assert len(edges) == sum(len(node.sources) for node in NETWORK.nodes) + 1
    assert sum("skip" in one.get("class", "") for one in edges) == 3  # one for each residual block
    assert "url(" not in svg_file(NETWORK, "toy")


def test_no_line_crosses_a_box_and_no_box_another() -> None:
    boxes = [Box(str(n), "", "", sources) for n, sources in enumerate(
        [(), (0,), (0,), (1,), (0, 2), (3, 4), (0, 1, 5), (2, 6), (7,)]
    )]  # fmt: skip
    layout = layout_of(boxes)
    for place, (x, y) in enumerate(layout.corners):
        assert 0 <= x <= layout.width - BOX_WIDTH
        assert 0 <= y <= layout.height - BOX_HEIGHT
        for other in layout.corners[place + 1 :]:
            assert abs(other[0] - x) >= BOX_WIDTH or abs(other[1] - y) >= BOX_HEIGHT
        for line in layout.lines:
            for (x1, y1), (x2, y2) in pairwise(line.points):
                beside = max(x1, x2) <= x or min(x1, x2) >= x + BOX_WIDTH
                assert beside or max(y1, y2) <= y or min(y1, y2) >= y + BOX_HEIGHT
    assert {(line.source, line.target) for line in layout.lines} == {
        (source, number) for number, box in enumerate(boxes) for source in box.sources
    }


def test_lines_beside_boxes_have_lanes_of_their_own() -> None:
    layout = layout_of([Box(str(n), "", "", (n - 1, 0) if n > 1 else (0,) * n) for n in range(6)])
    lanes = [line.points[2][0] for line in layout.lines if line.skips]
    assert len(lanes) == len(set(lanes)) == 4


def test_names_are_text_in_the_drawing() -> None:
    odd = "</svg><script>&\x00" + "long" * 20
    text = svg_file(Network([Dense(2, name=odd)], (2,)), odd)
    ElementTree.fromstring(text)
    assert "<script" not in text
    assert "\x00" not in text


def test_a_layer_called_output_is_not_the_head() -> None:
    network = Network([Dense(3, name="output"), Dense(2, activation="softmax", name="last")], (4,))
    assert [(box.name, box.kind) for box in boxes_of(network)][1:] == [
        ("output", "dense"), ("last", "dense"), ("output", "softmax"),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ command

JOB = """
[data]
source = "synthetic"
kind = "classification"
samples = 100
features = 6
classes = 3
validation_fraction = 0.2
[loss]
name = "sparse_categorical_crossentropy"
[train]
batch_size = 40
shards = 4
"""
LAYERS = '[model]\nlayers = [{type = "dense", units = 5000}, {type = "dense", units = 3, activation = "softmax"}]\n'
RESHAPE, LAST = '{type = "reshape", shape = [7]}', '{type = "dense", units = 3, activation = "softmax"}'


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shown_memory, "free_memory", lambda: 10**12)
    (tmp_path / "job.toml").write_text(JOB + LAYERS)
    return Path("job.toml")


def test_what_it_prints(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(job)]) == 0
    said = capsys.readouterr()
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    for line in (
        "dense_2 dense 3 15,003 15,000",
        "parameters 50,003",
        "multiply-adds of a step of 40 samples 5,400,000",
        "memory of a rank in training, 1 rank:",
        "weights 200 kB",
        "gradients 200 kB",
        "optimizer state 400 kB",
        "batches 1.92 kB",
    ):
        assert line in lines
    assert "warning" not in said.out + said.err
    assert max(map(len, said.out.splitlines())) <= 100


def test_it_says_what_sharing_the_optimizer_saves(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(job), "--ranks", "4"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "train.optimizer_sharding false true" in lines
    assert "gradients 400 kB 200 kB" in lines
    assert "optimizer state 400 kB 100 kB" in lines
    assert "With optimizer_sharding = true, the ranks of a host have one copy of the weights." in lines


def test_it_warns_where_memory_is_short(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_memory, "free_memory", lambda: 10**6)
    assert main([str(job)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"warning: 1 rank on \S+ needs about [\d.]+ MB of memory, but only 1 MB are free: the system may end it\. .*",
        last,
    )


def test_it_warns_of_ranks_without_a_shard(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(job), "--ranks", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "memory of a rank in training, 4 ranks:" in lines
    assert lines[-1].startswith("warning: 5 ranks for 4 gradient shards: each rank needs one shard at least. Start 4 ")


def test_it_draws(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(job), "--svg", "net.svg"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "wrote net.svg"
    assert ElementTree.parse("net.svg").getroot().get("aria-label") == "The network of job"


def test_the_network_of_a_function(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shown_by_a_user.py").write_text(
        "from dataclasses import dataclass\nfrom hpcnn.nn import Dense, Layer, Network\n\n\n@dataclass(frozen=True)\n"
        "class Twice(Layer):\n    def forward(self, params, x, ctx):\n"
        "        return 2 * x, lambda dy, grads, *, need_dx=True: 2 * dy if need_dx else None\n\n\n"
        "def build(input_shape):\n    return Network([Twice(), Dense(3, activation='softmax')], input_shape)\n"
    )
    job.write_text(JOB + '[model]\nentry = "shown_by_a_user:build"\n')
    assert main([str(job)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^twice_1 +twice +6 +- +-$", said, re.MULTILINE)
    assert "With layers of your own, activations and scratch are estimated from the shapes alone." in said


def test_a_job_for_keras(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Layers are those of hpcnn; so no TensorFlow is needed to show them."""
    assert main([str(job), "--set", "backend=keras"]) == 0
    assert re.search(r"activations in Keras +not known", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.toml"], "no job file 'no.toml'"),
        (["job.toml", "--set", "train.batch_size=81"], "train.batch_size = 81 is larger than the training data"),
        (["job.toml", "--set", "model.layers=[]"], "[model] has neither layers nor name nor entry."),
        (["job.toml", "--set", f"model.layers=[{RESHAPE}, {LAST}]"], "layer 'reshape_1' can't turn inputs"),
        (["job.toml", "--svg", "net.png"], "--svg 'net.png': expected the name of a file that ends in .svg"),
        (["job.toml", "--svg", "no/such/net.svg"], "can't write 'no/such/net.svg': "),
        (["job.toml", "--set", "data.validation_fraction=0.001"], "validation_fraction = 0.001 of 100 samples leaves"),
    ],
)  # fmt: skip
def test_what_is_refused(job: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("hpcnn: error: ")
    assert message in said
