"""The timeline of a run: what every rank did when, on one clock, as a file for Perfetto."""
