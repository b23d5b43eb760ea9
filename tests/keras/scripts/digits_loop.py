"""A training loop of one's own, with a gradient tape, compiled by `tf.function`."""

from __future__ import annotations

import keras
import tensorflow as tf

import hpcnn.keras as hvd
from tests.keras.scripts.digits_fit import GLOBAL_BATCH, digits


def main() -> keras.Model:
    hvd.init()
    images, labels = digits()
    data = tf.data.Dataset.from_tensor_slices((images, labels)).repeat().batch(GLOBAL_BATCH // hvd.size())

    keras.utils.set_random_seed(1 if hvd.rank() == 0 else 1000 + hvd.rank())
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(32, activation="tanh"), keras.layers.Dense(10, activation="softmax")]
    )
    loss_function = keras.losses.SparseCategoricalCrossentropy()
    optimizer = keras.optimizers.Adam(0.003)

    @tf.function
    def training_step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(images, training=True))
        tape = hvd.DistributedGradientTape(tape)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    optimizer.build(model.trainable_variables)
    hvd.broadcast_variables(model.variables, root_rank=0)
    hvd.broadcast_variables(optimizer.variables, root_rank=0)
    for step, (image_batch, label_batch) in enumerate(data.take(40)):
        loss = hvd.allreduce(training_step(image_batch, label_batch))
        if step % 20 == 0 and hvd.local_rank() == 0:
            print(f"step {step}\tloss {float(loss):.6f}")
    return model


if __name__ == "__main__":
    main()
