"""A browser without a window, for tests of what people look at in one."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.require import missing

BROWSERS = "chromium", "chromium-browser", "google-chrome"
OPTIONS = "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"


def browser_command(profile: Path) -> list[str]:
    """Return the command that starts the browser, which keeps its own files in the folder `profile`."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        missing(f"no browser is installed: {', '.join(BROWSERS)}")
    return [browser, *OPTIONS, f"--user-data-dir={profile}", "--window-size=1700,1000"]
