"""What examines the machine and the runs: benchmarks."""
