"""`hpcnn predict-scaling`: what a step of a job takes on many nodes, by a model of the network and of memory."""
