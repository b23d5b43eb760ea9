"""Collectives for the arrays of users' programs, and what the drop-in modules for them have in common."""
