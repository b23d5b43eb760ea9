"""A model of a step's time on any number of nodes, and what it advises a run by the run's own measurements."""
