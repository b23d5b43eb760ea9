"""Call NumPy functions on tensors of Keras's backend, eagerly or within graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.comm.tensors.compression import numpy_type
from hpcnn.comm.tensors.world import remember
from hpcnn.errors import CommunicatorError, HpcnnError, MissingExtraError

NumpyFunction = Callable[[Sequence[Array]], Sequence[Array]]
Shape = tuple[int | None, ...]


def backend() -> str:
    """Return the name of Keras's backend.

    Raises:
        MissingExtraError: Keras is not installed.
        CommunicatorError: it is older than Keras 3.
    """
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name not in ("keras", "tensorflow", "torch", "jax"):
            raise
        raise MissingExtraError(error.name, "keras", "hpcnn.keras") from None
    if int(keras.__version__.split(".")[0]) < 3:
        raise CommunicatorError(f"hpcnn.keras needs Keras 3, and this is {keras.__version__}: pip install 'keras>=3'")
    return str(keras.backend.backend())


def call_numpy(
    function: NumpyFunction, tensors: Sequence[Any], outputs: Sequence[tuple[Shape | None, np.dtype[Any]]]
) -> list[Any]:
    """Return ``function`` of the tensors' values, as tensors.

    Called while a graph is traced, it becomes part of the graph.

    Args:
        function: takes and returns arrays.
        tensors: of the backend, or anything that it converts to tensors.
        outputs: shape and type of each array that `function` returns; None for unknown sizes.
    """

    def remembering(arrays: Sequence[Array]) -> Sequence[Array]:
        try:
            return function(arrays)
        except HpcnnError as error:
            remember(error)
            raise

    return _RUNNERS[backend()](remembering, tensors, outputs)


def type_of(tensor: Any) -> np.dtype[Any]:
    """Return the NumPy type of a tensor."""
    import keras

    if isinstance(tensor, np.ndarray):
        return np.dtype(tensor.dtype)
    return numpy_type(keras.backend.standardize_dtype(tensor.dtype))


def _in_tensorflow(function: NumpyFunction, tensors: Sequence[Any], outputs: Sequence[tuple[Any, Any]]) -> list[Any]:
    import tensorflow as tf

    if tf.executing_eagerly():
        return [tf.convert_to_tensor(array) for array in function([np.asarray(tensor) for tensor in tensors])]
    types = [tf.as_dtype(dtype) for _, dtype in outputs]
    results = tf.numpy_function(lambda *arrays: list(function(arrays)), list(tensors), types)
    for result, (shape, _) in zip(results, outputs, strict=True):
        result.set_shape(shape)
    return list(results)


def _in_jax(function: NumpyFunction, tensors: Sequence[Any], outputs: Sequence[tuple[Any, Any]]) -> list[Any]:
    import jax
    from jax.experimental import io_callback

    if not any(isinstance(tensor, jax.core.Tracer) for tensor in tensors):
        return _eagerly(function, tensors, outputs)
    if any(shape is None or None in shape for shape, _ in outputs):
        raise CommunicatorError(
            "jax must know the shape of a result beforehand, and that of this call is unknown. "
            "Make the call outside of jit."
        )
    specs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in outputs]
    return list(
        io_callback(lambda *arrays: list(function([np.asarray(a) for a in arrays])), specs, *tensors, ordered=True)
    )


def _eagerly(function: NumpyFunction, tensors: Sequence[Any], outputs: Sequence[tuple[Any, Any]]) -> list[Any]:
    import keras

    arrays = [np.asarray(keras.ops.convert_to_numpy(tensor)) for tensor in tensors]
    return [keras.ops.convert_to_tensor(array) for array in function(arrays)]


_RUNNERS = {"tensorflow": _in_tensorflow, "jax": _in_jax, "torch": _eagerly}
