"""Signs of life between ranks, and the process beside each rank that ends the job where the rank itself can't."""
