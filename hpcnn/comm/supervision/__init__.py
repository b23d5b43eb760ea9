"""Heartbeats between ranks, and the watcher: a process beside each rank that ends the job where the rank can't."""
