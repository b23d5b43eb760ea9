"""Commands for a Slurm cluster: submit, monitor and cancel runs, and collect the results of sweeps."""
