"""Pairs that share an image belong together: groups of images that may be one person."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fairloop.leaks.neighbours import Ints


def grouped(first: Ints, second: Ints) -> Ints:
    """For each pair the number of its group, 0 for the largest (ties: the smallest image first).

    `first` are positions in one set, `second` in another; pairs of one group are
    connected through shared images.
    """
    if not len(first):
        return np.empty(0, np.int64)
    left, i = np.unique(first, return_inverse=True)
    right, j = np.unique(second, return_inverse=True)
    size = len(left) + len(right)
    graph = coo_array((np.ones(len(i), np.int8), (i, j + len(left))), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    of_pair = component[i]
    _, place, counts = np.unique(of_pair, return_inverse=True, return_counts=True)
    smallest = np.full(len(counts), np.iinfo(np.int64).max)
    np.minimum.at(smallest, place, first)
    rank = np.empty(len(counts), np.int64)
    rank[np.lexsort((smallest, -counts))] = np.arange(len(counts))
    return np.asarray(rank[place], np.int64)
