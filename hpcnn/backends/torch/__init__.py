"""PyTorch mode: what computes a job with `backend = "torch"`."""
