"""Shared by the tests of `hpcnn.fit`: a small problem, and a job for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import hpcnn

DRAW = np.random.default_rng(0)
X = DRAW.normal(3, 2, size=(60, 4))
Y = (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > 4)
HELD = X[:20], Y[:20]
JOB: dict[str, Any] = {
    "data": {"scale": "standardize"},
    "model": {
        "layers": (
            {"type": "dense", "units": np.int64(8), "activation": "relu"},
            {"type": "dense", "units": 3, "activation": "softmax"},
        )
    },
    "loss": {"name": "sparse_categorical_crossentropy"},
    "train": {"epochs": 3, "batch_size": 16, "shards": 4, "metrics": ["accuracy"], "early_stopping": None},
    "run": {"display": "quiet"},
}


def fit(folder: Path, data: Any = (X, Y), job: Any = JOB, **options: Any) -> hpcnn.Fitted:
    return hpcnn.fit(job, data, **{"validation": HELD, "out": folder / "run", **options})
