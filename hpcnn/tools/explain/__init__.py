"""Explanations of a trained model: attributions of single predictions, importance of inputs."""
