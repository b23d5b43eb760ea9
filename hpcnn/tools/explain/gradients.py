"""Gradients of one output with respect to the inputs, and the attributions made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.backends.numpy.arithmetics import eager
from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import DataError, ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.network import Network
from hpcnn.runs.inference import TrainedModel

Array = NDArray[np.float64]
HEAD = ("explanation", "head")
"""Owner of the scratch memory of the head; no layer can have this name."""


class InputGradient:
    """Computes outputs of hpcnn's layers and their gradients in float64, whatever the type in training."""

    def __init__(self, network: Network, weights: dict[str, NDArray[Any]], arithmetic: str = "numpy") -> None:
        vector, gradient = np.empty(network.layout.size), np.empty(network.layout.trainable_size)
        network.layout.load_state_dict(vector, weights)
        self._network, self._context = network, Context(arithmetic=eager(arithmetic))
        self._params, self._grads = network.layout.views(vector), network.layout.gradient_views(gradient)

    @np.errstate(all="ignore")  # values that are not finite are visible in the result
    def __call__(self, x: Array, target: int, *, scores: bool = False) -> tuple[Array, Array]:
        """Return the outputs (n, classes) for `x` (n, *input_shape), and the gradient (n, *input_shape) of one of them.

        `target` is the index of that output. With `scores`, outputs are the inputs of the head (for example softmax).
        """
        context = self._context
        context.begin(training=False)
        y, backward = self._network.forward(self._params, np.ascontiguousarray(x, np.float64), context)
        outputs, head_backward = context.arithmetic.activation(
            context, HEAD, "linear" if scores else self._network.head, y
        )
        outputs = outputs.copy()
        dy = np.zeros_like(outputs)
        dy[..., target] = 1
        dx = backward(head_backward(dy), self._grads, need_dx=True)
        assert dx is not None
        return outputs, dx.copy()


def input_gradient(trained: TrainedModel) -> InputGradient:
    """Return a function for the gradients of a trained model."""
    network = trained.spec.network
    if network.outputs:
        raise ModelError(
            f"this method explains the model's only output, but it has "
            f"{', '.join(one.name for one in network.outputs)}. Use --method permutation."
        )
    if len(network.output_shape) != 1:
        raise ModelError(
            f"this method explains one number of a row of outputs, but the model's outputs have shape "
            f"{network.output_shape} a sample. Use --method permutation."
        )
    if not isinstance(network, Network) or not isinstance(trained.model, NumpyModel):
        entry, library = trained.job.model.entry, "PyTorch" if trained.job.backend == "torch" else "Keras"
        remedy = "If it returns an hpcnn.nn.Network, add --backend numpy; else" if entry else "Leave out --backend, or"
        raise ModelError(
            f"this method needs the gradients of hpcnn's own layers, but {library} computes "
            f"{f'what the function {entry!r} builds' if entry else 'the model'}. {remedy} use --method permutation, "
            "which works with any model."
        )
    return InputGradient(network, trained.model.weights(), trained.job.train.arithmetic)


@dataclass(frozen=True)
class Attribution:
    """The contribution of each input of one sample to one output."""

    target: int
    output: float
    """The output, as in `hpcnn predict`."""
    baseline_output: float
    """The same output for the baseline; NaN where the method has none."""
    values: Array
    """One for each input, of the input's shape."""

    @property
    def gap(self) -> float:
        """Difference of ``output - baseline_output`` and the sum of the values: 0 for infinitely many steps."""
        return float(self.output - self.baseline_output - self.values.sum())


Explain = Callable[[Array, int], Attribution]
"""``(sample, target) -> attribution``."""


def chosen_target(gradient: InputGradient, x: Array, target: int | None) -> int:
    """Return the output to explain for one sample `x`: `target`, else that of the predicted class."""
    return int(np.argmax(gradient(x[None], 0)[0])) if target is None else target


def saliency(gradient: InputGradient, x: Array, target: int) -> Attribution:
    """Return the absolute gradient of the score of class `target` (Simonyan, Vedaldi and Zisserman, 2013).

    The score is the input of the softmax: the gradient of its output vanishes where the model is certain.
    """
    output = gradient(x[None], target)[0][0, target]
    values = np.abs(gradient(x[None], target, scores=True)[1][0])
    return Attribution(target, float(output), float("nan"), values)


def integrated_gradients(gradient: InputGradient, x: Array, target: int, steps: int) -> Attribution:
    """Return integrated gradients of output `target` along the line from 0 to `x` (Sundararajan et al., 2017).

    arXiv:1703.01365, by the midpoint rule: the values add up to the change of the output from 0 to x, up to the error
    of the rule. 0 refers to the inputs of the network, after scaling.
    """
    midpoints = (np.arange(steps) + 0.5) / steps
    gradients = gradient(midpoints.reshape(-1, *[1] * x.ndim) * x, target)[1]
    ends = gradient(np.stack([np.zeros_like(x), x]), target)[0][:, target]
    return Attribution(target, float(ends[1]), float(ends[0]), x * gradients.mean(axis=0))


def attribute(
    comm: Communicator, gradient: InputGradient, x: Array, target: int | None, explain: Explain
) -> list[Attribution]:
    """Return an attribution for each sample of `x`, in order, on rank 0; nothing elsewhere. Collective.

    Each sample is computed alone, so that its bits do not depend on other samples. Rank r computes every P-th sample
    from r on. `target` is the output to explain; None: each sample's predicted class.
    """
    own = []
    for sample in x[comm.rank :: comm.size]:
        found = explain(sample, chosen_target(gradient, sample, target))
        own.append(np.concatenate([[found.target, found.output, found.baseline_output], found.values.reshape(-1)]))
    size = 3 + int(np.prod(x.shape[1:]))
    parts = comm.gather_arrays(np.stack(own) if own else np.empty((0, size)))
    if parts is None:
        return []
    table = np.empty((len(x), size))
    for rank, part in enumerate(parts):
        table[rank :: comm.size] = part
    return [Attribution(int(row[0]), float(row[1]), float(row[2]), row[3:].reshape(x.shape[1:])) for row in table]


def check_target(target: int | None, outputs: int) -> None:
    """Check that the model has this output."""
    if target is not None and not 0 <= target < outputs:
        raise DataError(f"--target {target}: the model's outputs are 0 to {outputs - 1}")
