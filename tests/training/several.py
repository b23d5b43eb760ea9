"""A small network with two inputs and two outputs, its job, and samples."""

from __future__ import annotations

import numpy as np

from tests.small_jobs import make_job

INPUTS = {"image": [4, 4, 1], "meta": [3]}
LAYERS = [
    {"type": "conv2d", "name": "c", "filters": 2, "kernel_size": 3, "activation": "relu", "inputs": ["image"]},
    {"type": "flatten", "name": "f"},
    {"type": "dense", "name": "m", "units": 4, "activation": "tanh", "inputs": ["meta"]},
    {"type": "concatenate", "name": "joined", "inputs": ["f", "m"]},
    {"type": "dense", "name": "digit", "units": 3, "activation": "softmax"},
    {"type": "dense", "name": "place", "units": 2, "inputs": ["joined"]},
    {"type": "dense", "name": "odd", "units": 1, "activation": "sigmoid", "inputs": ["joined"]},
]
LOSSES = {
    "digit": {"name": "sparse_categorical_crossentropy", "metrics": ["accuracy", "f1"]},
    "place": {"name": "huber", "delta": 0.5, "weight": 0.3, "metrics": ["mae", "r2"]},
    "odd": {"name": "binary_crossentropy", "weight": 2.5, "metrics": ["binary_accuracy"]},
}
WIDTH = 19


def job_of_several(**changes):
    """Return the job, with changes as those of `make_job`."""
    sections = {
        "data": {"source": "npz", "path": "none.npz"},
        "model": {"layers": LAYERS, "inputs": INPUTS, "outputs": list(LOSSES)},
        "losses": LOSSES,
        "train": {"metrics": []},
    }
    for section, values in changes.items():
        sections[section] = {**sections.get(section, {}), **values}
    return make_job(loss={"name": None}, **sections)


def samples(n, seed=1, dtype=np.float64):
    """Return rows of inputs and of targets."""
    rng = np.random.default_rng(seed)
    labels, place, odd = rng.integers(0, 3, (n, 1)), rng.normal(size=(n, 2)), rng.integers(0, 2, (n, 1))
    return rng.normal(size=(n, WIDTH)).astype(dtype), np.concatenate([labels, place, odd], axis=1).astype(dtype)
