"""Trained models in the formats of others: ONNX, NumPy archives and Keras files."""
