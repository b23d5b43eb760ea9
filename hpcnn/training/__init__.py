"""The training loop and what it stands on: replicas, metrics, callbacks, checkpoints, the run folder, the display."""
