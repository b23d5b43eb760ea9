"""Tables with named columns of any type: read from files, and turned into rows of numbers for a network."""
