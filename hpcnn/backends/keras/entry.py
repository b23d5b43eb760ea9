"""The Keras model that a user's function builds: called with everything fixed, and checked before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.job.schema import Job
from hpcnn.models.entry import call_entry, seed_of_libraries
from hpcnn.nn.build import sample_shape
from hpcnn.nn.layer import Shape
from hpcnn.nn.network import Network, same_sample_shape
from hpcnn.nn.params import Initializer, ParamSpec


def build_entry(job: Job, input_shape: Shape) -> Any:
    """Return what the function ``model.entry`` returns: a checked `keras.Model`, or an `hpcnn.nn.Network`.

    Keras's own settings are reset for it: the names of layers, the type of numbers and the seed are those of the job.

    Raises:
        JobError: there is no such function.
        ModelError: it fails, or returns something that can't be trained.
    """
    import keras

    shape = sample_shape(job.model, input_shape)
    keras.utils.clear_session(free_memory=False)
    keras.config.set_floatx(job.train.dtype)
    keras.utils.set_random_seed(seed_of_libraries(job.train.seed))
    model = call_entry(job.model, shape)
    name = f"model.entry {job.model.entry!r}"
    if isinstance(model, Network):
        return model
    if not isinstance(model, keras.Model):
        raise ModelError(f"{name} must return a keras.Model, but returned {type(model).__name__}")
    if not (model.built and model.variables):
        raise ModelError(
            f"{name} returned a model that is not built, so that its weights do not exist yet: begin it with "
            "keras.Input(input_shape), or call it once, on keras.ops.zeros((1, *input_shape))"
        )
    _check_input(name, model, shape)
    _check_variables(name, model, job.train.dtype)
    return model


def _check_input(name: str, model: Any, shape: Shape) -> None:
    inputs = getattr(model, "inputs", None)
    if inputs is None:  # a subclass need not say what it takes
        return
    if len(inputs) != 1:
        raise ModelError(f"{name} returned a model of {len(inputs)} inputs, but a sample is one array")
    own = tuple(inputs[0].shape[1:])
    if None in own or not same_sample_shape(own, shape):
        raise ModelError(f"{name} returned a model for samples of shape {own}, but was asked for {shape}")


def _check_variables(name: str, model: Any, dtype: str) -> None:
    for variable in _parameters(model):
        if variable.dtype != dtype:
            raise ModelError(
                f"{name}: the variable {variable.path!r} is {variable.dtype}, but train.dtype is {dtype}. Leave the "
                "dtype of the layers to Keras, which takes it from the job, or change train.dtype."
            )
        if getattr(variable, "constraint", None) is not None:
            raise ModelError(
                f"{name}: the variable {variable.path!r} has a constraint, which hpcnn's optimizers do not know. "
                "Remove it."
            )
        _penalties(name, variable)


def _penalties(name: str, variable: Any) -> tuple[float, float]:
    """Return the rates of the L1 and the L2 penalty of a variable.

    Raises:
        ModelError: its regularizer is another.
    """
    import keras

    regularizer = getattr(variable, "regularizer", None)
    if regularizer is None:
        return 0.0, 0.0
    if type(regularizer) not in (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2):
        raise ModelError(
            f"{name}: the variable {variable.path!r} has the regularizer {type(regularizer).__name__}. Known: L1, L2, "
            "L1L2."
        )
    return float(getattr(regularizer, "l1", 0.0)), float(getattr(regularizer, "l2", 0.0))


def is_seed(variable: Any) -> bool:
    """Return whether a variable is the state of a random generator of Keras."""
    return str(variable.name) == "seed_generator_state"


def _parameters(model: Any) -> Iterator[Any]:
    """Yield the variables that a checkpoint keeps: all floating-point ones."""
    for variable in model.variables:
        if not is_seed(variable) and "float" in variable.dtype:
            yield variable


def specs_of(name: str, model: Any) -> list[tuple[Any, ParamSpec]]:
    """Return each variable of a checked model that is to be a parameter, with what the layout says of it."""
    trainable = {id(variable) for variable in model.trainable_variables}
    specs = []
    for variable in _parameters(model):
        l1, l2 = _penalties(name, variable)
        spec = ParamSpec(variable.path, tuple(variable.shape), _start_of(variable), id(variable) in trainable, l1, l2)
        specs.append((variable, spec))
    return specs


def _start_of(variable: Any) -> Initializer:
    """Return what gives a parameter the value that Keras gave the variable."""
    return lambda shape, generator: np.asarray(variable)
