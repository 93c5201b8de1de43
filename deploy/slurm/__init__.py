"""Batch scripts for SLURM: a template for each trainer, filled in by `python -m deploy.slurm`."""
