"""The longer example: warm-up, a staircase of learning rates, validation, the best model saved by one rank."""

from __future__ import annotations

import os
from pathlib import Path

import keras

import hpcnn.keras as hvd
from tests.keras.scripts.digits_fit import digits

BASE_RATE = 0.02


def main() -> keras.Model:
    hvd.init()
    images, labels = digits()
    images = images.reshape(-1, 8, 8, 1)

    keras.utils.set_random_seed(1000 + hvd.rank())
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(10),
        ]
    )
    scaled_rate = BASE_RATE * hvd.size()
    model.compile(
        optimizer=hvd.DistributedOptimizer(
            keras.optimizers.SGD(scaled_rate, momentum=0.9, nesterov=True),
            backward_passes_per_step=1,
            average_aggregated_gradients=True,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True,  # which can't be, and is set right
    )
    best = Path(os.environ.get("OUT", ".")) / f"best-{hvd.size()}.keras"
    callbacks = [
        hvd.callbacks.BroadcastGlobalVariablesCallback(0),
        hvd.callbacks.MetricAverageCallback(),
        hvd.callbacks.LearningRateWarmupCallback(initial_lr=scaled_rate, warmup_epochs=2, verbose=1),
        hvd.callbacks.LearningRateScheduleCallback(scaled_rate, multiplier=1.0, start_epoch=2, end_epoch=3),
        hvd.callbacks.LearningRateScheduleCallback(scaled_rate, multiplier=lambda epoch: 0.1, start_epoch=3),
        hvd.callbacks.BestModelCheckpoint(str(best), monitor="val_accuracy"),
    ]
    model.fit(
        images,
        labels,
        batch_size=8,
        epochs=4,
        callbacks=callbacks,
        validation_split=0.1 + 0.1 * hvd.rank(),  # another number of samples on each rank
        steps_per_epoch=8,
        verbose=2 if hvd.rank() == 0 else 0,
    )
    return model


if __name__ == "__main__":
    main()
