"""The learning-rate range test: train with rates that grow, and read a good one off the loss."""
