"""Fourier neural operators: maps between functions on a periodic line."""

from __future__ import annotations

from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Add, Dense, SpectralConv1D


def layers(modes: int = 12, width: int = 32, layers: int = 4, hidden: int = 128, outputs: int = 1) -> list[Layer]:
    """Return a Fourier neural operator in one dimension (Li et al., 2021).

    The paper adds the coordinate of each point to the inputs; here inputs hold what they need, (points, channels).

    Args:
        modes: number of frequencies that are mixed, from 0 on.
        width: number of channels.
        layers: number of Fourier layers.
        hidden: width of the dense layer before the last.
        outputs: number of outputs at each point.

    >>> from hpcnn.nn import Network
    >>> Network(layers(), (64, 1)).output_shape
    (64, 1)
    """
    before = "lifted"
    found: list[Layer] = [Dense(width, name=before)]
    for number in range(1, layers + 1):
        spectral, local, name = f"spectral_{number}", f"local_{number}", f"fourier_{number}"
        found += [
            SpectralConv1D(width, modes, name=spectral, inputs=(before,)),
            Dense(width, name=local, inputs=(before,)),
            Add(name=name, inputs=(spectral, local)),
        ]
        if number < layers:
            found.append(Activation("gelu", name=f"{name}_gelu"))
        before = found[-1].name
    return [*found, Dense(hidden, activation="gelu"), Dense(outputs)]
