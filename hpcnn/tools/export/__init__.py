"""Trained models in the formats of others: ONNX and NumPy archives. Keras files are made in `hpcnn.backends.keras`."""
