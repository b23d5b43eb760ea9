"""The mathematics of a training: the loop, replicas and their updates, metrics, callbacks."""
