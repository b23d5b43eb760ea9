"""Optimizers as chains of transforms of one flat vector, and learning-rate schedules."""
