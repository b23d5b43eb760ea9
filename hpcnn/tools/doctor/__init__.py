"""`hpcnn doctor`: gathers evidence about a machine and its MPI within time limits, and judges it."""
