"""Small networks of every name, with every option."""

from __future__ import annotations

import numpy as np

from hpcnn.job import model as schema
from hpcnn.job.models import OPTIONS

SMALL = {
    "resnet": ({"depth": 8, "filters": 2, "classes": 3, "l2": 0.001}, (8, 8, 1)),
    "resnet_by_shard": ({"depth": 14, "filters": 2, "classes": 3, "statistics": "shard"}, (4, 4, 1)),
    "unet": ({"filters": 2, "levels": 2, "classes": 3}, (8, 8, 1)),
    "unet_plain": ({"filters": 2, "levels": 1, "classes": 1, "batch_normalization": False}, (4, 4, 2)),
    "vgg": ({"depth": 11, "filters": 1, "units": 4, "classes": 3}, (32, 32, 1)),
    "vgg_normalized": (
        {"depth": 13, "filters": 1, "units": 4, "classes": 3, "dropout": 0.0, "batch_normalization": True},
        (32, 32, 1),
    ),
    "mobilenet": ({"filters": 1, "classes": 3, "strides": 1}, (16, 16, 1)),
    "transformer": ({"layers": 1, "width": 4, "heads": 2, "hidden": 5, "vocabulary": 7, "classes": 3}, (5,)),
    "transformer_decoder": (
        {"kind": "decoder", "layers": 2, "width": 4, "heads": 1, "hidden": 5, "vocabulary": 7, "dropout": 0.1},
        (5,),
    ),
    "transformer_vision": (
        {"kind": "vision", "layers": 1, "width": 4, "heads": 2, "hidden": 5, "patch": 2, "classes": 3},
        (6, 4, 2),
    ),
    "lstm_stack": ({"units": 3, "layers": 2, "outputs": 2}, (6, 2)),
    "lstm_stack_both_ways": (
        {"units": 2, "layers": 1, "outputs": 3, "activation": "softmax", "bidirectional": True, "dropout": 0.1},
        (6, 2),
    ),
    "tcn": ({"filters": 3, "levels": 2, "outputs": 2}, (9, 2)),
    "tcn_of_each_step": (
        {"filters": 3, "levels": 3, "kernel_size": 2, "outputs": 2, "pooling": "none", "dropout": 0.1},
        (9, 2),
    ),
    "fno": ({"modes": 3, "width": 4, "layers": 2, "hidden": 5, "outputs": 2}, (8, 1)),
}
"""Options and the shape of a sample; a name may have something behind that of its model."""


def name_of(case):
    return next(name for name in OPTIONS if case.startswith(name))


def section(case):
    options, _ = SMALL[case]
    return schema.Model(name=name_of(case), options=options)


def batch_of(case, network, n=9):
    rng = np.random.default_rng(1)
    _, shape = SMALL[case]
    ids = name_of(case) == "transformer" and len(shape) == 1
    x = rng.integers(0, 7, (n, *shape)).astype(float) if ids else rng.normal(size=(n, *shape))
    if network.head == "softmax":
        return x, rng.integers(0, network.output_shape[-1], (n, *network.output_shape[:-1]))
    return x, rng.random((n, *network.output_shape)).round()
