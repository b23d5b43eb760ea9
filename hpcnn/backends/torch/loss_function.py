"""The loss that a user's function computes, checked whenever it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpcnn.errors import ModelError, in_words
from hpcnn.models.entry import find_entry


def loss_function(entry: str, name: str) -> Callable[[Any, Any], Any]:
    """Return the function of that name in the Python module of ``model.entry``: outputs and targets to losses (n,).

    Raises:
        JobError: there is none.
    """
    import torch

    place = f"{entry.partition(':')[0]}:{name}"
    function, source = find_entry(place, "loss.function"), f"loss.function {place!r}"

    def losses(outputs: Any, targets: Any) -> Any:
        try:
            found = function(outputs, targets)
        except (Exception, SystemExit) as error:
            raise ModelError(f"{source} failed with {in_words(error)}") from error
        if not isinstance(found, torch.Tensor):
            raise ModelError(f"{source} must return a tensor, but returned {type(found).__name__}")
        if found.shape != outputs.shape[:1] or found.dtype != outputs.dtype:
            kind = str(found.dtype).removeprefix("torch.")
            raise ModelError(
                f"{source} must return the loss of each sample, {str(outputs.dtype).removeprefix('torch.')} of shape "
                f"{tuple(outputs.shape[:1])}, but returned {kind} of shape {tuple(found.shape)}. Average over all axes "
                "but the first, as by .flatten(1).mean(1)."
            )
        return found

    return losses
