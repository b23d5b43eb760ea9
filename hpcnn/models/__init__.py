"""Known networks by name, and what makes the network of a job file: of a name, of layers, or of a function."""
