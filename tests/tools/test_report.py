"""The page of a report: sound HTML without anything from elsewhere, whatever is in the run folder."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hpcnn.tools.report.page import page
from hpcnn.tools.report.read import read_run, read_runs
from hpcnn.tools.report.text import text_report
from tests.tools.report_runs import JOB, SHA256, epoch_line, make_run, time_line, write_lines

VOID = ("meta", "br", "hr", "img", "input", "link", "col")


class Walk(HTMLParser):
    """Walks through a page, and fails where its elements are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name in names]

    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def walk(*folders: Path, title: str = "") -> Walk:
    return Walk(page(read_runs(folders), title))


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no program of Slurm be found: run folders that name jobs are not asked about."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "toy")


def test_a_page_is_complete_in_itself(run: Path) -> None:
    html = page([read_run(run)])
    found = Walk(html)
    assert [
        name for name, _ in found.elements if name in ("script", "link", "img", "iframe", "a", "use", "object")
    ] == []
    assert "url(" not in html
    assert "@import" not in html
    addresses = [value for _, one in found.elements for key, value in one.items() if key in ("src", "href")]
    assert addresses == []
    assert not [key for _, one in found.elements for key in one if key.startswith("on")]
    policy = next(one["content"] for one in found.named("meta") if "http-equiv" in one)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_a_page_is_accessible(run: Path) -> None:
    found = walk(run)
    assert found.named("html") == [{"lang": "en"}]
    names = [name for name, _ in found.elements]
    assert names.count("h1") == names.count("main") == 1
    assert all(one.get("scope") in ("row", "col") for one in found.named("th"))
    assert names.count("caption") == names.count("table") > 3
    assert names.count("figcaption") == names.count("figure") > 3
    for one in found.named("svg"):
        assert one.get("aria-hidden") == "true" or (one["role"] == "img" and one["aria-label"])


def test_what_it_says(run: Path) -> None:
    said = walk(run).said()
    assert said.startswith("toy · hpcnn report toy done")
    assert SHA256 in said
    for words in (
        "best val_loss 0.3 after epoch 5",
        "time 4.2 s of the last attempt",
        "speed 1,003 samples/s",
        "ranks 3 8 gradient shards",
        "18 of 20 validation samples are right after epoch 5 (90 %)",
        "1 taken for 0 2 20 %",
        "3 ranks on 2 nodes, until epoch 5",
        "compute forward, backward and the optimizer 67 % 4 s 4 s 4 s",
        "kernel SkylakeX",
        "learning_rate = 0.003",
    ):
        assert words in said
    assert "could not read" not in said


def test_how_many_nodes_pay(run: Path) -> None:
    assert "No advice on how many nodes pay: the noise scale is not known. Train with" in walk(run).said()
    exchange = {
        "batch": 64,
        "sums": {"length": 25_000, "stats_length": 0, "batch_sums": []},
        "network": None,
        "memory_byte_s": 1e-11,
    }
    (run / "job.toml").write_text((run / "job.toml").read_text().replace("[train]", "[train]\nshards = 8"))
    line = {**time_line(5, ["n1", "n1"]), "steps": 10}
    write_lines(run / "time.jsonl", [line | {"exchange": exchange}, line])
    write_lines(run / "metrics.jsonl", [epoch_line(1, loss=1.0) | {"noise_scale": 260.0}])
    text = " ".join(" ".join(text_report([read_run(run)], "", width=80, encoding="utf-8")).split())
    for said in (walk(run).said(), text):
        assert "t most 6 nodes of 2 ranks pay; 12 waste 68 % of their time; messages between nodes are not co" in said
        assert "32 samples a rank, 200 ms of computation a step. On 1 node, as here, that makes 200 ms a step;" in said
        assert "it took 300 ms." in said
    assert "Critical batch about 260 samples" in text
    write_lines(run / "time.jsonl", [line | {"exchange": {**exchange, "batch": "64"}}])
    assert "time.jsonl does not tell what a step's exchange depends on" in walk(run).said()
    (run / "job.toml").write_text("name = 3")
    assert "No advice on how many nodes pay: the settings are not known." in walk(run).said()


def test_the_results(run: Path) -> None:
    assert "loss 0.2 0.3 0.3 5 accuracy 0.9 0.8 0.8 5" in walk(run).said()


def test_the_title(run: Path) -> None:
    assert walk(run, title="Mine & yours").said().startswith("Mine & yours · hpcnn report Mine & yours done")


def test_names_from_files_are_text(tmp_path: Path) -> None:
    odd = "</style></title><script>alert(1)</script>\"'&\x1b[31m\x00"
    folder = make_run(tmp_path / "<b>run&</b>")
    job = JOB.format(name="x", rate=0.1, epochs=1).replace('"x"', json.dumps(odd))
    (folder / "job.toml").write_text(job, encoding="utf-8")
    write_lines(folder / "metrics.jsonl", [{**epoch_line(1, loss=1.0), odd: 1.0}])
    write_lines(folder / "time.jsonl", [time_line(1, [odd, "n2"], slow=0)])
    write_lines(folder / "attempts.jsonl", [{"event": "start", "job_id": odd, "attempt": odd}])
    (folder / "result.json").write_text(json.dumps({"weights_sha256": odd, "machine": {odd: odd}}), encoding="utf-8")
    for html in (page(read_runs([folder])), page(read_runs([folder, make_run(tmp_path / "other")]))):
        found = Walk(html)
        assert not found.named("script", "b")
        assert found.said().count("</style></title><script>alert(1)</script>") > 3
        assert "\x1b" not in html
        assert "\x00" not in html


def test_a_path_that_is_no_utf8(tmp_path: Path) -> None:
    folder = make_run(tmp_path / b"\xff\xfe".decode("utf-8", errors="surrogateescape"))
    page(read_runs([folder])).encode()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("job.toml", "job.toml is missing: the settings are not known."),
        ("metrics.jsonl", "metrics.jsonl is missing: there are no curves."),
        ("time.jsonl", "time.jsonl is missing: where the time went is not known."),
        ("result.json", "incomplete"),
    ],
)
def test_a_missing_file_is_named(run: Path, file: str, said: str) -> None:
    (run / file).unlink()
    assert said in walk(run).said()


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)) * 4,
    "list": b"[[1, 2], [3]]\n",
    "deep": b"[" * 100_000,
    "odd types": b'{"epoch": "1", "best": [1], "values": 7, "seconds": {"wait": 3}, "hosts": "n1", "machine": [], '
    b'"time": {}, "event": "end", "job_id": 1e400, "exit_code": []}\n',
    "odd numbers": b'{"epoch": 1, "loss": 1e999, "val_loss": -1e308, "accuracy": true, "step": 1e9, "ranks": -1, '
    b'"confusion_matrix": [[1, "x"], [NaN, 2]], "samples_per_s": 1e308, "hosts": ["n1"], "time": 1e300, '
    b'"seconds": {"wait": [-1]}}\n',
    "long numbers": b'{"epoch": 1, "loss": 1'
    + b"0" * 4000
    + b', "hosts": ["a"], "seconds": {"wait": [1'
    + b"0" * 4000
    + b"]}}",
}
FILES = "job.toml", "metrics.jsonl", "time.jsonl", "result.json", "progress.json", "attempts.jsonl", "model.safetensors"


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("file", [*FILES, "all"])
def test_a_damaged_file_spoils_no_report(run: Path, file: str, content: bytes) -> None:
    for name in FILES if file == "all" else [file]:
        (run / name).write_bytes(content)
    read = read_run(run)
    Walk(page([read]))
    assert list(text_report([read], "", width=80, encoding="utf-8"))
    if file == "all":
        Walk(page([read, read]))
        assert list(text_report([read, read], "", width=80, encoding="utf-8"))


def test_files_that_are_folders(run: Path) -> None:
    for name in ("metrics.jsonl", "time.jsonl", "result.json"):
        (run / name).unlink()
        (run / name).mkdir()
    assert "metrics.jsonl holds no epoch" in walk(run).said()


def test_lines_cut_off_by_a_crash_are_counted(run: Path) -> None:
    for name in ("metrics.jsonl", "time.jsonl"):
        with (run / name).open("a") as file:
            file.write('{"epoch": 6, "lo')
    said = walk(run).said()
    assert "metrics.jsonl: 1 line can't be read, and is left out." in said
    assert "time.jsonl: 1 line can't be read, and is left out." in said


def test_a_run_that_failed_before_its_first_epoch(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB.format(name="early", rate=1, epochs=7), encoding="utf-8")
    said = walk(tmp_path).said()
    assert "early incomplete" in said
    assert "epochs 0 of 7 · no step yet" in said
    assert "metrics.jsonl is missing" in said


def test_a_run_that_goes_on(run: Path) -> None:
    import time

    (run / "result.json").unlink()
    progress = {"time": time.time(), "epoch": 5, "step": 52, "ranks": 4}
    (run / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
    said = walk(run).said()
    assert "toy running" in said
    assert "still running" in said
    assert "ranks 4" in said


def test_the_environment_comes_from_a_checkpoint_if_there_is_no_result(run: Path) -> None:
    import numpy as np

    from hpcnn.storage.checkpoint import Checkpoint, save_checkpoint

    (run / "result.json").unlink()
    (run / "checkpoints").mkdir()
    facts = {"hpcnn": "0.0.7", "machine": {"blas": "some 1.2"}, "progress": {"step": 33}}
    save_checkpoint(run / "checkpoints/last.safetensors", Checkpoint({"model/w": np.zeros(2)}, facts))
    said = walk(run).said()
    assert "hpcnn 0.0.7 blas some 1.2" in said
    assert "of the weights in the last checkpoint, at step 33" in said


def test_epochs_done_twice_count_once(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({**epoch_line(5, loss=0.5)}) + "\n")
    read = read_run(run)
    assert [line["epoch"] for line in read.epochs] == [1, 2, 3, 4, 5]
    assert read.last("loss") == 0.5


def test_values_that_are_not_finite_are_said(run: Path) -> None:
    lines = [epoch_line(epoch, loss=1.0) for epoch in range(1, 5)]
    lines[1]["loss"] = None
    lines[2]["val_loss"] = lines[3]["val_loss"] = float("nan")
    write_lines(run / "metrics.jsonl", lines)
    said = walk(run).said()
    assert (
        "training: no finite value in epoch 2; validation: no finite value in 2 epochs, the first of them epoch 3."
        in said
    )


def test_the_critical_batch_is_shown(run: Path) -> None:
    job = run / "job.toml"
    job.write_text(job.read_text().replace("[train]\n", "[train]\nbatch_size = 32\n"))
    scales = [None, 300.0, 400.0]
    lines = [epoch_line(epoch, loss=1.0) | {"noise_scale": scale} for epoch, scale in enumerate(scales, 1)]
    write_lines(run / "metrics.jsonl", lines)
    said = walk(run).said()
    assert "Critical batch about 400 samples: 12 times the batch of 32; larger batches up to that save steps" in said
    assert "noise scale, samples" in said
    assert "noise_scale 4" not in said  # it is no value to be judged by


def test_how_to_get_a_confusion_matrix(run: Path) -> None:
    write_lines(run / "metrics.jsonl", [{"epoch": 1, "loss": 1.0}])
    assert 'Add "confusion_matrix" to its train.metrics' in walk(run).said()
    job = (run / "job.toml").read_text()
    sigmoid = job.replace("softmax", "sigmoid")
    for other in ("mse", "binary_crossentropy"):  # of several outputs: each is a label of its own
        (run / "job.toml").write_text(sigmoid.replace("sparse_categorical_crossentropy", other))
        assert "Confusion matrix" not in walk(run).said()
    for text, other in (  # one class a sample is true
        (sigmoid, "categorical_crossentropy"),
        (job, "binary_crossentropy"),
        (sigmoid.replace('"digits"', '"digits"\none_hot = true'), "binary_crossentropy"),
        (sigmoid.replace('"digits"', '"digits"\none_hot = true'), "mse"),
    ):
        (run / "job.toml").write_text(text.replace("sparse_categorical_crossentropy", other))
        assert 'Add "confusion_matrix" to its train.metrics' in walk(run).said()
    one = job.replace("sparse_categorical_crossentropy", "binary_crossentropy").replace("units = 10", "units = 1")
    (run / "job.toml").write_text(one)
    assert 'Add "confusion_matrix" to its train.metrics' in walk(run).said()


def test_many_classes_show_the_mistakes_alone(run: Path) -> None:
    matrix = [[9.0 if row == column else 0.0 for column in range(50)] for row in range(50)]
    matrix[7][41] = 3.0
    write_lines(run / "metrics.jsonl", [{"epoch": 1, "loss": 1.0, "confusion_matrix": matrix}])
    found = walk(run)
    assert "7 taken for 41 3 25 %" in found.said()
    assert "450 of 453 training samples are right" in found.said()
    assert len(found.named("td")) < 100


def test_attempts(run: Path) -> None:
    start = {"event": "start", "job_id": 17, "attempt": 0, "nodes": 2, "tasks": 8, "step": 0, "time": 1_700_000_000}
    end = {"event": "end", "job_id": 17, "attempt": 0, "step": 40, "exit_code": 75, "time": 1_700_003_600}
    again = {"event": "start", "job_id": 17, "attempt": 1, "nodes": 1, "tasks": 4, "step": 40, "time": 1_700_003_700}
    write_lines(run / "attempts.jsonl", [start, end, again])
    said = walk(run).said()
    assert "2 attempts." in said
    assert re.search(r"0 17 2 8 2023-11-1\d \d\d:\d\d:20 0 2023-11-1\d \d\d:\d\d:20 saved and stopped 40", said)
    assert re.search(r"1 17 1 4 2023-11-1\d \d\d:\d\d:00 40 - - -", said)


def test_ranks_that_changed_have_accounts_of_their_own(run: Path) -> None:
    lines = [time_line(1, ["a", "b"]), time_line(2, ["a", "b"]), time_line(3, ["a"] * 3, slow=1)]
    write_lines(run / "time.jsonl", lines)
    said = walk(run).said()
    assert "2 ranks on 2 nodes, until epoch 2" in said
    assert "3 ranks on 1 node, until epoch 3" in said
    assert "Rank 1 on a takes 3.0 times as long as the others: they wait for it." in said


@pytest.mark.parametrize(("ranks", "columns"), [(64, 64), (1000, 125)])
def test_many_ranks_are_columns(run: Path, ranks: int, columns: int) -> None:
    write_lines(run / "time.jsonl", [time_line(1, [f"n{rank // 8}" for rank in range(ranks)], slow=9)])
    html = page([read_run(run)])
    found = Walk(html)
    picture = html.partition('class="columns"')[2].partition("</svg>")[0]
    assert picture.count("<g>") == columns
    assert f"rank {ranks - 1:,}" in found.said()
    assert len(html) < 200_000


def test_a_long_run_makes_no_large_page(run: Path) -> None:
    write_lines(run / "metrics.jsonl", [epoch_line(epoch, loss=1 / epoch) for epoch in range(1, 3001)])
    html = page([read_run(run)])
    assert len(html) < 250_000
    assert "10,000" not in html
    assert "3,000" in html


# --------------------------------------------------------------------------------------------------------- several runs


def test_the_best_run_comes_first(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, loss=loss, rate=loss) for name, loss in (("b", 2.0), ("a", 1.0), ("c", 3.0))]
    said = walk(*folders).said()
    order = said.partition("Best first")[2].partition("Settings that differ")[0]
    assert [order.index(f" {name} done") for name in "abc"] == sorted(order.index(f" {name} done") for name in "abc")
    assert "3 runs" in said
    assert order.count("same as a") == 2
    assert "optimizer.learning_rate 1.0 2.0 3.0" in said
    assert "train.epochs" not in said.partition("Settings that differ")[2].partition("Learning curves")[0]


def test_what_should_rise_is_best_where_it_is_highest(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, loss=loss) for name, loss in (("low", 2.0), ("high", 1.0))]
    for folder in folders:
        job = (folder / "job.toml").read_text().replace('monitor = ""', 'monitor = "val_accuracy"')
        (folder / "job.toml").write_text(job)
        (folder / "result.json").unlink()
    said = walk(*folders).said()
    assert said.index(" high incomplete 0.8") < said.index(" low incomplete 0.7")


def test_a_run_without_values_comes_last(tmp_path: Path) -> None:
    good, empty = make_run(tmp_path / "good"), make_run(tmp_path / "empty")
    (empty / "metrics.jsonl").unlink()
    said = walk(empty, good).said()
    assert said.index(" good done") < said.index(" empty done")


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    said = walk(make_run(tmp_path / "x/seed"), make_run(tmp_path / "y/seed")).said()
    assert "x/seed done" in said
    assert "y/seed done" in said


def test_other_layers_are_one_setting(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other")
    job = (other / "job.toml").read_text()
    (other / "job.toml").write_text(job.replace("[loss]", '[[model.layers]]\ntype = "dropout"\nrate = 0.3\n[loss]'))
    said = walk(one, other).said()
    assert 'model.layers ["dense 10 softmax"] ["dense 10 softmax", "dropout 0.3"]' in said
    assert "model.layers.0" not in said


def test_a_sweep_is_its_runs(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text("[values]\noptimizer.learning_rate = [0.1, 0.2]\n")
    for index in (0, 1):
        make_run(tmp_path / str(index), rate=0.1 * (index + 1))
    assert [read.path.name for read in read_runs([tmp_path])] == ["0", "1"]


def test_many_runs(tmp_path: Path) -> None:
    many = 61
    folders = [make_run(tmp_path / f"r{index}", epochs=2) for index in range(many)]
    said = walk(*folders).said()
    assert f"{many} runs" in said
    assert f"{many - 8} more" in said


def test_no_script_may_have_to_run(run: Path) -> None:
    """What the pointer is on is shown by style: the values stand in the page."""
    html = page([read_run(run)])
    assert "epoch 3 · training 0.3333 · validation 0.4333" in html
    assert re.search(r"\.stops g:hover[^}]*opacity: 1", html)


def test_matplotlib_and_mpi_stay_out(run: Path) -> None:
    import subprocess

    code = (
        "import sys; from hpcnn.report import main; main(sys.argv[1:]);"
        "print(*[name for name in ('mpi4py', 'tensorflow', 'matplotlib') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(run), "-o", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[1:] == [""]
