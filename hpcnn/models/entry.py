"""The model that a function of the user builds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hpcnn.errors import HpcnnError, JobError, ModelError, in_words, nearest
from hpcnn.job import model as schema
from hpcnn.nn.draws import INIT_STREAM
from hpcnn.nn.layer import Shape
from hpcnn.nn.network import Network, same_sample_shape
from hpcnn.system.search_path import add_working_folder

_OF_LIBRARIES = {
    "keras": ': a model of Keras, which needs backend = "keras"',
    "torch": ': a module of PyTorch, which needs backend = "torch"',
}
"""What to say of a model, by the package of its class."""


def call_entry(model: schema.Model, input_shape: Shape) -> Any:
    """Return what the user's function returns for samples of `input_shape`.

    Raises:
        JobError: there is no such function.
        ModelError: it fails.
    """
    if "input_shape" in model.options:
        raise JobError("model.options can't hold 'input_shape': set model.input_shape, or leave it to the data")
    function = find_entry(model.entry)
    try:
        return function(input_shape=input_shape, **model.options)
    except HpcnnError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"model.entry {model.entry!r} failed with {in_words(error)}") from error


def seed_of_libraries(seed: int) -> int:
    """Return the seed by which another library draws the first weights of a user's model, given that of the job."""
    return int(np.random.SeedSequence([seed, INIT_STREAM]).generate_state(1)[0])


def entry_network(model: schema.Model, input_shape: Shape) -> Network:
    """Return the network that the user's function returns for samples of `input_shape`.

    Raises:
        JobError: there is no such function.
        ModelError: it fails, or returns something else.
    """
    network = call_entry(model, input_shape)
    if not isinstance(network, Network):
        rooms = {base.__module__.partition(".")[0] for base in type(network).__mro__}
        hint = next((hint for room, hint in _OF_LIBRARIES.items() if room in rooms), "")
        raise ModelError(
            f"model.entry {model.entry!r} must return an hpcnn.nn.Network, but returned {type(network).__name__}{hint}"
        )
    if not same_sample_shape(network.input_shape, input_shape):
        raise ModelError(
            f"model.entry {model.entry!r} returned a network for samples of shape {network.input_shape}, but was asked "
            f"for {input_shape}"
        )
    return network


def find_entry(entry: str, key: str = "model.entry") -> Callable[..., Any]:
    """Return the function that a setting of the job, `key`, names.

    Raises:
        JobError: there is none.
        ModelError: its module can't be imported.
    """
    module_name, colon, function_name = entry.partition(":")
    if not (module_name and colon and function_name):
        raise JobError(f"{key} must look like 'package.module:function', but is {entry!r}")
    add_working_folder()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ModelError(f"{key} {entry!r}: its module can't be imported: {error}") from error
        raise JobError(
            f"{key} {entry!r}: there is no module {error.name!r}.{nearest(error.name, _siblings(error.name))} "
            "It must be installed, or lie in the working folder or in one of PYTHONPATH."
        ) from None
    except (Exception, SystemExit) as error:
        raise ModelError(f"{key} {entry!r}: importing its module failed with {in_words(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")]
        what = "has no function" if function is None else "holds no function, but something else, under"
        raise JobError(
            f"{key} {entry!r}: module {module_name!r} {what} {function_name!r}.{nearest(function_name, known)}"
            f"{_overlooked(module)}"
        )
    return function  # type: ignore[no-any-return]


def _overlooked(module: ModuleType) -> str:
    """Return a hint where a file of the working folder has the name of a module that is found before it."""
    name, found = module.__name__.partition(".")[0], Path(getattr(module, "__file__", None) or "built in")
    files = [path for path in (Path(f"{name}.py"), Path(name)) if path.exists()]
    if not files or Path.cwd() in found.parents:
        return ""
    return f" {str(files[0])!r} in the working folder is not it, but {str(found)!r}, found first: rename yours."


def _siblings(module_name: str) -> list[str]:
    package, dot, _ = module_name.rpartition(".")
    path = getattr(importlib.import_module(package), "__path__", []) if package else None
    return [f"{package}{dot}{module.name}" for module in pkgutil.iter_modules(path)]
