"""The tools behind the commands of the same names."""
