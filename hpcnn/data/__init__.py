"""Where samples come from: readers of each format, rows taken on demand, splits, scaling, targets, and their order."""
