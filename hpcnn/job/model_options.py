"""Checks of `[model.options]` where `model.name` is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpcnn.core.conversion import convert, type_info
from hpcnn.errors import JobError
from hpcnn.job.models import OPTIONS, ResNet, Transformer, Vgg
from hpcnn.job.section import Section
from hpcnn.job.validate import check

VGG_DEPTHS: Sequence[int] = (11, 13, 16, 19)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise JobError for the first option that the network of that name does not take, or whose value it can't have."""
    section = OPTIONS[name]
    check(dict(options), type_info(section), ("model", "options"))
    _check_sizes(convert(dict(options), section))


def takes_batch_statistics(name: str, options: Mapping[str, Any]) -> bool:
    """Return whether the network has batch normalisations over the samples of all gradient shards."""
    section = convert(dict(options), OPTIONS[name])
    return getattr(section, "statistics", "") == "batch" and getattr(section, "batch_normalization", True)


def _check_sizes(options: Section) -> None:
    match options:
        case ResNet(depth=depth) if depth < 8 or depth % 6 != 2:
            _refuse("depth", depth, "6n + 2, such as 20, 32, 44, 56 or 110")
        case Vgg(depth=depth) if depth not in VGG_DEPTHS:
            _refuse("depth", depth, f"one of {', '.join(map(str, VGG_DEPTHS))}")
        case Transformer(width=width, heads=heads) if width % heads:
            _refuse("width", width, f"a multiple of model.options.heads = {heads}")


def _refuse(key: str, value: Any, expected: str) -> None:
    raise JobError(f"model.options.{key} = {value}: expected {expected}")
