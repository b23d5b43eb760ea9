"""Small jobs with networks of all families: convolutions, batch normalisation, graphs, attention, recurrent layers."""

from __future__ import annotations

from pathlib import Path

TEXT = "a node asks its neighbours, and the neighbours ask theirs: the sum is the same for all of them. " * 20
_TRAIN = """
[loss]
name = "sparse_categorical_crossentropy"

[optimizer]
name = "adam"
learning_rate = 0.01

[train]
epochs = 1
shards = 8
seed = 3
metrics = ["accuracy"]
"""
_TEXT = """
[data]
source = "text"
path = "text.txt"
length = 12
validation_fraction = 0.2
"""
JOBS = {
    "images": f"""
[data]
source = "digits"
validation_fraction = 0.2
scale = "standardize"
scale_over = "all"

[model]
layers = [
    {{ type = "reshape", shape = [8, 8, 1] }},
    {{ type = "conv2d", filters = 6, kernel_size = 3, padding = "same", use_bias = false }},
    {{ type = "batch_normalization", momentum = 0.75 }},
    {{ type = "activation", activation = "relu" }},
    {{ type = "max_pooling", pool_size = 2 }},
    {{ type = "residual", layers = [
        {{ type = "separable_conv2d", filters = 6, kernel_size = 3, padding = "same" }},
        {{ type = "batch_normalization", momentum = 0.75 }},
        {{ type = "activation", activation = "swish" }},
        {{ type = "spatial_dropout", rate = 0.1 }},
    ] }},
    {{ type = "conv2d", filters = 12, kernel_size = 3, strides = 2, activation = "gelu" }},
    {{ type = "batch_normalization", momentum = 0.75, statistics = "shard" }},
    {{ type = "dropout", rate = 0.3 }},
    {{ type = "global_average_pooling" }},
    {{ type = "dense", units = 10, activation = "softmax" }},
]
{_TRAIN}
batch_size = 400
""",
    "sequences": f"""
{_TEXT}
[model]
layers = [
    {{ type = "embedding", input_dim = 40, output_dim = 12 }},
    {{ type = "positional_embedding" }},
    {{ type = "block", repeat = 2, layers = [
        {{ type = "residual", layers = [
            {{ type = "layer_norm" }},
            {{ type = "multi_head_attention", num_heads = 3, key_dim = 4, causal = true }},
            {{ type = "dropout", rate = 0.1 }},
        ] }},
        {{ type = "residual", layers = [
            {{ type = "rms_normalization" }},
            {{ type = "dense", units = 24, activation = "gelu" }},
            {{ type = "dense", units = 12 }},
        ] }},
    ] }},
    {{ type = "dense", units = 40, activation = "softmax" }},
]
{_TRAIN}
batch_size = 30
""",
    "masked": f"""
{_TEXT}
[model]
layers = [
    {{ type = "embedding", name = "ids", input_dim = 40, output_dim = 8 }},
    {{ type = "padding_mask", name = "mask", inputs = ["input"] }},
    {{ type = "cross_attention", name = "at", inputs = ["ids", "mask"], num_heads = 4, num_kv_heads = 2, key_dim = 3 }},
    {{ type = "add", inputs = ["ids", "at"] }},
    {{ type = "group_normalization", name = "norm", groups = 2 }},
    {{ type = "conv1d", name = "local", filters = 8, kernel_size = 3, padding = "causal", activation = "tanh" }},
    {{ type = "multiply", inputs = ["local", "norm"] }},
    {{ type = "prelu", shared_axes = [1] }},
    {{ type = "dense", units = 40, activation = "softmax" }},
]
{_TRAIN}
batch_size = 30
checkpoint_activations = true
""",
    "pixels": f"""
[data]
source = "shapes"
samples = 60
size = 8
validation_fraction = 0.2

[model]
layers = [
    {{ type = "conv2d", name = "high", filters = 4, kernel_size = 3, padding = "same", activation = "relu" }},
    {{ type = "average_pooling", pool_size = 2 }},
    {{ type = "conv2d", name = "low", filters = 8, kernel_size = 3, padding = "same", activation = "elu" }},
    {{ type = "batch_normalization", name = "norm" }},
    {{ type = "conv2d_transpose", name = "up", filters = 4, kernel_size = 2, strides = 2 }},
    {{ type = "up_sampling", name = "smooth", inputs = ["norm"], size = 2, interpolation = "bilinear" }},
    {{ type = "concatenate", inputs = ["high", "up", "smooth"] }},
    {{ type = "depthwise_conv2d", kernel_size = 3, padding = "same" }},
    {{ type = "conv2d", filters = 4, kernel_size = 1, activation = "softmax" }},
]
{_TRAIN}
batch_size = 20
""",
    "recurrent": f"""
{_TEXT}
[model]
layers = [
    {{ type = "embedding", input_dim = 40, output_dim = 6 }},
    {{ type = "lstm", units = 8, return_sequences = true }},
    {{ type = "bidirectional", layers = [{{ type = "gru", units = 5, return_sequences = true }}] }},
    {{ type = "simple_rnn", units = 9, return_sequences = true, go_backwards = true }},
    {{ type = "time_distributed", layers = [{{ type = "dense", units = 40, activation = "softmax" }}] }},
]
{_TRAIN}
batch_size = 30
""",
}  # fmt: skip
"""Each of a few steps, the last of them with fewer samples."""


def write(case: str, folder: Path) -> Path:
    """Write a job and the text that it may read, and return the path of the job."""
    path, text = folder / f"{case}.toml", folder / "text.txt"
    if not text.exists():
        text.write_text(TEXT)
    path.write_text(JOBS[case].lstrip())
    return path
