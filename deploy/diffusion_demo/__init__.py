"""A small Stable Diffusion on this machine, through the third reference system's whole path."""
