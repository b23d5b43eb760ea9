"""What is changed in the jobs of jobs/ so that tests have them done in seconds, and the data that do not come along."""

from __future__ import annotations

from pathlib import Path

import numpy as np

QUICK = {
    "cifar_resnet": ["train.epochs=2", "train.batch_size=32", "model.options.depth=8", "model.options.filters=4"],
    "digits_cnn": ["train.epochs=3"],
    "digits_torch": ["train.epochs=2"],
    "pde_fno": ["train.epochs=4", "data.samples=160"],
    "segmentation_unet": ["train.epochs=2", "data.samples=80"],
    "text_transformer": ["train.epochs=2", "data.stride=640", "data.length=32", "model.options.layers=1"],
    "time_series_gru": ["train.epochs=3", "data.samples=480"],
}
"""By name of the job: enough for it to learn something."""
TINY = {
    "cifar_resnet": QUICK["cifar_resnet"],
    "digits_cnn": ["train.batch_size=256", *(f"model.layers.{place}.filters=6" for place in (0, 3, 8))],
    "pde_fno": ["data.samples=120", "model.options.layers=1"],
    "segmentation_unet": ["data.samples=60", "data.size=16", "model.options.filters=4"],
    "text_transformer": [
        *("data.stride=3000", "data.length=16"),
        *("model.options.layers=1", "model.options.width=16", "model.options.hidden=32"),
    ],
    "time_series_gru": ["data.samples=240", "model.layers.0.units=8"],
}
"""For one epoch of a few steps in a tenth of a second, where only bits count."""
OF_SHARDS = {
    "cifar_resnet": ["model.options.statistics=shard"],
    "digits_cnn": [f"model.layers.{place}.statistics=shard" for place in (1, 4, 9)],
    "segmentation_unet": ["model.options.statistics=shard"],
}
"""The same for Keras mode, whose batch normalisations are over gradient shards."""
CIFAR_IMAGES = 16
"""In each file."""


def changes_of(job: str, folder: Path, *, keras: bool = False, tiny: bool = False) -> list[str]:
    """Return the settings that are changed; CIFAR's images lie in `folder`, and are made up first if need be."""
    sizes = [*TINY[job], "train.epochs=1"] if tiny and job in TINY else QUICK.get(job, [])
    found = [*sizes, *(OF_SHARDS.get(job, []) if keras else [])]
    if job.startswith("cifar"):
        write_cifar(folder / "cifar")
        found.append(f"data.folder={folder / 'cifar'}")
    return found


def write_cifar(folder: Path, images: int = CIFAR_IMAGES) -> None:
    """Write images in the format of CIFAR-10, if they are not there: stripes whose colour tells their class."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        labels = rng.integers(0, 10, (images, 1))
        planes = rng.integers(0, 90, (images, 3, 1024))
        planes[np.arange(images), labels[:, 0] % 3] += 15 * labels
        rows = np.concatenate([labels, planes.reshape(images, -1)], axis=1)
        (folder / name).write_bytes(rows.astype(np.uint8).tobytes())
