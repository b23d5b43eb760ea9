"""PyTorch optimizers that reduce gradients over all ranks: a subclass of the user's optimizer class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.reductions import Reduction
from hpcnn.errors import CommunicatorError
from hpcnn.torch.compression import Compression, TensorCompressor
from hpcnn.torch.reducer import Reducer


class Distributed:
    """The mixin for an optimizer class."""

    if TYPE_CHECKING:
        param_groups: list[dict[str, Any]]

    hpcnn_reduction: Reduction
    hpcnn_gradients: _Gradients | None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters with the gradients of all ranks."""
        inner = super().step  # type: ignore[misc]
        gradients = self.hpcnn_gradients
        if gradients is None or not gradients.synchronizes:
            return inner() if closure is None else inner(closure)
        if closure is None:
            self.synchronize()
            return inner()

        def synchronized() -> Any:
            loss = closure()
            self.synchronize()
            return loss

        return inner(synchronized)

    step.hooked = True  # type: ignore[attr-defined]  # PyTorch's profiler and its hooks are in the inner one

    def synchronize(self) -> None:
        """Give the parameters the gradients of all ranks, for a script that looks at them or clips them before `step`.

        `step` then belongs into ``with optimizer.skip_synchronize():``.
        """
        if self.hpcnn_gradients is not None:
            self.hpcnn_gradients.synchronize()

    @contextmanager
    def skip_synchronize(self) -> Iterator[None]:
        """Let `step` take gradients as they are, within the block: after `synchronize`."""
        gradients = self.hpcnn_gradients
        if gradients is not None:
            gradients.synchronizes = False
        try:
            yield
        finally:
            if gradients is not None:
                gradients.synchronizes = True

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove all gradients.

        Raises:
            CommunicatorError: their sum is under way.
        """
        if self.hpcnn_gradients is not None and self.hpcnn_gradients.reducer.begun:
            raise CommunicatorError(
                "optimizer.zero_grad() between backward() and step(): the other ranks wait for these gradients. "
                "Call it after step(), or before backward()."
            )
        super().zero_grad(set_to_none)  # type: ignore[misc]

    def set_backward_passes_per_step(self, passes: int) -> None:
        """Change the number of backward passes that are accumulated."""
        if self.hpcnn_gradients is not None:
            self.hpcnn_gradients.passes = passes


class _Gradients:
    """The gradients of an optimizer's parameters, put into a `Reducer` by hooks as backward passes compute them."""

    def __init__(
        self, parameters: Sequence[torch.nn.Parameter], reduction: Reduction, compression: TensorCompressor
    ) -> None:
        self._how, self.passes, self.synchronizes = reduction, reduction.passes, True
        self.reducer = Reducer(parameters, reduction.process_set.group, detail=(reduction.op,), compression=compression)
        self._counts = [0] * len(parameters)
        for number, parameter in enumerate(parameters):
            parameter.register_post_accumulate_grad_hook(self._hook(number))  # type: ignore[no-untyped-call]

    def _hook(self, number: int) -> Callable[[torch.Tensor], None]:
        def computed(parameter: torch.Tensor) -> None:
            self._counts[number] += 1
            if self._counts[number] < self.passes:
                return
            if self._counts[number] > self.passes:
                raise CommunicatorError(
                    f"{self._counts[number]} backward passes before optimizer.step(), and backward_passes_per_step="
                    f"{self.passes}: give DistributedOptimizer the number of passes that are accumulated"
                )
            self._begin()
            self.reducer.put(number)

        return computed

    def _begin(self) -> None:
        if not self.reducer.begun:
            self.reducer.begin(1.0 / self._how.predivide)

    def synchronize(self) -> None:
        """Finish the sum; parameters that no backward pass has reached count with the gradient that they have."""
        self._begin()
        divisor = self._how.process_set.size() if self._how.op is ReduceOp.AVERAGE else 1
        self.reducer.finish(lambda weights: self._how.predivide / divisor)
        self._counts = [0] * len(self._counts)


def DistributedOptimizer(  # noqa: N802  # a class to those who call it
    optimizer: torch.optim.Optimizer,
    named_parameters: Any = None,
    compression: TensorCompressor = Compression.none,
    backward_passes_per_step: int = 1,
    op: ReduceOp = ReduceOp.AVERAGE,
    gradient_predivide_factor: float = 1.0,
    num_groups: int = 0,
    groups: Any = None,
    sparse_as_dense: bool = False,
    process_set: ProcessSet = global_process_set,
) -> Any:
    """Return an optimizer that averages gradients over all ranks before it uses them.

    Args:
        optimizer: of PyTorch; the new one shares its settings and its state.
        named_parameters: ``model.named_parameters()``, to be checked; it may be left out.
        compression: the type that sums of gradients are rounded to, with error feedback, to be sent between hosts.
        backward_passes_per_step: the number of backward passes that a rank accumulates per exchange and update.
        op: Average or Sum.
        gradient_predivide_factor: divides gradients before the sum, and multiplies them after it.
        num_groups: has no effect: there is one message per type.
        groups: has no effect.
        sparse_as_dense: has no effect: sparse gradients are always made dense.
        process_set: the ranks that train together.

    Raises:
        CommunicatorError: the settings contradict each other, or it is not an optimizer.
    """
    if isinstance(optimizer, Distributed):
        raise CommunicatorError("this optimizer is distributed already: wrap it once")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise CommunicatorError(
            f"DistributedOptimizer() takes an optimizer of PyTorch, as torch.optim.Adam(...), not {optimizer!r}"
        )
    reduction = Reduction(op, compression, process_set, gradient_predivide_factor, backward_passes_per_step).check()
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if named_parameters is not None:
        _check_names(list(named_parameters), own)
    kind = type(optimizer)
    result: Any = object.__new__(type(kind.__name__, (Distributed, kind), {"__module__": kind.__module__}))
    vars(result).update(vars(optimizer))
    vars(result).pop("step", None)  # a scheduler has put it there, which calls that of the optimizer without the sums
    trained = [parameter for parameter in own if parameter.requires_grad]
    alone = process_set.size() == 1 and compression.name is None
    result.hpcnn_reduction = reduction
    result.hpcnn_gradients = None if alone or not trained else _Gradients(trained, reduction, compression)
    return result


def _check_names(named: list[Any], parameters: Sequence[torch.Tensor]) -> None:
    """Check the names of an optimizer's parameters.

    Raises:
        CommunicatorError: they are not names, not unique, or not those of all parameters.
    """
    if not all(isinstance(each, tuple) and len(each) == 2 for each in named):
        raise CommunicatorError("named_parameters must be pairs of name and parameter: model.named_parameters()")
    names = [name for name, _ in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CommunicatorError(f"named_parameters has {', '.join(twice)} more than once: names must be unique")
    known = {id(parameter) for _, parameter in named}
    if missing := sum(id(parameter) not in known for parameter in parameters):
        raise CommunicatorError(
            f"named_parameters lacks {missing} of the {len(parameters)} parameters of the optimizer: give those of "
            "every model that it trains, or leave named_parameters out"
        )
