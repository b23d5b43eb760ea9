"""Each fault in a job file is named in the reader's words: where, what was given, what is allowed."""

from __future__ import annotations

import copy
import re
import tomllib
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as kinds

from hpcnn.core import conversion
from hpcnn.job.dump import resolved_toml
from hpcnn.job.layers import Flatten
from hpcnn.job.reference import settings as all_settings
from hpcnn.job.schema import Job
from hpcnn.job.validate import EXAMPLES, SettingError, check, describe, job_type, members, tables
from tests.forks import ends_in_a_child

VALID: dict[str, Any] = {
    "data": {"source": "digits"},
    "model": {"layers": [{"type": "flatten"}, {"type": "dense", "units": 10, "activation": "softmax"}]},
    "loss": {"name": "sparse_categorical_crossentropy"},
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "train": {"batch_size": 32, "metrics": ["accuracy"], "early_stopping": {"patience": 3}},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """Return VALID with one more setting."""
    table = copy.deepcopy(VALID)
    node: Any = table
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for part in parents:
        node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    node[last] = value
    return table


FAULTS: list[tuple[str, object, str]] = [
    # unknown keys
    ("train.epocs", 3, "unknown key 'epocs' in [train]. Did you mean 'epochs'? Known: arithmetic, batch_size, "),
    ("train.learning_rate", 0.1, "'learning_rate' is a setting of [optimizer]. Known: arithmetic, "),
    ("optimizer.rho", 0.1, "unknown key 'rho' in [optimizer] of name 'sgd'. 'rho' is a setting of [optimizer] of n"),
    ("optimizer.beta_1", 0.1, "'beta_1' is a setting of [optimizer] of name 'adam' or 'adamw'. Known: clip_norm, "),
    ("model.layers.1.unit", 3, "unknown key 'unit' in [model.layers.1] of type 'dense'. Did you mean 'units'?"),
    ("train.early_stopping.patient", 3, "unknown key 'patient' in [train.early_stopping]. Did you mean 'patience'?"),
    ("epochs", 3, "unknown section or key 'epochs' in the job file. 'epochs' is a setting of [train]. Known: b"),
    ("optimiser", {}, "unknown section or key 'optimiser' in the job file. Did you mean 'optimizer'? Known: backend"),
    ("qqq", {}, "unknown section or key 'qqq' in the job file. Known: backend, data, keras, loss, losses, model, "),
    # unknown kinds
    ("data.source", "digit", "unknown source of data 'digit' in [data]. Did you mean 'digits'? Known: cifar, csv, d"),
    ("model.layers.1.type", "dence", "unknown layer type 'dence' in [model.layers.1]. Did you mean 'dense'? Known: a"),
    ("loss.name", "rmse", "unknown loss 'rmse' in [loss]. Did you mean 'mse'? Known: binary_crossentropy, "),
    ("optimizer.name", "adma", "unknown optimizer 'adma' in [optimizer]. Did you mean 'adam'? Known: adagrad, adam, "),
    ("optimizer.name", 3, "unknown optimizer 3 in [optimizer]. Known: adagrad, "),
    ("schedule", {"name": "cosinus"}, "unknown schedule 'cosinus' in [schedule]. Did you mean 'cosine'? Known: const"),
    ("model.layers.0", {"type": "residual", "layers": [{"type": "x"}]}, "unknown layer type 'x' in [model.layers.0.l"),
    # unknown names
    ("model.layers.1.activation", "rellu", "model.layers.1.activation: unknown activation 'rellu'. Did you mean"),
    ("model.layers.1.kernel_initializer", "he", "model.layers.1.kernel_initializer: unknown kernel initializer 'he'."),
    ("train.metrics.0", "acuracy", "train.metrics.0: unknown metric 'acuracy'. Did you mean 'accuracy'? Known: accur"),
    ("train.dtype", "floot32", "train.dtype: unknown dtype 'floot32'. Did you mean 'float32'? Known: float32"),
    # missing
    ("data", {}, "missing key 'source' in [data]: which source of data? Known: cifar, csv, digits, "),
    ("optimizer", {"momentum": 0.9}, "missing key 'name' in [optimizer]: which optimizer? Known: adagrad, adam, "),
    ("model.layers.1", {"units": 3}, "missing key 'type' in [model.layers.1]: which layer type? Known: activation, "),
    ("model.layers.1", {"type": "dense"}, "missing key 'units' in [model.layers.1] of type 'dense': an integer >= 1. "
        "Example: units = 64"),
    ("data", {"source": "npy", "x_path": "x"}, "missing key 'y_path' in [data] of source 'npy': a string. E"),
    # types and ranges
    ("train.batch_size", 0, 'train.batch_size = 0: expected an integer >= 1, or "full"'),
    ("train.batch_size", "ful", 'train.batch_size = "ful": expected an integer >= 1, or "full"'),
    ("train.epochs", 2.0, "train.epochs = 2.0: expected an integer >= 1"),
    ("train.epochs", True, "train.epochs = true: expected an integer >= 1"),
    ("train.seed", 2**63, "train.seed = 9223372036854775808: expected an integer >= 0"),
    ("train.shuffle", 1, "train.shuffle = 1: expected true or false"),
    ("train.shards", 65537, 'train.shards = 65537: expected an integer >= 1 and <= 65536, or "auto"'),
    ("train.metrics", "accuracy", 'train.metrics = "accuracy": expected a list of "accuracy", "auc", '),
    ("train.metrics.0", 3, 'train.metrics.0 = 3: expected "accuracy", "auc", '),
    ("train", 3, "train = 3: expected a table"),
    ("train.early_stopping", True, "train.early_stopping = true: expected a table"),
    ("name", 5, "name = 5: expected a string"),
    ("optimizer.momentum", 1, "optimizer.momentum = 1: expected a number >= 0 and < 1"),
    ("optimizer.learning_rate", 0, "optimizer.learning_rate = 0: expected a number > 0"),
    ("optimizer.learning_rate", float("inf"), "optimizer.learning_rate = Infinity: expected a number > 0"),
    ("optimizer.learning_rate", float("nan"), "optimizer.learning_rate = NaN: expected a number > 0"),
    ("optimizer.learning_rate", True, "optimizer.learning_rate = true: expected a number > 0"),
    ("model.input_shape", [28, 0], "model.input_shape.1 = 0: expected an integer >= 1"),
    ("model.input_shape", 28, "model.input_shape = 28: expected a list of integers >= 1"),
    ("model.options", [1], "model.options = [1]: expected a table"),
    ("model.layers", {"type": "flatten"}, 'model.layers = {"type": "flatten"}: expected a list of tables'),
    ("model.layers.0", 3, "model.layers.0 = 3: expected a table"),
    ("model.layers.0", {"type": "reshape", "shape": []}, "model.layers.0.shape = []: expected a non-empty list of int"),
    ("data", {"source": "npz", "path": ""}, 'data.path = "": expected a non-empty string'),
    ("data", {"source": "csv", "path": "a", "targets": [1.5]}, "data.targets.0 = 1.5: expected a string, or an"),
    ("data", {"source": "synthetic", "kind": 1}, "missing key 'samples' in [data] of source 'synthetic'"),
    ("schedule", {"name": "step", "every": 1e-320}, "schedule.every = 1e-320: expected a number >= 1e-09"),
    ("schedule", {"name": "inverse_time", "rate": 0, "length": 1e-320}, "schedule.length = 1e-320: expected a"),
    ("loss.class_weights", "balancd", 'loss.class_weights = "balancd": expected "balanced" or "none", or a list of n'),
    ("loss.class_weights", ["a"], 'loss.class_weights.0 = "a": expected a number'),
]  # fmt: skip


def test_the_base_of_the_cases_is_valid() -> None:
    check(VALID, job_type())


@pytest.mark.parametrize(("path", "value", "message"), FAULTS)
def test_fault_is_named(path: str, value: object, message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        check(changed(path, value), job_type())


@pytest.mark.parametrize(
    ("section", "example"),
    [
        ("data", 'data]\nsource = "digits"'),
        ("loss", 'loss]\nname = "mse"'),
        ("model", 'model]\nlayers = [{ type = "dense", units = 64, activation = "relu" }]'),
    ],
)
def test_missing_section_comes_with_an_example(section: str, example: str) -> None:
    table = {key: value for key, value in VALID.items() if key != section}
    with pytest.raises(SettingError, match=re.escape(f"missing section [{section}]. Add it, for example:\n[{example}")):
        check(table, job_type())


def test_long_values_are_cut() -> None:
    with pytest.raises(SettingError) as caught:
        check(changed("train.epochs", "x" * 1000), job_type())
    assert len(str(caught.value)) < 120


def test_every_required_key_has_an_example() -> None:
    required = {row.key for row in all_settings() if row.default == "required"} - {"source", "type"}
    assert required <= EXAMPLES.keys()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "an integer"),
        (str, "a string"),
        (list[list[int]], "a list of lists of integers"),
        (list[bool], "a list of true or false"),
        (dict[str, int], "a table"),
        (str | None, "a string"),
        (list[str | int], "a list of strings or integers"),
        (bytes, "any value"),
    ],
)
def test_describe(kind: type, words: str) -> None:
    assert describe(kinds.type_info(kind)) == words


WORDS = ["x", "", "adam", "full", "val_loss", 'a "b" \\ c', "é 漢"]


def value_of(kind: kinds.Type, random: Random, depth: int = 0) -> Any:
    """Return some value that a type of the schema takes."""
    match kind:
        case kinds.IntType() | kinds.FloatType():
            low = next((bound for bound in (kind.ge, kind.gt) if bound is not None), -9)
            high = next((bound for bound in (kind.le, kind.lt) if bound is not None), low + 10**6)
            return random.randint(low, high) if isinstance(kind, kinds.IntType) else random.uniform(low, high)
        case kinds.StrType():
            fitting = [word for word in WORDS if (kind.min_length or 0) <= len(word) <= (kind.max_length or 99)]
            return random.choice(fitting)
        case kinds.BoolType():
            return random.random() < 0.5
        case kinds.LiteralType():
            return random.choice(kind.values)
        case kinds.ListType():
            inner = kind.item_type if depth < 5 or not tables(kind) else kinds.type_info(Flatten)
            length = random.randint(kind.min_length or 0, min(3, kind.max_length or 3))
            return [value_of(inner, random, depth + 1) for _ in range(length)]
        case kinds.DictType():
            if isinstance(kind.value_type, kinds.AnyType):
                return {"a": random.choice([1, 0.5, True, "x", [1, "x"], {"b": 1}])}
            return {name: value_of(kind.value_type, random, depth + 1) for name in ("a", "b")}
        case kinds.StructType():
            fields = [field for field in kind.fields if field.required or random.random() < 0.6]
            tag = {kind.tag_field: kind.tag} if kind.tag_field else {}
            return tag | {field.encode_name: value_of(field.type, random, depth + 1) for field in fields}
    return value_of(random.choice(members(kind)), random, depth)


def paths_in(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, entry in inner for found in [(*path, key), *paths_in(entry, (*path, key))]]


def random_table(seed: int) -> dict[str, Any]:
    table: dict[str, Any] = value_of(job_type(), Random(seed))
    return table if {"loss", "losses"} & table.keys() else {**table, "loss": {"name": "mse"}}


@settings(max_examples=200, deadline=None)
@given(st.integers(0))
def test_what_the_schema_allows_passes_and_survives_a_round_trip(seed: int) -> None:
    table = random_table(seed)
    check(table, job_type())
    job = msgspec.convert(table, Job)
    again = tomllib.loads(resolved_toml(job))
    check(again, job_type())
    assert msgspec.convert(again, Job) == job


@settings(max_examples=300, deadline=None)
@given(st.integers(0), st.data())
def test_what_msgspec_refuses_is_refused_in_our_words(seed: int, data: st.DataObject) -> None:
    table = random_table(seed)
    *parents, last = data.draw(st.sampled_from(paths_in(table)))
    node: Any = table
    for part in parents:
        node = node[part]
    node[last] = data.draw(st.sampled_from([0, -1, 3, 0.5, 1e400, "", "x", "adam", True, [], [1], ["x"], {}, {"x": 1}]))
    try:
        msgspec.convert(table, Job)
    except msgspec.ValidationError:
        with pytest.raises(SettingError):
            check(table, job_type())


def test_a_child_process_reads_jobs_whatever_other_threads_did_as_it_began() -> None:
    with conversion._preparing:  # another thread may hold it at that moment
        assert ends_in_a_child(lambda: conversion.convert(3, int))
    assert conversion.convert(3, int) == 3
