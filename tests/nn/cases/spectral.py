"""Convolutions in the space of frequencies."""

from __future__ import annotations

from hpcnn.nn import SpectralConv1D

LAYERS = {
    "spectral": (SpectralConv1D(2, 3, name="l"), (8, 3)),
    "spectral_all_modes": (SpectralConv1D(4, 5, name="l"), (8, 2)),  # the last one has no imaginary part
    "spectral_odd_length": (SpectralConv1D(3, 4, name="l"), (7, 2)),
    "spectral_one_channel": (SpectralConv1D(1, 2, name="l"), (5, 1)),
    "spectral_mean_alone": (SpectralConv1D(2, 1, name="l"), (6, 3)),
    "spectral_one_point": (SpectralConv1D(2, 1, name="l"), (1, 2)),
}


def spectral(keras, layer, dtype):
    """Return a layer that goes by TensorFlow's fast Fourier transform."""
    import tensorflow as tf

    class Spectral(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(layer.modes, 2, shape[2], layer.filters), name="kernel")

        def call(self, x):
            length = x.shape[1]
            coefficients = tf.signal.fft(tf.cast(tf.transpose(x, (0, 2, 1)), complex_of(dtype)))[..., : layer.modes]
            weights = tf.complex(self.kernel[:, 0], self.kernel[:, 1])
            mixed = tf.einsum("ncm,mcf->nfm", coefficients, weights)
            padded = tf.pad(mixed, ((0, 0), (0, 0), (0, length - layer.modes)))
            # what a real inverse transform takes for the conjugates: twice the real part, but for those that have none
            once = [1.0 if 2 * mode in (0, length) else 2.0 for mode in range(length)]
            points = tf.math.real(tf.signal.ifft(padded * tf.constant(once, complex_of(dtype))))
            return tf.transpose(points, (0, 2, 1))

    return Spectral(dtype=dtype)


def complex_of(dtype):
    return {"float32": "complex64", "float64": "complex128"}[str(dtype)]


KERAS = {SpectralConv1D: spectral}
