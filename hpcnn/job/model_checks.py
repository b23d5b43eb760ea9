"""Checks of ``[model]``: one source of layers, and what goes with each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpcnn.errors import JobError
from hpcnn.job import layers as sections
from hpcnn.job.model_options import check_options
from hpcnn.job.schema import Job


def all_layers(layers: Sequence[sections.Layer], place: str = "model.layers") -> Iterator[tuple[str, sections.Layer]]:
    """Yield the layers and those within them, each with its place in the job."""
    for number, layer in enumerate(layers):
        yield f"{place}.{number}", layer
        yield from all_layers(layer.children, f"{place}.{number}.layers")


def check_model(job: Job) -> None:
    """Raise JobError for the first thing in the section that does not fit the rest of it."""
    model = job.model
    given = [key for key in ("layers", "name", "entry") if getattr(model, key)]
    if len(given) > 1:
        raise JobError(f"[model] has both {given[0]} and {given[1]}: keep one of them")
    if not given:
        raise JobError(
            '[model] has neither layers nor name nor entry. Add, for example: layers = [{ type = "dense", units = 10 }]'
        )
    if model.inputs and model.input_shape is not None:
        raise JobError(
            "[model] has both inputs and input_shape: remove input_shape, which follows from those of the inputs"
        )
    if (model.inputs or model.outputs) and not model.layers:
        raise JobError(
            f"model.inputs and model.outputs are for layers: remove them, what model.{given[0]} gives has its own"
        )
    if model.options and model.layers:
        raise JobError(
            "model.options are arguments for model.entry or sizes for model.name, which are not given: remove them, or "
            "add one of the two"
        )
    if model.name:
        check_options(model.name, model.options)
    module, colon, function = model.entry.partition(":")
    if model.entry and not (colon and function.isidentifier() and all(p.isidentifier() for p in module.split("."))):
        raise JobError(f'model.entry = "{model.entry}": expected "package.module:function"')
    for place, layer in all_layers(model.layers):
        if isinstance(layer, sections.Reshape):
            _check_shape(f"{place}.shape", layer.shape)


def _check_shape(key: str, shape: Sequence[int]) -> None:
    if any(size < 1 and size != -1 for size in shape):
        raise JobError(f"{key} = {list(shape)}: expected sizes >= 1, one of which may be -1 for the rest")
    if list(shape).count(-1) > 1:
        raise JobError(f"{key} = {list(shape)}: only one size may be -1, since the others determine it")
