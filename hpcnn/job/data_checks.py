"""Checks of the settings of data sources: each on its own, and what they hold out for validation."""

from __future__ import annotations

import math
import re
from typing import Any

from hpcnn.errors import JobError
from hpcnn.job import data as sources


def has_validation(data: sources.Data) -> bool:
    """Return whether a source with these settings has validation data."""
    given = isinstance(data, sources.Memory) and data.validation_samples > 0
    given = given or (isinstance(data, sources.Cifar) and data.part == "both")
    given = given or isinstance(data, sources.Images)  # it depends on the folders that there are
    return given or data.validation_fraction > 0 or bool(data.fold) or any(_validation_given(data).values())


def _validation_given(data: sources.Data) -> dict[str, Any]:
    """Return the settings that name validation data, by key; those of inputs and targets come in pairs."""
    keys = (
        "validation_path", "validation_x_path", "validation_y_path", "validation_images", "validation_labels",
        "validation_x", "validation_y", "validation_column", "validation_shards",
    )  # fmt: skip
    return {key: getattr(data, key) for key in keys if hasattr(data, key)}


def check_data(data: sources.Data) -> None:
    """Raise JobError if the settings of a source contradict each other, or name validation data twice."""
    check_source(data)
    if data.chunk_rows and data.order == "global":
        raise JobError(
            f'data.chunk_rows = {data.chunk_rows} is for data.order = "windows", but the order is "global": set it to '
            '"windows", or remove chunk_rows'
        )
    if data.order == "windows" and data.augment is not None and data.augment.mixup:
        raise JobError(
            f"data.augment.mixup = {data.augment.mixup:g} mixes with any other sample, but with data.order = "
            '"windows" a few chunks are there at a time: set the order to "global", or mixup to 0'
        )
    _check_window(data)
    _check_copies(data)
    _check_validation(data)
    _check_split(data)


def _check_copies(data: sources.Data) -> None:
    """Raise JobError if files are to be copied, but there are none, or in two ways."""
    if data.stage and data.cache:
        raise JobError(
            f"data.stage = {data.stage!r} and data.cache = {data.cache!r} both copy the data: keep one. The cache is "
            "for files that are slow to read, the stage for a file system that is slow"
        )
    given = "stage" if data.stage else "cache"
    if getattr(data, given) and not any(hasattr(data, key) for key in sources.LOCATIONS):
        raise JobError(
            f"data.{given} = {getattr(data, given)!r} copies files, but data.source = "
            f'{data.__struct_config__.tag!r} reads none: set it to ""'
        )


def _check_validation(data: sources.Data) -> None:
    """Raise JobError if validation data are given in two ways, or by half."""
    named = _validation_given(data)
    given = [key for key, value in named.items() if value]
    if data.validation_fraction > 0 and given:
        empty = ", ".join(f'data.{key} = ""' for key in given)
        raise JobError(
            f"data.validation_fraction = {data.validation_fraction:g} and data.{given[0]} both give validation "
            f"data: set the fraction to 0, or {empty}"
        )
    if data.fold and given:
        raise JobError(
            f'data.fold = "{data.fold}" and data.{given[0]} both give validation data: leave out one of them'
        )
    for pair in (("validation_x_path", "validation_y_path"), ("validation_images", "validation_labels"),
                 ("validation_x", "validation_y")):  # fmt: skip
        if len(found := [key for key in pair if key in given]) == 1:
            other = next(key for key in pair if key not in found)
            raise JobError(f"data.{found[0]} needs data.{other}: give both, or neither")
    others = [key for key in ("validation_path", "validation_x", "validation_column") if key in given]
    if len(others) > 1:
        raise JobError(f"data.{others[0]} and data.{others[1]} both give validation data: leave out one of them")
    values = getattr(data, "validation_values", [])
    if isinstance(data, sources.TableSection) and bool(data.validation_column) != bool(values):
        here, other = ("column", "values") if not values else ("values", "column")
        raise JobError(f"data.validation_{here} needs data.validation_{other}: give both, or neither")


def _check_split(data: sources.Data) -> None:
    """Raise JobError if the kind of the split means nothing, or the source does not allow it."""
    kind, splits = data.validation_split, data.validation_fraction > 0 or bool(data.fold)
    if data.fold:
        numbers = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", data.fold)
        if numbers is None or int(numbers[2]) < max(2, int(numbers[1])):
            raise JobError(f'data.fold = "{data.fold}": give a fold and the number of folds, at least 2, as "1/5"')
    if isinstance(data, sources.TextFiles | sources.Series) and (data.fold or kind not in ("random", "last")):
        key, value = ("fold", data.fold) if data.fold else ("validation_split", kind)
        raise JobError(
            f'data.{key} = "{value}" is not for this source, of which validation_fraction holds out the end: remove '
            f"data.{key}"
        )
    if kind != "random" and not splits:
        raise JobError(
            f'data.validation_split = "{kind}" says which samples are held out, but none are: set '
            "data.validation_fraction or data.fold, or remove it"
        )
    if data.validation_gap and kind != "last":
        raise JobError(
            f'data.validation_gap = {data.validation_gap} is for data.validation_split = "last", but that is "{kind}": '
            "change it, or remove the gap"
        )
    group = getattr(data, "group", "") or getattr(data, "group_path", "")
    if kind == "group" and not group and not isinstance(data, sources.Memory):
        raise JobError(
            'data.validation_split = "group" needs to know which samples belong together: name a column or an array by '
            "data.group, in a table, an .npz or an HDF5 file (of .npy: group_path)"
        )
    if group and splits and kind != "group" and data.window is None:
        raise JobError(
            f'data.group = "{group}" says which samples belong together, but data.validation_split = "{kind}" takes '
            'them apart: set it to "group", or remove data.group (and leave a column out by data.exclude)'
        )


IN_TIME = (sources.ArraySection, sources.Npy, sources.TableSection, sources.Memory)
"""Sources whose rows may be in the order of time."""


def _check_window(data: sources.Data) -> None:
    key = "y_path" if isinstance(data, sources.Npy) else "y"
    forecasts_inputs = getattr(data, key, "given") == ""
    window = data.window
    if window is None and forecasts_inputs:
        raise JobError(f"data.{key} is empty, so that there are no targets: name them, or give data.window")
    if window is None:
        return
    if not isinstance(data, IN_TIME):
        source = type(data).__struct_config__.tag
        raise JobError(f'data.window is for rows in the order of time, which those of "{source}" are not: leave it out')
    if window.steps + window.gap < 0:
        raise JobError(
            f"data.window.gap = {window.gap} lets targets begin before the inputs do: use at least {-window.steps}"
        )
    if window.gap < 0 and forecasts_inputs:
        raise JobError(
            f"data.window.gap = {window.gap}, but the targets are the inputs themselves (data.{key} is empty), which "
            "the model would be shown: use at least 0"
        )
    for key in ("weights", "weights_path", "validation_column", "fold", "validation_gap"):
        if getattr(data, key, None):
            raise JobError(f"data.{key} is of single samples, but data.window makes some of many rows: leave one out")
    if data.validation_split not in ("random", "last"):
        raise JobError(
            f'data.validation_split = "{data.validation_split}" takes rows apart, but data.window holds out the end of '
            "each series: leave the kind of the split out"
        )
    if getattr(data, "group", "") and getattr(data, "validation_x", ""):
        raise JobError("data.group with data.window is for series of one array: leave data.validation_x out")
    if isinstance(getattr(data, "inputs", None), dict):
        raise JobError("data.window makes windows of one input, but data.inputs is a table of several: give a list")


def check_source(data: sources.DataSection) -> None:
    """Raise JobError if the settings of one source contradict each other."""
    match data:
        case sources.Cifar():
            _check_cifar(data)
        case sources.TextFiles():
            _check_text(data)
        case sources.Images():
            _check_images(data)
        case sources.GridSection():
            _check_names(data)
            _check_grid(data)
        case sources.Npz():
            _check_names(data)
        case sources.WebDataset():
            _check_webdataset(data)
        case sources.Csv():
            _check_csv(data)
        case sources.Heat() if data.modes > data.points // 2:
            raise JobError(
                f"data.modes = {data.modes} of data.points = {data.points}: a wave needs two points a period. Use at "
                f"most {data.points // 2} modes, or more points."
            )


def _check_cifar(data: sources.Cifar) -> None:
    if data.name == "cifar10" and data.labels == "coarse":
        raise JobError(
            'data.labels = "coarse" is for CIFAR-100, whose classes form groups, but data.name = "cifar10": set labels '
            'to "fine", or the name to "cifar100"'
        )
    if data.part == "both" and data.validation_fraction > 0:
        raise JobError(
            f'data.validation_fraction = {data.validation_fraction:g} and the test batch of data.part = "both" both '
            'give validation data: set the fraction to 0, or part to "train"'
        )


def _check_grid(data: sources.GridSection) -> None:
    for key in ("coordinates", "mask_channel"):
        if getattr(data, key) and data.stack != "channels":
            raise JobError(f'data.{key} adds channels, but data.stack = "{data.stack}": set it to "channels"')
    if data.mask_channel and data.fill is None:
        raise JobError("data.mask_channel says where values were missing, which are refused: set data.fill as well")
    if data.fill is not None and not math.isfinite(data.fill):
        raise JobError(f"data.fill = {data.fill} is not finite: give a number")


def _check_names(data: sources.ArraySection) -> None:
    for key in ("x", "y", "coordinates"):
        names = getattr(data, key, [])
        twice = [name for place, name in enumerate(names) if name in names[:place]] if isinstance(names, list) else []
        if twice:
            raise JobError(f"data.{key} names {twice[0]!r} twice: name each array once")


def _check_images(data: sources.Images) -> None:
    if data.table and data.masks:
        raise JobError("data.table and data.masks both give the targets: leave one out")
    if data.table and not data.targets:
        raise JobError("data.table needs data.targets: name the columns to predict")
    for key, needed in (
        ("targets", "table"),
        ("weights", "table"),
        ("validation_table", "table"),
        ("mask_values", "masks"),
    ):
        if getattr(data, key) and not getattr(data, needed):
            raise JobError(f"data.{key} is for data.{needed}, which is not given: add that, or remove data.{key}")
    if data.classes and data.masks:
        raise JobError("data.classes names the folders or words of classes, but data.masks gives numbers: leave it out")
    _check_pictures(data)
    if data.validation_table and data.validation_fraction:
        raise JobError(
            f"data.validation_fraction = {data.validation_fraction:g} and data.validation_table both give validation "
            "data: set the fraction to 0, or remove the table"
        )


def _check_pictures(data: sources.PictureSection) -> None:
    if len(data.size) == 1:
        raise JobError(f"data.size = {data.size} is one number: give [height, width]")
    for key in ("classes", "mask_values"):
        given = getattr(data, key)
        if len(set(given)) < len(given):
            twice = next(one for place, one in enumerate(given) if one in given[:place])
            raise JobError(f"data.{key} has {twice!r} twice: give each once")


def is_picture(ending: str) -> bool:
    """Return whether files with this ending, without a dot before it, are pictures."""
    return ending.lower().rpartition(".")[2] in sources.PICTURE_ENDINGS


def _check_webdataset(data: sources.WebDataset) -> None:
    endings = data.x.split(";")
    arrays = [one for one in endings if one.lower().rpartition(".")[2] == "npy"]
    if len(arrays) not in (0, len(endings)) or not (arrays or all(map(is_picture, endings))):
        raise JobError(
            f"data.x = {data.x!r}: inputs are pictures ({', '.join(sources.PICTURE_ENDINGS)}), or 'npy': give such "
            "endings, without a dot before them"
        )
    masks = is_picture(data.y)
    if masks and arrays:
        raise JobError(f"data.y = {data.y!r} is a mask, but data.x = {data.x!r} no picture: give masks as 'npy' too")
    if data.mask_values and not masks:
        raise JobError(f"data.mask_values is for masks, but data.y = {data.y!r} is no picture: leave it out")
    if data.classes and masks:
        raise JobError("data.classes names the words of classes, but masks hold numbers: leave it out")
    _check_pictures(data)


def _check_csv(data: sources.Csv) -> None:
    given = data.delimiter
    if given not in ("", "whitespace") and (len(given) > 1 or not given.isascii() or given in '"\r\n\0'):
        raise JobError(
            f'data.delimiter = {given!r} can\'t separate columns: give one character of ASCII, as ";", or "whitespace" '
            "for any number of blanks and tabs, or leave it out: it is found"
        )
    try:
        "a".encode(data.encoding or "utf-8")
    except (LookupError, ValueError):
        raise JobError(
            f"data.encoding = {data.encoding!r} is no encoding of text that Python knows: use 'utf-8', 'latin-1', "
            "'cp1252', 'utf-16' or another one, or leave it out for UTF-8"
        ) from None


def _check_text(data: sources.TextFiles) -> None:
    if data.scale != "none":
        raise JobError(
            f'data.scale = "{data.scale}" would change the numbers of characters, which only name them: set it to '
            '"none" for source "text"'
        )
    characters = data.vocabulary
    if characters and data.units == "byte":
        raise JobError(
            'data.vocabulary lists characters, but data.units = "byte", whose numbers are their values: remove the '
            'vocabulary, or set units to "character"'
        )
    if len(set(characters)) < len(characters):
        twice = next(one for place, one in enumerate(characters) if one in characters[:place])
        raise JobError(f"data.vocabulary has {twice!r} twice: give each character once")
