"""Keys of `[data]` by what they affect."""

from __future__ import annotations

LOCATIONS = (
    "folder", "path", "x_path", "y_path", "images", "labels", "validation_path", "validation_x_path",
    "validation_y_path", "validation_images", "validation_labels", "table", "validation_table", "masks",
    "shards", "validation_shards",
    "weights_path", "validation_weights_path", "group_path",
)  # fmt: skip
"""Settings that only locate the data."""
CONTENT_SETTINGS = frozenset({*LOCATIONS, "x_shape", "y_shape", "validation_samples", "sha256"})
"""Settings that do not affect the result where the data themselves are compared."""
DATA_SPEED_SETTINGS = ("prefetch", "keep", "cache", "stage")
"""Keys that do not change the result."""
AFTER_READING = (
    "validation_split", "validation_gap", "fold", "scale", "scale_over", "scale_targets", "scale_targets_over",
    "one_hot", "augment", "order", "chunk_rows", "window_chunks", *DATA_SPEED_SETTINGS,
)  # fmt: skip
"""Keys that readers do not know: they change nothing of what is read."""
