"""What computes a job: NumPy or Keras, behind one seam."""
