"""Files that a run writes while it trains, beside its checkpoints."""
