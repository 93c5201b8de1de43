"""The container images: one Containerfile for each service and one for the flows, and what builds them.

`python -m deploy.images build | check | pin`, which `make images` and `make pin-images` call.
"""
