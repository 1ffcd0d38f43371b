"""The Language Server Protocol, and nothing else."""
