"""The promise that all else rests on: any number of ranks trains to the same bits."""

import numpy as np
import pytest

from hpcnn.errors import CommunicatorError
from hpcnn.runs.build import build_training
from tests.small_jobs import LAYERS, SETTINGS, make_job, train

ADAM = {"name": "adam", "learning_rate": 0.01}
CLASSES = {"name": "sparse_categorical_crossentropy", "label_smoothing": 0.1}
EARLY = {"monitor": "val_loss", "patience": 1, "min_delta": 0.001}
PLATEAU = {"monitor": "val_accuracy", "patience": 1, "factor": 0.5}
NUMBERS = {"source": "synthetic", "kind": "linear", "samples": 29, "features": 4}
ONE = [{"type": "dense", "units": 6, "activation": "gelu"}, {"type": "dense", "units": 1}]
YES = [{"type": "dense", "units": 6, "activation": "relu"}, {"type": "dense", "units": 1, "activation": "sigmoid"}]
FROZEN = [{"type": "dense", "units": 7, "trainable": False, "kernel_l2": 1.0}, *LAYERS[1:]]

IMAGES = [
    {"type": "reshape", "shape": [6, 6, 1]}, {"type": "zero_padding", "padding": [[1, 0], [0, 1]]},
    {"type": "dense", "units": 4}, {"type": "max_pooling", "strides": 1}, {"type": "prelu", "shared_axes": [1, 2]},
    {"type": "average_pooling", "pool_size": [2, 3], "padding": "same"}, {"type": "prelu", "shared_axes": [2]},
    {"type": "up_sampling", "interpolation": "bilinear"}, {"type": "cropping"}, {"type": "permute", "dims": [2, 1, 3]},
    {"type": "spatial_dropout", "rate": 0.3}, {"type": "gaussian_noise", "stddev": 0.1}, {"type": "leaky_relu"},
    {"type": "global_average_pooling"}, {"type": "repeat_vector", "n": 2}, {"type": "global_max_pooling"},
    {"type": "dense", "units": 3, "activation": "softmax"},
]  # fmt: skip

VARIANTS = {
    "everything": {},
    "12 shards": {"train": {"shards": 12}},
    "7 shards": {"train": {"shards": 7}},
    "float64": {"train": {"dtype": "float64"}},
    "adam, clipped by norm": {"optimizer": ADAM | {"clip_norm": 0.5}},
    "adamw, clipped by value": {"optimizer": {"name": "adamw", "clip_value": 0.1}},
    "rmsprop": {"optimizer": {"name": "rmsprop", "momentum": 0.5, "centered": True}},
    "adagrad": {"optimizer": {"name": "adagrad"}},
    "nesterov": {"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "decay": 0.1}},
    "class weights": {"loss": CLASSES | {"class_weights": [1.0, 2.5, 0.0]}},
    "balanced": {"loss": CLASSES | {"class_weights": "balanced"}},
    "one-hot": {"loss": {"name": "categorical_crossentropy", "class_weights": "balanced"},
                "data": SETTINGS["data"] | {"one_hot": True}},
    "schedule": {"schedule": {"name": "cosine", "warmup": 0.5}},
    "callbacks": {"train": {"epochs": 5, "early_stopping": EARLY, "reduce_on_plateau": PLATEAU}},
    "all metrics": {"train": {"metrics": ["accuracy", "top_k_accuracy", "precision", "recall", "f1",
                                          "confusion_matrix", "sparse_categorical_accuracy"], "top_k": 2}},
    "regression": {"data": NUMBERS, "model": {"layers": ONE}, "loss": {"name": "huber"},
                   "train": {"metrics": ["mae", "mse", "r2"]}},
    "minmax over all": {"data": {**SETTINGS["data"], "scale": "minmax", "scale_over": "all"}},
    "binary": {"data": {**SETTINGS["data"], "classes": 2}, "model": {"layers": YES},
               "loss": {"name": "binary_crossentropy", "class_weights": [1.0, 3.0]}},
    "frozen below": {"model": {"layers": FROZEN}},
    "in order, without validation": {"train": {"shuffle": False}, "data": {**SETTINGS["data"],
                                                                           "validation_fraction": 0.0}},
    "full batch": {"train": {"batch_size": "full", "epochs": 3}},
    "images": {"data": SETTINGS["data"] | {"features": 36}, "model": {"layers": IMAGES}, "train": {"epochs": 1}},
    "batches smaller than the shards": {"train": {"batch_size": 5, "epochs": 1}},
}  # fmt: skip


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_any_number_of_ranks_trains_to_the_same_bits(changes, arithmetic):
    job = make_job(**changes | {"train": changes.get("train", {}) | {"arithmetic": arithmetic}})
    one = train(job)
    assert one.done
    for ranks in (2, 3, 4, 5, 7):
        many = train(job, ranks)
        assert many.fingerprint == one.fingerprint
        assert many.bits() == one.bits()


@pytest.mark.parametrize("batch_size", [48, "full"])
@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_a_job_that_says_nothing_of_shards_has_one_result(arithmetic, batch_size):
    job = make_job(
        data={"samples": 120}, train={"shards": None, "arithmetic": arithmetic, "batch_size": batch_size, "epochs": 2}
    )
    assert job.train.shards == "auto"
    one = train(job)
    shards = one.state.facts["job"]["train"]["shards"]
    assert shards == (8 if arithmetic == "numpy" else {48: 3, "full": 6}[batch_size])
    for ranks in (2, 3):
        assert train(job, ranks).bits() == one.bits()
    with pytest.raises(CommunicatorError, match=f"{shards + 1} ranks for {shards} gradient shards: .*not from the"):
        train(job, shards + 1)


def test_as_many_ranks_as_shards():
    job = make_job()
    assert train(job, 8).bits() == train(job).bits()


@pytest.mark.parametrize(
    "changes",
    [{"train": {"shards": 12}}, {"train": {"seed": 6}}, {"data": {**SETTINGS["data"], "seed": 3}},
     {"optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.8}}],
    ids=str,
)  # fmt: skip
def test_another_job_trains_to_other_bits(changes):
    """Proves that the tests above can fail. Shards other in number give nearly the same, but not the same bits."""
    first, other = train(make_job()), train(make_job(**changes))
    assert first.fingerprint != other.fingerprint


def test_the_shards_decide_bits_but_not_the_result_without_dropout():
    layers = [layer for layer in LAYERS if layer["type"] != "dropout"]
    changes = {"model": {"layers": layers}}
    weights = [train(make_job(**changes, train={"shards": shards})).state.part("model") for shards in (1, 8)]
    differs = False
    for name, array in weights[0].items():
        np.testing.assert_allclose(array, weights[1][name], rtol=1e-3, atol=1e-5)
        differs |= array.tobytes() != weights[1][name].tobytes()
    assert differs


def test_all_ranks_start_with_the_same_weights():
    from pathlib import Path

    from hpcnn.comm.threads import run_threads

    prints = run_threads(3, lambda comm: build_training(make_job(), Path(), comm).replica.model.fingerprint())
    assert len(set(prints)) == 1
