"""Recurrent layers, and layers that go through sequences with another."""

from __future__ import annotations

from hpcnn.nn import GRU, LSTM, Activation, Bidirectional, Dense, LayerNorm, SimpleRNN, TimeDistributed

LAYERS = {
    "simple_rnn": (SimpleRNN(4, name="l"), (5, 3)),
    "simple_rnn_sequences": (SimpleRNN(4, activation="relu", use_bias=False, return_sequences=True, name="l"), (5, 3)),
    "simple_rnn_gelu_backwards": (SimpleRNN(4, activation="gelu", go_backwards=True, name="l"), (5, 3)),
    "simple_rnn_linear": (SimpleRNN(4, activation="linear", return_sequences=True, name="l"), (5, 3)),
    "lstm": (LSTM(4, name="l"), (5, 3)),
    "lstm_sequences": (LSTM(4, return_sequences=True, unit_forget_bias=False, name="l"), (5, 3)),
    "lstm_backwards": (LSTM(3, return_sequences=True, go_backwards=True, use_bias=False, name="l"), (4, 2)),
    "lstm_one_step": (LSTM(3, name="l"), (1, 2)),
    "lstm_softplus_gelu": (LSTM(3, activation="gelu", recurrent_activation="softplus", name="l"), (4, 2)),
    "lstm_relu_swish": (LSTM(3, activation="relu", recurrent_activation="swish", name="l"), (4, 2)),
    "lstm_leaky_elu": (LSTM(3, activation="elu", recurrent_activation="leaky_relu", name="l"), (4, 2)),
    "lstm_selu_linear": (LSTM(3, activation="selu", recurrent_activation="linear", name="l"), (4, 2)),
    "gru": (GRU(4, name="l"), (5, 3)),
    "gru_sequences_no_bias": (GRU(4, return_sequences=True, use_bias=False, name="l"), (5, 3)),
    "gru_backwards": (GRU(4, go_backwards=True, return_sequences=True, name="l"), (5, 3)),
    "gru_swish_gelu": (GRU(3, activation="gelu", recurrent_activation="swish", name="l"), (4, 2)),
    "gru_before": (GRU(4, reset_after=False, return_sequences=True, name="l"), (5, 3)),
    "gru_before_last_no_bias": (GRU(4, reset_after=False, use_bias=False, go_backwards=True, name="l"), (5, 3)),
    "gru_before_swish": (
        GRU(3, activation="relu", recurrent_activation="swish", reset_after=False, name="l"),
        (4, 2),
    ),
    "bidirectional": (Bidirectional((LSTM(4, return_sequences=True, name="i"),), name="l"), (5, 3)),
    "bidirectional_last": (Bidirectional((GRU(4, name="i"),), name="l"), (5, 3)),
    "bidirectional_sum": (
        Bidirectional((GRU(4, return_sequences=True, reset_after=False, name="i"),), merge_mode="sum", name="l"),
        (5, 3),
    ),
    "bidirectional_mul": (
        Bidirectional((SimpleRNN(4, return_sequences=True, name="i"),), merge_mode="mul", name="l"),
        (5, 3),
    ),
    "bidirectional_ave": (Bidirectional((LSTM(4, name="i"),), merge_mode="ave", name="l"), (5, 3)),
    "time_distributed": (TimeDistributed((Dense(4, activation="relu", name="i"),), name="l"), (5, 3)),
    "time_distributed_lstm": (TimeDistributed((LSTM(4, name="i"),), name="l"), (3, 4, 2)),
    "time_distributed_norm": (TimeDistributed((LayerNorm(name="i"),), name="l"), (5, 3)),
    "time_distributed_softmax": (TimeDistributed((Activation("softmax", name="i"),), name="l"), (5, 3)),
}

NOT_IN_ONNX = {
    "simple_rnn_gelu_backwards": "gelu",
    "lstm_softplus_gelu": "gelu",
    "lstm_relu_swish": "swish",
    "lstm_selu_linear": "selu",
    "gru_swish_gelu": "swish",
    "gru_before_swish": "swish",
}
"""The activation that no recurrent operation of ONNX has."""
RARE = {*NOT_IN_ONNX, "simple_rnn_linear", "lstm_leaky_elu", "lstm_one_step", "time_distributed_norm"}
"""What slow tests leave out."""


def _recurrent(keras, layer, dtype, activation_of, **changes):
    settings = {
        "use_bias": layer.use_bias,
        "return_sequences": layer.return_sequences,
        "go_backwards": layer.go_backwards,
    }
    if not isinstance(layer, SimpleRNN):
        settings["recurrent_activation"] = activation_of(keras, layer.recurrent_activation)
    if isinstance(layer, GRU):
        settings["reset_after"] = layer.reset_after
    made = getattr(keras.layers, type(layer).__name__)
    return made(layer.units, activation=activation_of(keras, layer.activation), dtype=dtype, **(settings | changes))


def _bidirectional(keras, layer, dtype, activation_of):
    (inner,) = layer.layers
    ways = [_recurrent(keras, inner, dtype, activation_of, go_backwards=backwards) for backwards in (False, True)]
    return keras.layers.Bidirectional(ways[0], layer.merge_mode, backward_layer=ways[1], dtype=dtype)


KERAS = {SimpleRNN: _recurrent, LSTM: _recurrent, GRU: _recurrent, Bidirectional: _bidirectional}
"""``(keras, layer, dtype, activation_of) -> layer of Keras``; time distributed ones are called step by step."""
