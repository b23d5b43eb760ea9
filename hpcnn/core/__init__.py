"""What every part stands on: the summation tree, what a rank is doing, injected faults, the layout of a run folder."""
