"""Small seeded lists of scored pairs."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

FEW = 200
"""Replicates where only counts and rates are looked at."""


def within(seed, pairs=4000, subjects=40, groups=("a", "b"), gap=0.5):
    """An RFW-like list: half genuine, impostors within the group, one label per pair, effects of subjects.

    Scores are normal: 0 for impostors and `gap` for genuine pairs, with the
    variances .15² and .1² of each side's subject (half of the two effects'
    sum), so that true rates have a closed form.
    """
    rng = np.random.default_rng(seed)
    genuine, group = rng.random(pairs) < 0.5, rng.integers(len(groups), size=pairs)
    first = rng.integers(subjects, size=pairs)
    second = np.where(genuine, first, (first + rng.integers(1, subjects, size=pairs)) % subjects)
    effect = rng.normal(0, 0.1, (len(groups), subjects))
    score = np.where(genuine, gap, 0.0) + 0.15 * rng.standard_normal(pairs)
    score += np.where(genuine, -1, 1) * (effect[group, first] + effect[group, second]) / 2
    label = np.array(groups)[group]
    name = np.char.add(np.char.add(label, "/"), np.char.mod("%03d", np.stack([first, second])))
    return score, genuine, label, (name[0], name[1])


def assert_close(mine, theirs):
    """Two records are equal, intervals to rounding; `images` of a list are rows."""
    found = asdict(mine)
    for field, value in asdict(theirs).items():
        if field == "images":
            continue
        if "interval" in field and value is not None:
            value = pytest.approx(value, rel=1e-5)
        assert found[field] == value, field
