"""LSTM layers one above the other."""

from __future__ import annotations

from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import LSTM, Bidirectional, Dense, Dropout


def layers(
    units: int = 64,
    layers: int = 2,
    outputs: int = 1,
    activation: str = "linear",
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> list[Layer]:
    """Return LSTM layers (Hochreiter and Schmidhuber, 1997) and a dense layer behind the last step.

    Args:
        units: width of each layer, in each direction.
        layers: number of LSTM layers.
        outputs: number of outputs.
        activation: that of the outputs.
        bidirectional: whether each layer goes through the sequence in both directions.
        dropout: rate behind each LSTM layer.

    >>> from hpcnn.nn import Network
    >>> Network(layers(units=8, outputs=3, activation="softmax"), (20, 1)).output_shape
    (3,)
    """
    found: list[Layer] = []
    for number in range(layers):
        lstm: Layer = LSTM(units, return_sequences=number < layers - 1)
        found.append(Bidirectional((lstm,)) if bidirectional else lstm)
        if dropout:
            found.append(Dropout(dropout))
    return [*found, Dense(outputs, activation=activation)]
