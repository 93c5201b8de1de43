"""How genuine and impostor scores of each group are distributed, for plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.roster import Labels, roster
from fairloop.stats.scoring import normalised, sampled_scores


@dataclass(frozen=True)
class ScoreDensity:
    """Densities over equal bins of the cosine score; each integrates to 1 (all 0 without scores)."""

    group: str
    edges: tuple[float, ...]
    genuine: tuple[float, ...]
    impostor: tuple[float, ...]
    genuine_scores: int
    impostor_scores: int
    """Scores of a seeded sample of subjects, all pairs when the group is small."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def score_densities(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    bins: int = 60,
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> tuple[ScoreDensity, ...]:
    """Score densities within each group, over one common set of bins, in the order of group names.

    Inputs and errors as in `evaluate_verification`; `bins` is at least 2.
    """
    if bins < 2:
        raise InvalidInput("bins", f"{bins}; at least 2")
    people = roster(subjects, groups, failures)
    rows = normalised(embeddings, people.usable, [None if s is None else str(s) for s in subjects])
    rng = np.random.default_rng(seed)
    scores = []
    for code in range(len(people.group_names)):
        chosen = np.flatnonzero(people.usable & (people.group == code))
        chosen = chosen[np.argsort(people.subject[chosen], kind="stable")]
        scores.append(sampled_scores(rows[chosen], people.subject[chosen], rng))
    every = np.concatenate([part for pair in scores for part in pair])
    if every.size == 0:
        raise InvalidInput("subjects", "no group has a pair of usable images")
    edges = np.linspace(float(every.min()), max(float(every.max()), float(every.min()) + 1e-6), bins + 1)
    found = []
    for name, (genuine, impostor) in zip(people.group_names, scores, strict=True):
        counts = [np.histogram(part, edges)[0] for part in (genuine, impostor)]
        width = edges[1] - edges[0]
        densities = [c / max(int(c.sum()), 1) / width for c in counts]
        found.append(
            ScoreDensity(
                group=name,
                edges=tuple(edges.tolist()),
                genuine=tuple(densities[0].tolist()),
                impostor=tuple(densities[1].tolist()),
                genuine_scores=int(genuine.size),
                impostor_scores=int(impostor.size),
            )
        )
    return tuple(found)
