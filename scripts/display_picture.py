"""Draw the live display for the documentation, from a real run in a real terminal: docs/images/live-display.svg.

python scripts/display_picture.py [--ranks 2] [--columns 96]

Needs tmux, and an mpirun that fits mpi4py.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "live-display.svg"
EPOCHS, FROM_EPOCH = 40, 20
"""The picture is of the first look at this epoch or a later one that is not the last."""
LIMIT_S, POLL_S = 120.0, 0.05
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.S)
"""Rich loads them from the network; any monospaced font works."""


def main() -> int:
    """Draw it, and return the exit code."""
    parser = argparse.ArgumentParser(description="Draw the live display for the documentation.")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--columns", type=int, default=96)
    parser.add_argument("--out", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    if shutil.which("tmux") is None:
        sys.exit("error: tmux is not installed")
    command = f"mpirun -n {arguments.ranks} python -m hpcnn.train"
    screen = picture_of(command, arguments.columns)
    write_svg(f"$ {command}\n{screen}", arguments.columns, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")
    return 0


def picture_of(command: str, columns: int) -> str:
    """Run `command` in a terminal and return what it shows during the training, with colours."""
    with tempfile.TemporaryDirectory() as folder:
        tmux = ("tmux", "-S", f"{folder}/socket")
        run = f"cd {folder}; export PYTHONPATH={ROOT}; {command} --set train.epochs={EPOCHS}; sleep {LIMIT_S:g}"
        subprocess.run([*tmux, "new-session", "-d", "-x", str(columns), "-y", "30", run], check=True)
        try:
            deadline = time.monotonic() + LIMIT_S
            while time.monotonic() < deadline:
                shown = subprocess.run([*tmux, "capture-pane", "-e", "-p"], capture_output=True, text=True).stdout
                found = re.search(rf"(\d+)/{EPOCHS}", Text.from_ansi(shown).plain)
                if found and FROM_EPOCH <= int(found[1]) < EPOCHS and "so far" in shown:
                    return shown.rstrip("\n")
                time.sleep(POLL_S)
        finally:
            subprocess.run([*tmux, "kill-server"], check=False)
    sys.exit(f"error: no display within {LIMIT_S:g} s, but\n{shown}")


def write_svg(screen: str, columns: int, path: Path) -> None:
    """Write a terminal's contents as a picture."""
    console = Console(record=True, width=columns, file=io.StringIO())
    console.print(Text.from_ansi(screen))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_FONTS.sub("", console.export_svg(title="hpcnn")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
