"""Jobs on a Slurm cluster from the command line: submitted, watched, stopped, gathered."""
