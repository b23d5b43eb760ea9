"""The page of a report in a real browser: nothing sticks out on a phone, nothing is amiss, and dark is dark."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcnn.tools.report.page import page
from hpcnn.tools.report.read import read_run
from tests.browser import browser_command
from tests.tools.report_runs import epoch_line, make_run, time_line, write_lines

WIDTHS = 400, 1600

# The page forbids scripts, so those of the page around it look into it.
AROUND = """<!doctype html><meta charset="utf-8"><body><script>
const seen = [];
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, root = page.documentElement, wide = [];
  for (const one of page.querySelectorAll("details")) one.open = true;
  for (const one of page.querySelectorAll("main *"))
    if (!one.closest(".scroll, pre") && one.getBoundingClientRect().right > root.clientWidth + 1)
      wide.push(one.tagName + "." + one.getAttribute("class"));
  const bars = [...page.querySelectorAll(".bar rect, .columns rect")].map(one => one.getBoundingClientRect());
  seen.push({
    width: root.clientWidth, scroll_width: root.scrollWidth, wide: wide, title: page.title,
    height: root.scrollHeight, background: getComputedStyle(page.body).backgroundColor,
    path: Math.round(page.querySelector("path").getBoundingClientRect().width),
    empty_bars: bars.filter(one => one.width <= 0 || one.height <= 0).length, bars: bars.length,
    text: Math.min(...[...page.querySelectorAll("figure > svg text")].map(one => one.getBoundingClientRect().height)),
  });
}
document.body.innerHTML = "<pre id=seen></pre>";
document.getElementById("seen").textContent = JSON.stringify(seen);
</script>"""


def look(folder: Path, pages: list[str], scheme: str) -> tuple[list[dict[str, Any]], str]:
    """Return what each page looks like in each width, and what the browser has to say."""
    frames = [
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(one)}"></iframe>'
        for one in pages
        for width in WIDTHS
    ]
    wait = AROUND.replace("<script>", "".join(frames) + "<script>window.onload = () => {", 1)
    around = folder / "around.html"
    around.write_text(wait.replace("</script>", "};</script>"), encoding="utf-8")
    command = [*browser_command(folder / "profile"), "--enable-logging=stderr", "--virtual-time-budget=10000"]
    command.append(f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}")
    done = subprocess.run(
        [*command, "--dump-dom", around.as_uri()], capture_output=True, text=True, check=True, timeout=180
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:]
    return json.loads(html.unescape(found[1])), done.stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(tmp_path: Path, scheme: str) -> None:
    run, other = (
        make_run(tmp_path / "toy"),
        make_run(tmp_path / f"run with a long name {'x' * 80}", rate=0.1, epochs=60),
    )
    write_lines(other / "time.jsonl", [time_line(1, [f"node{rank}" for rank in range(64)], slow=3)])
    matrix = [[float(row == column) * 1000 + row for column in range(24)] for row in range(24)]
    write_lines(other / "metrics.jsonl", [{**epoch_line(1, loss=1.0), "val_confusion_matrix": matrix}])
    runs = [read_run(run), read_run(other)]
    pages = {"one": page(runs[:1], "one"), "other": page(runs[1:], "other"), "both": page(runs, "both")}
    if scheme == "dark":
        del pages["one"], pages["both"]
    seen, said = look(tmp_path, [*pages.values()], scheme)
    assert [one["title"].partition(" ")[0] for one in seen] == [name for name in pages for _ in WIDTHS]
    assert [one["width"] for one in seen] == [*WIDTHS] * len(pages)
    for one in seen:
        assert one["wide"] == []
        assert one["scroll_width"] <= one["width"]
        assert one["height"] > 900
        assert one["background"] == {"light": "rgb(245, 246, 248)", "dark": "rgb(15, 18, 22)"}[scheme]
        assert (one["bars"] > 5, one["empty_bars"]) == (True, 0)
        assert one["text"] > 10
    assert "CONSOLE" not in said
