"""One label per image from several annotators who err in their own ways (statistics §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from fairloop.errors import InvalidInput
from fairloop.stats.agreement import rating_codes
from fairloop.stats.measure import Floats
from fairloop.stats.scoring import Ints

NEVER_SEEN = 1e-6
"""Expected images of a value that an annotator labelled, below which its confusion row says nothing."""


@dataclass(frozen=True)
class Consensus:
    """What several annotators' labels say together, and how each of them errs."""

    values: tuple[str, ...]
    annotators: tuple[str, ...]
    posterior: Floats = field(repr=False, compare=False)
    """P(value | labels), shape (images, values); the prevalence for an image without labels."""
    prevalence: tuple[float, ...]
    confusion: NDArray[np.float64] = field(compare=False)
    """P(label | true value), shape (annotators, values, values); rows are true values and sum to 1."""
    log_likelihood: float
    log_likelihoods: tuple[float, ...] = field(repr=False)
    """After each iteration; it never falls."""
    iterations: int
    converged: bool
    labelled: NDArray[np.bool_] = field(repr=False, compare=False)
    """Which images have a label at all, shape (images,)."""
    flags: tuple[str, ...]

    def labels(self, certainty: float = 0.0) -> list[str | None]:
        """The most probable value of each image; None below `certainty` (0–1) and without labels.

        Of equally probable values the first of `values` is taken.
        """
        best = self.posterior.argmax(axis=1)
        sure = self.labelled & (self.posterior.max(axis=1) >= certainty)
        return [self.values[k] if s else None for k, s in zip(best.tolist(), sure.tolist(), strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: everything but the posterior of each image."""
        return {
            "schema": "fairloop.consensus/1",
            "values": list(self.values),
            "annotators": list(self.annotators),
            "images": len(self.posterior),
            "unlabelled": int((~self.labelled).sum()),
            "prevalence": list(self.prevalence),
            "confusion": self.confusion.tolist(),
            "log_likelihood": self.log_likelihood,
            "iterations": self.iterations,
            "converged": self.converged,
            "flags": list(self.flags),
        }


def dawid_skene(
    labels: Sequence[Sequence[Any]] | NDArray[Any],
    *,
    values: Sequence[Any] | None = None,
    annotators: Sequence[str] | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-9,
) -> Consensus:
    """True labels, their prevalence and each annotator's confusion, by EM (Dawid & Skene 1979).

    Parameters
    ----------
    labels : shape (images, columns), one column per annotator; None, NaN or "" where one is missing.
    values : the possible labels in order; those that occur when None.
    annotators : a name per column. Columns of one name are repeated labels by one
        annotator and share a confusion. Numbered when None.
    iterations : most EM steps; without convergence by then the result is flagged.
    tolerance : converged when the log likelihood per image grows by less.

    It starts from the share of votes, so equal input gives equal output. A true
    value that an annotator never met leaves that confusion row without
    information: it is uniform and flagged `never_met:annotator=value`. Images
    are taken as independent given their truth, annotators as erring independently.

    Raises InvalidInput when shapes do not fit or a label is not among `values`.
    """
    names, codes = rating_codes(labels, "labels", values)
    columns = codes.shape[1]
    if iterations < 1:
        raise InvalidInput("iterations", f"{iterations}; at least 1")
    if not tolerance >= 0:
        raise InvalidInput("tolerance", f"{tolerance} is negative")
    who = [str(name) for name in annotators] if annotators is not None else [str(c) for c in range(columns)]
    if len(who) != columns:
        raise InvalidInput("annotators", f"{len(who)} names for {columns} columns of labels")
    people = tuple(dict.fromkeys(who))
    # Images with the same labels have the same posterior: the sums run over distinct rows.
    rows, row_of, copies = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    row_of = row_of.ravel()
    labelled = np.asarray((rows >= 0).any(axis=1))
    votes = _votes(rows, np.array([people.index(name) for name in who]), len(people), len(names))
    weight = np.where(labelled, copies, 0).astype(np.float64)
    fitted = _fit(votes, weight, len(people), len(names), iterations, tolerance)
    posterior = np.where(labelled[:, None], fitted.posterior, fitted.prevalence)
    flags = [f"never_met:{people[a]}={names[t]}" for a, t in np.argwhere(fitted.met < NEVER_SEEN).tolist()]
    if len(people) < 3:
        flags.append(f"few_annotators:{len(people)}")
    if not fitted.converged:
        flags.append(f"not_converged:{iterations} iterations")
    if not labelled.all():
        flags.append(f"unlabelled_images:{int(copies[~labelled].sum())}")
    return Consensus(
        values=names,
        annotators=people,
        posterior=posterior[row_of],
        prevalence=tuple(fitted.prevalence.tolist()),
        confusion=fitted.confusion,
        log_likelihood=fitted.history[-1],
        log_likelihoods=tuple(fitted.history),
        iterations=len(fitted.history),
        converged=fitted.converged,
        labelled=labelled[row_of],
        flags=tuple(flags),
    )


@dataclass(frozen=True)
class _Fit:
    posterior: Floats
    prevalence: Floats
    confusion: Floats
    met: Floats
    """Expected labels of each annotator by true value, (annotators, values)."""
    history: list[float]
    converged: bool


def _votes(rows: Ints, person: Ints, people: int, values: int) -> sparse.csr_array:
    """How often each annotator gave each label, (rows, annotators · values)."""
    row, column = np.nonzero(rows >= 0)
    at = person[column] * values + rows[row, column]
    ones = np.ones(row.size)
    return sparse.coo_array((ones, (row, at)), shape=(len(rows), people * values)).tocsr()


def _fit(
    votes: sparse.csr_array, weight: Floats, people: int, values: int, iterations: int, tolerance: float
) -> _Fit:
    total = weight.sum()
    share = np.asarray(votes.sum(axis=1)).ravel()
    each = votes @ np.tile(np.eye(values), (people, 1))
    posterior = np.asarray(each) / np.where(share > 0, share, 1.0)[:, None]
    history: list[float] = []
    converged = False
    while not converged and len(history) < iterations:
        weighted = posterior * weight[:, None]
        prevalence = weighted.sum(axis=0) / total
        counts = np.asarray(votes.T @ weighted).T.reshape(values, people, values).transpose(1, 0, 2)
        met = counts.sum(axis=2)
        confusion = np.where(met[:, :, None] > 0, counts, 1.0 / values)
        confusion = confusion / confusion.sum(axis=2, keepdims=True)
        with np.errstate(divide="ignore"):
            log_confusion = np.log(confusion).transpose(0, 2, 1).reshape(people * values, values)
            joint = np.asarray(votes @ log_confusion) + np.log(prevalence)
        evidence = special.logsumexp(joint, axis=1, keepdims=True)
        posterior = np.exp(joint - evidence)
        history.append(float(evidence.ravel() @ weight))
        converged = len(history) > 1 and bool(history[-1] - history[-2] <= tolerance * total)
    return _Fit(posterior, prevalence, confusion, met, history, converged)
