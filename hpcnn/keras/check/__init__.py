"""What a script for Horovod's Keras API has to change to run on Keras 3 and hpcnn, found without running it."""
