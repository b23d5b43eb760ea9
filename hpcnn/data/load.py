"""Reads, checks, splits and scales the data of a job. The result is the same on any number of ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.data.checks import check_not_empty, check_samples
from hpcnn.data.chunks import stored_index
from hpcnn.data.columns import nameless_note
from hpcnn.data.other_files import read_inputs, read_samples
from hpcnn.data.readers import read_source
from hpcnn.data.reduction import SERIAL, Reduction, SerialReduction
from hpcnn.data.rows import Rows, SubsetRows, materialize
from hpcnn.data.sample_weights import check_some_weight, checked_weights
from hpcnn.data.sampler import Indices, check_batch
from hpcnn.data.samples import Samples, Scaling, Splits, measure_scaling, measure_some
from hpcnn.data.source import Source
from hpcnn.data.splits import split_of
from hpcnn.data.tables.encode import VALIDATION, encoded, unknown_notes
from hpcnn.data.tables.fit import fit_recipe
from hpcnn.data.tables.recipe import Recipe
from hpcnn.data.tables.rows import fields_of
from hpcnn.data.targets import (
    absent_classes,
    check_characters,
    class_counts,
    one_class_each,
    prepare_samples,
    prepare_targets,
)
from hpcnn.data.time_windows import in_order, window_plan
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema

__all__ = [
    "SERIAL", "Reduction", "Samples", "Scaling", "SerialReduction", "Splits", "absent_classes", "check_batch",
    "check_characters", "class_counts", "load", "one_class_each", "prepare_samples", "prepare_targets", "read_inputs",
    "read_samples",
]  # fmt: skip

TRAINING = "the training data"


def _unknown(source: Source, recipe: Recipe | None, held_out: Indices | None) -> tuple[str, ...]:
    """Return warnings for words of the validation data that the training split does not have."""
    if source.validation is not None:
        return unknown_notes(source.validation[0], recipe, VALIDATION)
    return () if held_out is None else unknown_notes(source.x, recipe, VALIDATION, held_out)


def _check_split(source: Source, data: schema.DataSection) -> None:
    """Raise JobError if validation data are given in two ways."""
    if source.validation is None or source.split:
        return
    if data.validation_fraction:
        raise JobError(
            f"data.validation_fraction = {data.validation_fraction:g}, but the job also names validation files. "
            "Set validation_fraction = 0, or make the names of the validation files empty."
        )
    if data.fold:
        raise JobError(
            f'data.fold = "{data.fold}", but there are validation data already. Leave out the fold, or these data.'
        )


def _check(source: Source, dtypes: tuple[DTypeLike, DTypeLike], reduction: Reduction) -> None:
    """Raise errors that concern all of the data, or both files."""
    if source.computed:
        return
    names = (source.feature_names, source.columns.targets if source.columns else None)
    check_samples(source.x, source.y, TRAINING, dtypes, reduction, *names)
    if source.validation is None:
        return
    for held, rows, what in zip(source.validation, (source.x, source.y), ("inputs", "targets"), strict=True):
        if held.shape[1:] != rows.shape[1:]:
            raise DataError(
                f"{what} have shape {held.shape[1:]} a sample in the validation data, but {rows.shape[1:]} in the "
                "training data. Give files of one kind."
            )
    check_samples(*source.validation, VALIDATION, dtypes, reduction, *names)


def _weights(source: Source, dtype: DTypeLike, reduction: Reduction) -> tuple[Rows | None, Rows | None]:
    """Return the weights of all samples, and those of validation data that come by themselves."""
    weights, held = source.weights, source.validation_weights
    if weights is not None:
        weights = checked_weights(weights, source.x.shape[0], TRAINING, dtype, reduction)
    if held is not None:
        assert source.validation is not None
        held = checked_weights(held, source.validation[0].shape[0], VALIDATION, dtype, reduction)
    return weights, held


def recipe_of(
    source: Source,
    data: schema.DataSection,
    training: Indices | None,
    arithmetic: str,
    reduction: Reduction = SERIAL,
) -> Recipe | None:
    """Return what becomes of the columns of a table, measured over the samples to train on. See `fit_recipe`."""
    if isinstance(data, schema.PictureSection):
        order = schema.TableColumn(order=data.classes)
        data = schema.Memory(columns={field.name: order for field in fields_of(source.y)} if data.classes else {})
    if not isinstance(data, schema.TableSection | schema.Memory):
        return None
    return fit_recipe(
        source.x, source.y, source.inputs, data, training=training, reduction=reduction, arithmetic=arithmetic
    )


def load(
    data: schema.DataSection,
    *,
    seed: int,
    dtype: DTypeLike,
    base: Path,
    reduction: Reduction = SERIAL,
    scaling: Scaling | None = None,
    target_scaling: Scaling | None = None,
    source: Source | None = None,
    arithmetic: str = "numpy",
    recipe: Recipe | None = None,
) -> Splits:
    """Read, check, split and scale the data of a job. Collective where `reduction` is.

    Targets are prepared when the model is known: `prepare_targets`.

    Args:
        data: the `[data]` section.
        seed: `train.seed`; determines which samples are held out.
        dtype: type of inputs and values, float32 or float64. Small data in memory are cast to it once.
        base: the job file's folder; relative paths are looked for there, then in the working folder.
        reduction: distributes checks and statistics over the ranks.
        scaling: of the training run, for evaluation; without it, it is measured over the training split.
        target_scaling: the same of targets.
        arithmetic: `train.arithmetic`, which draws those that are held out, and adds up statistics.
        source: data in memory, instead of those that the section names.
        recipe: of the training run, for evaluation; without it, that of a table is measured over the training split.

    Raises:
        DataError: files are missing, damaged, empty, not finite, or inconsistent.
        JobError: inconsistent settings.
    """
    source = source or read_source(data, base)
    _check_split(source, data)
    if not source.computed:
        check_not_empty(source.x, TRAINING)
    plan = window_plan(source, data)
    kept, held_out = (plan.kept, plan.left_out) if plan else split_of(source, data, seed, arithmetic)
    recipe = recipe or recipe_of(source, data, kept, arithmetic, reduction)
    unknown = _unknown(source, recipe, held_out)
    source = encoded(source, recipe, TRAINING, reduction)
    scaled = scaling is not None or data.scale != "none"
    scaled_y = target_scaling is not None or data.scale_targets != "none"
    _check(source, (np.float64 if scaled else dtype, np.float64 if scaled_y else dtype), reduction)

    weights, held_weights = _weights(source, dtype, reduction)
    train, validation = (source.x, source.y), source.validation
    if plan is not None and validation is not None and plan.validation is not None:
        validation = in_order(validation[0], plan.validation), in_order(validation[1], plan.validation)
    if held_out is not None:
        validation = SubsetRows(source.x, held_out), SubsetRows(source.y, held_out)
    if kept is not None:
        train = SubsetRows(source.x, kept), SubsetRows(source.y, kept)
    if weights is not None and kept is not None and held_out is not None:
        weights, held_weights = SubsetRows(weights, kept), SubsetRows(weights, held_out)
    if scaling is None and data.scale != "none":
        if recipe is not None and recipe.columns:
            some = [one for column in recipe.columns for one in column.scaled]
            scaling = measure_some(train[0], some, data.scale, data.scale_over, reduction, arithmetic)
        else:
            scaling = measure_scaling(train[0], data.scale, data.scale_over, reduction, arithmetic)

    if target_scaling is None and data.scale_targets != "none":
        kind, over = data.scale_targets, data.scale_targets_over
        target_scaling = measure_scaling(train[1], kind, over, reduction, arithmetic, "targets")

    def samples(x: Rows, y: Rows, weights: Rows | None, what: str) -> Samples:
        if weights is not None:
            check_some_weight(weights, what, reduction)
        y = target_scaling.apply(y, "targets") if target_scaling else y
        return Samples(
            materialize(scaling.apply(x) if scaling else x, dtype),
            materialize(y, dtype) if y.dtype.kind == "f" else materialize(y, y.dtype),
            source.feature_names,
            weights=None if weights is None else materialize(weights, dtype),
        )

    chosen = samples(*train, weights, TRAINING)
    held = None if validation is None else samples(*validation, held_weights, VALIDATION)
    index = stored_index(train[0]) if data.order == "windows" else None
    if plan is not None:
        chosen, held = plan.windows(chosen), held and plan.windows(held, validation=True)
        index = None if index is None else index[plan.starts]
    notes = (*source.notes, *nameless_note(source.columns, TRAINING), *unknown)
    return Splits(chosen, held, scaling, notes, recipe, index, target_scaling)
