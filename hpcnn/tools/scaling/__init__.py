"""`hpcnn scaling-study`: its plan, the measurement of one run on its ranks, and the page of all runs."""
