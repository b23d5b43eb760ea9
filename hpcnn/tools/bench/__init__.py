"""`hpcnn bench`: measurements, and their output."""
