"""Find the changes that a script for Horovod's Keras API needs for Keras 3 and hpcnn, without running it."""
