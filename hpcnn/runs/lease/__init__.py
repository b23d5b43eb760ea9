"""The lease of a run folder: one job at a time trains into it."""
