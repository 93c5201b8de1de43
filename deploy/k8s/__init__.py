"""The manifests of a cluster (kustomize), and what builds and checks them.

`python -m deploy.k8s`, which `make k8s` calls.
"""
