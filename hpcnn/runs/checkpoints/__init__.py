"""The checkpoints of a run: when they are written, which there are, and whether they verify."""
