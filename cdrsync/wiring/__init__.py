"""Settings in, working parts out, and nothing else."""
