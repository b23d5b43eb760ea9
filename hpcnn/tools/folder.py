"""The folder that a command writes its tables and pictures to."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hpcnn.errors import HpcnnError
from hpcnn.system.atomic import write_text

NO_PICTURE = "For pictures install matplotlib: pip install 'hpcnn[plot]'"


def make_folder(folder: Path | None) -> None:
    """Make the folder, if one was asked for, before anything is computed.

    Raises:
        HpcnnError: it can't be made.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HpcnnError(f"can't make the folder {str(folder)!r} ({error.strerror}). Give another one by -o.") from None


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        HpcnnError: it can't be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise HpcnnError(f"can't write {str(path)!r}: {error.strerror}. Give another folder by -o.") from None


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None
