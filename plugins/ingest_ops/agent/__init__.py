"""The deploy agent: the one process that starts and stops the two slots, and can do nothing else."""
