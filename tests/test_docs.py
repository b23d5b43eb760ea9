"""The documentation is true: it builds, links lead somewhere, and what it quotes from the code is there."""

from __future__ import annotations

import ast
import json
import os
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plots
from scripts import commands_page, rooms_picture, tree_picture
from tests.require import require

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LINKED = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
GAP = "…"
"""In the place of what differs from one message to the next."""


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(path: Path) -> set[str]:
    """The anchors of a page's headings, as a code host and the site make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", without_code(text_of(page))):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors_of(there), f"{target}#{anchor}"


# ------------------------------------------------------------------------------------------------ made from the code


def test_page_of_commands_is_up_to_date() -> None:
    hint = "run: python -m scripts.commands_page docs/commands.md"
    assert text_of(DOCS / "commands.md") == commands_page.page(), hint


def test_page_of_commands_has_all_of_them() -> None:
    text = commands_page.page()
    for name in commands_page.COMMANDS:
        assert f"## hpcnn {name}\n" in text
    assert "### hpcnn bench step\n" in text
    assert "| `--resume auto or PATH or never` | auto: resume the newest run" in text
    assert "<" not in without_code(text), "it would be taken for HTML"


def test_design_names_every_room() -> None:
    rooms = [path.parent.name for path in (ROOT / "hpcnn").glob("*/__init__.py")]
    assert len(rooms) > 8
    assert [room for room in rooms if f"\n| `{room}` | " not in text_of(DOCS / "design.md")] == []


@pytest.mark.parametrize(
    ("name", "drawn", "module"),
    [
        ("rooms", rooms_picture.picture, "scripts.rooms_picture"),
        ("tree", tree_picture.picture, "scripts.tree_picture"),
        ("benchmarks", plots.plot, "benchmarks.plots"),
    ],
)
def test_drawing_is_up_to_date(name: str, drawn: Callable[[], str], module: str) -> None:
    file = DOCS / "images" / f"{name}.svg"
    assert text_of(file) == drawn(), f"run: python -m {module} {file.relative_to(ROOT)}"


def test_recorded_hashes_are_one_for_hpcnn() -> None:
    recorded = json.loads(text_of(ROOT / "benchmarks" / "results" / "hashes.json"))
    ours, theirs = recorded["hashes"].values()
    assert recorded["ranks"] == list(range(1, 9))
    assert len(set(ours)) == 1
    assert len(set(theirs)) == len(theirs) == len(ours) == 8


def places_named(text: str) -> list[tuple[str, str]]:
    """Return each file of the package that a text names, with each name that follows: `file.py` `Class.method`."""
    found = re.findall(r"`(hpcnn/[\w/]+\.py)`((?:,? `[A-Za-z_][\w.]*`)*)", text)
    return [(file, name) for file, names in found for name in re.findall(r"`([\w.]+)`", names) or [""]]


def names_defined(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Yield the names of functions, classes, methods and constants of a module or class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names_defined(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.stem)
def test_files_and_functions_that_pages_name_exist(page: Path) -> None:
    for file, name in places_named(text_of(page)):
        assert (ROOT / file).is_file(), file
        assert not name or name in set(names_defined(ast.parse(text_of(ROOT / file)))), f"{file}: {name}"


def test_design_walks_one_gradient() -> None:
    section = text_of(DOCS / "design.md").partition("## One gradient")[2].partition("\n## ")[0]
    stations = re.findall(r"^\| (\d)\. .*\|$", section, re.MULTILINE)
    assert stations == [str(number) for number in range(1, len(stations) + 1)]
    assert 5 <= len(stations) <= 8
    rooms = {file.split("/")[1] for file, name in places_named(section) if name}
    assert {"training", "nn", "comm", "optim", "runs", "storage", "core"} <= rooms
    assert places_named("`hpcnn/a.py` `B.c`, `d` and `hpcnn/e.py`.") == [
        ("hpcnn/a.py", "B.c"), ("hpcnn/a.py", "d"), ("hpcnn/e.py", "")
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------- quoted from the code


@cache
def texts_of_the_code() -> tuple[str, ...]:
    """Every text in the source of the package; what is put into it stands as GAP."""
    found = []
    for path in sorted((ROOT / "hpcnn").rglob("*.py")):
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    # A file in C puts a message together from its texts, in order.
    in_c = (re.findall(r'"((?:[^"\\\n]|\\.)*)"', text_of(path)) for path in sorted((ROOT / "hpcnn").rglob("*.c")))
    return *found, *map(GAP.join, in_c)


def quoted_messages() -> list[str]:
    return re.findall(r"^\| `(.+?)` \|", text_of(DOCS / "troubleshooting.md"), re.MULTILINE)


def is_said(message: str, texts: tuple[str, ...]) -> bool:
    """Whether some text of the code has all parts of the message, in order."""
    parts = [part.strip() for part in message.split(GAP) if part.strip()]
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    return any(pattern.search(text) for text in texts)


@pytest.mark.parametrize("message", quoted_messages())
def test_message_is_one_of_the_code(message: str) -> None:
    assert len(message.replace(GAP, "")) > 12, "too short to be told from others"
    assert is_said(message, texts_of_the_code())


def test_messages_are_told_from_what_nobody_says() -> None:
    texts = texts_of_the_code()
    assert len(quoted_messages()) > 40
    assert is_said(f"{GAP} ranks for {GAP} gradient shard{GAP}: each rank needs one shard at least", texts)
    assert not is_said(f"{GAP} ranks for {GAP} gradient slices", texts)
    assert not is_said(f"each rank needs one shard at least {GAP} ranks for", texts)


# ------------------------------------------------------------------------------------------------- figures, and jobs


def numbers_in(value: Any) -> Iterator[float]:
    """The figures of a file of results: each number, and the median, least and greatest of each list."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers_in(inner)
    elif isinstance(value, list) and all(isinstance(one, int | float) for one in value):
        yield from (statistics.median(value), min(value), max(value))
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_in(inner)
    elif isinstance(value, int | float):
        yield value


def is_rounded_from(figure: str, numbers: list[float]) -> bool:
    """Whether a figure as it is printed is one of the numbers, rounded."""
    plain = figure.replace(",", "")
    decimals = len(plain.partition(".")[2])
    zeros = 0 if decimals else len(plain) - len(plain.rstrip("0"))
    zeros = min(zeros, max(0, len(plain) - 3))  # three digits count, zeros or not
    unit = 10.0 ** (zeros - decimals)
    return any(abs(number - float(plain)) <= unit * 0.501 for number in numbers)


def tables_of_results() -> dict[str, str]:
    """For each file of results, the tables that follow the command which makes it."""
    parts = re.split(r"(?=^```text)", text_of(DOCS / "performance.md"), flags=re.MULTILINE)[1:]
    names = [re.findall(r"^.*benchmarks/results/(\w+)\.json$", part, re.MULTILINE)[0] for part in parts]
    return dict(zip(names, parts, strict=True))


@pytest.mark.parametrize("name", list(tables_of_results()))
def test_figures_are_those_of_the_results(name: str) -> None:
    numbers = list(numbers_in(json.loads(text_of(ROOT / "benchmarks" / "results" / f"{name}.json"))))
    rows = re.findall(r"^\|[^|\n]*\|(.*)\|$", tables_of_results()[name], re.MULTILINE)
    figures = [figure for row in rows for figure in re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?![\w-])", row)]
    assert len(figures) >= 3
    assert [figure for figure in figures if not is_rounded_from(figure, numbers)] == []


def test_figures_of_the_readme_are_among_them() -> None:
    rows = re.findall(r"^\| 784-.*\|$", text_of(ROOT / "README.md"), re.MULTILINE)
    told = {row.partition(" (")[0].strip(" |") for row in tables_of_results()["ddp"].splitlines()}
    assert len(rows) == 3
    assert {row.strip(" |") for row in rows} <= told


def test_every_result_is_told() -> None:
    more = set(re.findall(r"results/(\w+)\.json", text_of(ROOT / "benchmarks" / "README.md")))
    results = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert results <= tables_of_results().keys() | more


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pieces_of_jobs_are_valid(page: Path, tmp_path: Path) -> None:
    from hpcnn.job import load_job

    whole = {
        "data": '[data]\nsource = "digits"\n',
        "model": '[model]\nlayers = [{ type = "dense", units = 10, activation = "softmax" }]\n',
        "loss": '[loss]\nname = "sparse_categorical_crossentropy"\n',
    }
    for piece in re.findall(r"^```toml\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        given = tomllib.loads(piece)
        given |= {"loss": given["losses"]} if "losses" in given else {}
        fraction = "" if "data" in given else "validation_fraction = 0.2\n"
        rest = [text + (fraction if name == "data" else "") for name, text in whole.items() if name not in given]
        (tmp_path / "job.toml").write_text("\n".join([piece, *rest]), encoding="utf-8")
        load_job(tmp_path / "job.toml")


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_python_is_python(page: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        compile(code, page.name, "exec")


# --------------------------------------------------------------------------------------------------------- the site


def test_site_builds_without_warnings_and_asks_nobody(tmp_path: Path) -> None:
    for module in ("mkdocs", "material"):
        require(module)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        html = text_of(tmp_path / "site" / f"{page.stem}.html")
        assert "```" not in html, "a block that MkDocs does not take for one"
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="?https?:[^>]*>', html)
        assert not re.findall(r'<link[^>]* rel="?(?:stylesheet|preconnect)"?[^>]*https?:[^>]*>', html)
    assert 'href="files/slurm/pbs.sh"' in text_of(tmp_path / "site" / "other-schedulers.html")
    assert (tmp_path / "site" / "files" / "slurm" / "pbs.sh").read_bytes() == (ROOT / "slurm" / "pbs.sh").read_bytes()
    assert "gradient shards" in text_of(tmp_path / "site" / "search" / "search_index.json").lower()


@pytest.mark.parametrize("drawing", sorted((DOCS / "images").glob("*.svg")), ids=lambda path: path.stem)
def test_drawings_are_light_and_whole(drawing: Path) -> None:
    text = text_of(drawing)
    assert len(text) < 100_000
    assert not re.findall(r"""(?:href=|src=|url\()['"]?https?:""", text)


def test_report_of_the_digits_is_light_and_names_no_machine() -> None:
    text = text_of(DOCS / "digits-report.html")
    assert len(text) < 300_000
    assert re.search(r"\b[0-9a-f]{64}\b", text)
    assert not re.findall(r"(?:href=|src=|url\()['\"]?https?:", text)
    assert not re.findall(r"/(?:home|root|tmp|work)/", text)
