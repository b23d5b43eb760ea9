"""Your own training loop: compose the network, take each step yourself, with exact sums of gradients.

Run it by ``python examples/custom_loop.py``,
or by ``mpirun -n 4 python examples/custom_loop.py``: the same weights, bit for bit.
"""

from __future__ import annotations

import numpy as np

import hpcnn
from hpcnn.nn import Dense, Network, Residual

SAMPLES, BATCH, EPOCHS, SEED = 600, 50, 20, 0


def spirals() -> tuple[np.ndarray, np.ndarray]:
    """Return points on two spirals that wind around each other, and which of the two each is on."""
    draw = np.random.default_rng(SEED)
    labels = np.arange(SAMPLES) % 2
    angles = np.sqrt(draw.uniform(size=SAMPLES)) * 2 * np.pi
    turned = angles + np.pi * labels
    points = np.stack([angles * np.cos(turned), angles * np.sin(turned)], axis=1) / 3
    return points + 0.05 * draw.normal(size=points.shape), labels


def main() -> None:
    """Train, and print the result on rank 0."""
    x, y = spirals()
    network = Network(
        [
            Dense(32, activation="tanh"),
            Residual([Dense(32, activation="tanh")]),
            Dense(2, activation="softmax"),
        ],
        input_shape=(2,),
    )
    trainer = hpcnn.Trainer(
        network,
        loss="sparse_categorical_crossentropy",
        optimizer={"name": "adam", "learning_rate": 0.01},
        shards=8,  # 1 to 8 ranks may share a batch, all with the same result
        seed=SEED,
        metrics=["accuracy"],
    )
    root = trainer.comm.rank == 0
    steps = EPOCHS * SAMPLES // BATCH
    for epoch in range(EPOCHS):
        order = np.random.default_rng([SEED, epoch]).permutation(SAMPLES)  # the same on every rank
        for batch in np.split(order, SAMPLES // BATCH):
            warm_up = min(1.0, (trainer.steps + 1) / 20)
            cool_down = 1 - trainer.steps / steps
            trainer.step(x[batch], y[batch], lr_scale=warm_up * cool_down)
        values = trainer.evaluate(x, y)
        if root and epoch % 5 == 4:
            print(f"epoch {epoch + 1}: loss {values['loss']:.4f}, accuracy {values['accuracy']:.3f}")
    if root:
        print(f"weights sha256 {trainer.weights_sha256}")


if __name__ == "__main__":
    main()
