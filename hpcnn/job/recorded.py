"""Jobs as older versions recorded them in checkpoints and run folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a recorded job with the settings that its version did not know, as it meant them.

    >>> as_recorded({"train": {"epochs": 3}})
    {'train': {'arithmetic': 'numpy', 'epochs': 3}}
    """
    train = settings.get("train", {})
    return {**settings, "train": {"arithmetic": "numpy", **train}} if isinstance(train, Mapping) else {**settings}
