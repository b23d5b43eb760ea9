"""Keras mode: what computes a job with `backend = "keras"`."""
