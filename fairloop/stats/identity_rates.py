"""FAR and FRR of a closed-set classifier of people, from its confusion counts, identity by identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.coding import Values, joint
from fairloop.stats.intervals import Interval, wilson


@dataclass(frozen=True)
class IdentityRates:
    """One identity against all others; rates are None where there is nothing to take them over."""

    identity: str
    true_accepts: int
    false_rejects: int
    """Images of this identity that were called another."""
    false_accepts: int
    """Images of others that were called this identity."""
    true_rejects: int
    far: float | None
    """false accepts / images of others."""
    far_interval: Interval | None
    frr: float | None
    """false rejects / images of this identity."""
    frr_interval: Interval | None


def identity_rates(truth: Values, predicted: Values) -> tuple[IdentityRates, ...]:
    """Counts and rates of every identity that occurs in either, sorted; intervals are Wilson's, 95 %.

    An image whose truth or prediction is unknown (None, NaN, "") is in no count.
    Raises InvalidInput for lengths that differ, and when no image has both.

    >>> [(r.identity, r.far, r.frr) for r in identity_rates(["a", "a", "b", "b"], ["a", "b", "b", "b"])]
    [('a', 0.0, 0.5), ('b', 0.5, 0.0)]
    """
    names, actual, called = joint(truth, predicted, ("truth", "predicted"), None)
    used = (actual >= 0) & (called >= 0)
    if not used.any():
        raise InvalidInput("truth", f"no image has a truth and a prediction ({len(truth)} images)")
    width = len(names)
    images = np.bincount(actual[used], minlength=width)
    calls = np.bincount(called[used], minlength=width)
    right = np.bincount(actual[used & (actual == called)], minlength=width)
    total = int(used.sum())
    return tuple(
        _rates(name, int(images[k]), int(calls[k]), int(right[k]), total) for k, name in enumerate(names)
    )


def _rates(identity: str, images: int, calls: int, right: int, total: int) -> IdentityRates:
    others = total - images
    rejects, accepts = images - right, calls - right
    return IdentityRates(
        identity=identity,
        true_accepts=right,
        false_rejects=rejects,
        false_accepts=accepts,
        true_rejects=others - accepts,
        far=accepts / others if others else None,
        far_interval=wilson(accepts, others) if others else None,
        frr=rejects / images if images else None,
        frr_interval=wilson(rejects, images) if images else None,
    )
