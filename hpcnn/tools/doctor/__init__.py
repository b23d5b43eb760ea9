"""`hpcnn doctor`: facts about a machine and its MPI, each gathered within a time limit, and what they mean."""
