"""Datasets made of datasets: captions from labels, composition by cell, splits by subject, merges.

Every function plans on index rows, draws with a seed where it draws, and ends
in `derived.write`, which streams the chosen images into a new dataset that
names its parents and carries their terms.
"""
