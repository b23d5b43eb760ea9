"""hpcnn: train neural networks data-parallel on MPI clusters, with the same bits on any number of ranks."""

from __future__ import annotations


def _begin() -> None:
    from hpcnn.system.search_path import leave_out_working_folder, started_as_module

    if started_as_module(__name__):
        leave_out_working_folder(of_module=True)


_begin()  # before anything is imported that might lie in the working folder

TYPE_CHECKING = False  # that of `typing`, without its import
if TYPE_CHECKING:
    from typing import Any

    from hpcnn import nn
    from hpcnn.api.fit import TrainingStoppedError, fit
    from hpcnn.api.fitted import Fitted, load
    from hpcnn.api.loop import Trainer
    from hpcnn.api.ranks import connect
    from hpcnn.data.readers.digits import load_digits
    from hpcnn.errors import HpcnnError
    from hpcnn.training.callbacks import Callback, Control, EpochReport, StepReport
    from hpcnn.training.replica import Replica

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("Callback", "Control", "EpochReport", "StepReport"), "hpcnn.training.callbacks"),
    **dict.fromkeys(("Fitted", "load"), "hpcnn.api.fitted"),
    **dict.fromkeys(("TrainingStoppedError", "fit"), "hpcnn.api.fit"),
    "HpcnnError": "hpcnn.errors",
    "Replica": "hpcnn.training.replica",
    "Trainer": "hpcnn.api.loop",
    "connect": "hpcnn.api.ranks",
    "keras": "hpcnn.keras",
    "load_digits": "hpcnn.data.readers.digits",
    "nn": "hpcnn.nn",
    "sklearn": "hpcnn.sklearn",
}
"""Where each name is from. Nothing is imported before it is asked for: commands pay for what they use alone."""

__all__ = [
    "Callback",
    "Control",
    "EpochReport",
    "Fitted",
    "HpcnnError",
    "Replica",
    "StepReport",
    "Trainer",
    "TrainingStoppedError",
    "__version__",
    "connect",
    "fit",
    "load",
    "load_digits",
    "nn",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hpcnn' has no attribute {name!r}")
    import importlib

    module = importlib.import_module(_HOMES[name])
    value = globals()[name] = module if module.__name__ == f"hpcnn.{name}" else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
