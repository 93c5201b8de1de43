"""How the differences between every two groups changed from one arm to the other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fairloop.stats.comparison import PairChange
from fairloop.stats.differences import difference
from fairloop.stats.pairwise import holm
from fairloop.stats.run_values import RunValues


def pair_changes(
    before: Mapping[str, RunValues],
    after: Mapping[str, RunValues],
    kind: str,
    picks: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[PairChange, ...]:
    """Every pair of groups that both arms have rates of, in the order of the groups.

    What changed is the rate of the first group minus that of the second, with the
    interval that decides for differences of summaries too; its p-value is
    corrected by Holm over all pairs.
    """
    names = [key.partition(":")[2] for key in before if key.startswith(f"{kind}:") and key in after]
    found = []
    for first, second in itertools.combinations(names, 2):
        gaps = [_gap(values[f"{kind}:{first}"], values[f"{kind}:{second}"]) for values in (before, after)]
        change = difference(gaps[0], gaps[1], picks)
        found.append(
            PairChange(
                kind=kind,
                first=first,
                second=second,
                before=change.before,
                after=change.after,
                value=change.value,
                interval=change.interval or change.joint_interval,
                p_value=change.p_value,
                p_holm=None,
                flags=change.flags,
            )
        )
    corrected = holm([change.p_value for change in found])
    return tuple(replace(change, p_holm=p) for change, p in zip(found, corrected, strict=True))


def _gap(first: RunValues, second: RunValues) -> RunValues:
    """The first group's rate minus the second's, run by run and replicate by replicate."""
    return RunValues(
        f"{first.name} − {second.name}",
        f"{first.formula} minus {second.formula}",
        (first.estimates - second.estimates).tolist(),
        list(first.replicates - second.replicates),
    )
