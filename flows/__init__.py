"""Prefect flows: what happens when. They import fairloop, never a service."""
