"""Whether everything that computes on a GPU does so here: `make gpu-check`, `python -m deploy.gpu_check`.

Real servers on a store of their own, networks of the published geometry with
random weights: nothing is fetched from a hub.
"""
