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
    """Write the parameters under their names, scaling as ``scaling/shift`` and ``scaling/scale``, and metadata.

    That of targets is ``target_scaling/shift`` and ``target_scaling/scale``.
    """
    scalings = {"scaling": trained.scaling, "target_scaling": trained.target_scaling}
    metadata = {
        "hpcnn": __version__,
        "weights_sha256": trained.weights_sha256,
        "input_shape": list(trained.spec.network.input_shape),
        "output_shape": list(trained.spec.network.output_shape),
        "job": msgspec.to_builtins(trained.job),
    }
    arrays = {
        **trained.model.weights(),
        **{f"{part}/{name}": value for part, one in scalings.items() if one for name, value in one.to_dict().items()},
        METADATA: np.array(json.dumps(metadata)),
    }
    with writing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
