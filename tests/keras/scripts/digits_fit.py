"""The first example of most tutorials: handwritten digits, `model.fit`, three callbacks."""

from __future__ import annotations

import keras
from sklearn.datasets import load_digits

import hpcnn.keras as hvd

GLOBAL_BATCH = 96


def digits(samples: int = 1536):
    """Return this rank's share: every size()-th image, so that all ranks together take the batches of one."""
    images, labels = load_digits(return_X_y=True)
    own = slice(hvd.rank(), samples, hvd.size())
    return images[own].astype("float32") / 16, labels[own]


def main() -> keras.Model:
    hvd.init()
    images, labels = digits()

    keras.utils.set_random_seed(1 if hvd.rank() == 0 else 1000 + hvd.rank())
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )
    optimizer = hvd.DistributedOptimizer(keras.optimizers.Adam(0.003))
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    callbacks = [
        hvd.callbacks.BroadcastGlobalVariablesCallback(0),
        hvd.callbacks.MetricAverageCallback(),
        keras.callbacks.EarlyStopping(monitor="loss", patience=2),
    ]
    model.fit(
        images,
        labels,
        batch_size=GLOBAL_BATCH // hvd.size(),
        epochs=3,
        callbacks=callbacks,
        shuffle=False,
        verbose=2 if hvd.rank() == 0 else 0,
    )
    return model


if __name__ == "__main__":
    main()
