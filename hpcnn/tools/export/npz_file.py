"""A trained model as a NumPy archive: arrays by name, and the job as text. Needs nothing but NumPy to be read."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np

from hpcnn import __version__
from hpcnn.runs.inference import TrainedModel
from hpcnn.tools.outputs import writing

METADATA = "hpcnn.json"
"""Name of the text. Names of parameters hold a slash, or are those of layers."""


def write_npz(trained: TrainedModel, path: Path) -> None:
    """Write the parameters under their names, the scaling as ``scaling/shift`` and ``scaling/scale``, and metadata."""
    scaling = trained.scaling.to_dict() if trained.scaling else {}
    metadata = {
        "hpcnn": __version__,
        "weights_sha256": trained.weights_sha256,
        "input_shape": list(trained.spec.network.input_shape),
        "output_shape": list(trained.spec.network.output_shape),
        "job": msgspec.to_builtins(trained.job),
    }
    arrays = {
        **trained.model.weights(),
        **{f"scaling/{name}": value for name, value in scaling.items()},
        METADATA: np.array(json.dumps(metadata)),
    }
    with writing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
