"""What computes a job: NumPy, Keras or PyTorch, behind one seam."""
