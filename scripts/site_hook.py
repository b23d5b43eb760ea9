"""A hook of MkDocs: files beside docs/ that pages link to become part of the site, and marks for tests are dropped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

OUTSIDE = re.compile(r"(\]\()\.\./([^)#]+)(?=[)#])")
FOLDER = "files"
MARK = re.compile(r"^(```\w+) .+$", re.MULTILINE)
"""What follows the language of a block is for the tests; MkDocs would not take it for a block."""


def on_files(files: Files, config: Any) -> Files:
    """Add each file that a page links to by ``../``."""
    docs = Path(config.docs_dir)
    names = {name for page in docs.glob("*.md") for _, name in OUTSIDE.findall(page.read_text(encoding="utf-8"))}
    for name in sorted(names):
        content = (docs.parent / name).read_bytes()
        files.append(File.generated(config, f"{FOLDER}/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let the links lead there, and leave nothing beside a block's language."""
    return MARK.sub(r"\1", OUTSIDE.sub(rf"\1{FOLDER}/\2", markdown))
