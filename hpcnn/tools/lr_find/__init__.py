"""The learning-rate range test: train with increasing rates, and choose one by the loss."""
