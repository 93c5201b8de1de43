"""Shares corrected for what an annotator gets wrong (statistics §5).

C[t, o] = P(label o | true t), rows sum to 1. Observed shares are q = πC; the
corrected π is found on the simplex, with an interval from both samplings: of
the images, and of the labelled set that C was measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.stats.intervals import Interval
from fairloop.stats.measure import Floats, rates

Method = Literal["rogan_gladen", "least_squares", "em"]

MAX_CONDITION = 25.0
"""Above this, an error of 1 % in the observed shares can become 25 % in the corrected ones."""


@dataclass(frozen=True)
class Confusion:
    """P(label | true) and the size of the labelled set behind it; `trials` is None when taken as exact."""

    matrix: Floats
    trials: NDArray[np.int64] | None
    factors: tuple[Confusion, ...] = ()
    """The matrices of the single attributes, where this one is their Kronecker product."""

    @property
    def exact(self) -> bool:
        """Whether nothing is known of the labelled set behind it, or behind a factor."""
        return any(factor.exact for factor in self.factors) if self.factors else self.trials is None

    def draws(self, replicates: int, rng: np.random.Generator) -> Floats:
        """Matrices of shape (replicates, K, K) as other labelled sets of this size would give them."""
        if self.factors:
            product = self.factors[0].draws(replicates, rng)
            for factor in self.factors[1:]:
                found = np.einsum("rij,rkl->rikjl", product, factor.draws(replicates, rng))
                size = product.shape[1] * len(factor.matrix)
                product = np.asarray(found.reshape(replicates, size, size), dtype=np.float64)
            return product
        if self.trials is None:
            return np.broadcast_to(self.matrix, (replicates, *self.matrix.shape))
        rows = [
            rng.multinomial(n, p, size=replicates) / n for n, p in zip(self.trials, self.matrix, strict=True)
        ]
        return np.stack(rows, axis=1)


@dataclass(frozen=True)
class Correction:
    """Corrected shares with 95 % intervals, in the order of the confusion matrix."""

    shares: tuple[float, ...]
    intervals: tuple[Interval, ...]
    observed: tuple[float, ...]
    method: Method
    condition: float
    """Condition number of the confusion matrix: how much it magnifies errors."""
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def confusion_matrix(
    confusion: Sequence[Sequence[float]] | Floats, cells: int, *, max_condition: float = MAX_CONDITION
) -> Confusion:
    """A checked confusion matrix from counts, or from probabilities whose rows sum to 1.

    Raises InvalidInput for a wrong shape, negative values or an empty row, and
    PreconditionFailed when it is singular or its condition number exceeds `max_condition`.
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    if matrix.shape != (cells, cells):
        raise InvalidInput(
            "confusion", f"shape {matrix.shape} is not {(cells, cells)}: rows are true, columns labels"
        )
    if not np.all(np.isfinite(matrix)) or (matrix < 0).any():
        raise InvalidInput("confusion", "holds a negative or non-finite value; it is counts or probabilities")
    total = matrix.sum(axis=1)
    if (total == 0).any():
        raise InvalidInput(
            "confusion", f"row {int(np.argmin(total))} is empty: that truth was never labelled"
        )
    trials = None
    if not np.allclose(total, 1.0, atol=1e-6):
        if not np.array_equal(matrix, np.round(matrix)):
            raise InvalidInput("confusion", "rows neither sum to 1 nor hold whole counts")
        trials = total.astype(np.int64)
    matrix = matrix / total[:, None]
    _check_condition(matrix, max_condition)
    return Confusion(matrix, trials)


def _check_condition(matrix: Floats, most: float) -> None:
    condition = float(np.linalg.cond(matrix))
    if not condition <= most:
        raise PreconditionFailed(
            f"confusion matrix is near singular (condition number {condition:.3g} > {most:g}): "
            "the annotator's labels say too little about the truth to correct the shares"
        )


def joint_confusion(factors: Sequence[Confusion], *, max_condition: float = MAX_CONDITION) -> Confusion:
    """The confusion of cells made of several attributes, whose errors are taken as independent.

    P(labels | truths) is then the product over the attributes: the matrix is
    their Kronecker product, cells in the order of `itertools.product`. Its
    condition number is the product of theirs; PreconditionFailed above
    `max_condition`.
    """
    if not factors:
        raise InvalidInput("factors", "is empty; at least one confusion is needed")
    if len(factors) == 1:
        return factors[0]
    matrix = factors[0].matrix
    for factor in factors[1:]:
        matrix = np.asarray(np.kron(matrix, factor.matrix), dtype=np.float64)
    _check_condition(matrix, max_condition)
    return Confusion(matrix, None, tuple(factors))


def _least_squares(matrix: Floats, observed: Floats) -> Floats:
    # A heavy last row holds the sum at 1; what is left of it is divided out.
    heavy = 1e4
    system = np.vstack([matrix.T, np.full(matrix.shape[0], heavy)])
    solution, _ = optimize.nnls(system, np.append(observed, heavy))
    return np.asarray(solution / solution.sum())


def _em(matrix: Floats, observed: Floats) -> Floats:
    shares = np.full(matrix.shape[0], 1.0 / matrix.shape[0])
    for _ in range(10_000):
        predicted = shares @ matrix
        ratio = np.divide(observed, predicted, out=np.zeros_like(observed), where=predicted > 0)
        moved = shares * (matrix @ ratio)
        moved /= moved.sum()
        if np.abs(moved - shares).max() < 1e-12:
            return np.asarray(moved)
        shares = moved
    return shares


def corrected_shares(matrix: Floats, observed: Floats, method: Method) -> tuple[Floats, bool]:
    """π on the simplex with πC = q, and whether q had to be moved to reach the simplex."""
    if method == "rogan_gladen":
        youden = matrix[1, 1] - matrix[0, 1]
        share = (observed[1] - matrix[0, 1]) / youden if youden else observed[1]
        kept = float(np.clip(share, 0.0, 1.0))
        return np.array([1.0 - kept, kept]), kept != share
    try:
        direct = np.linalg.solve(matrix.T, observed)
    except np.linalg.LinAlgError:
        # Only a redrawn matrix can be singular; the constrained fit still exists.
        return _least_squares(matrix, observed), True
    if direct.min() >= 0:
        return direct / direct.sum(), False
    return (_em if method == "em" else _least_squares)(matrix, observed), True


def corrected_draws(
    confusion: Confusion, observed: Floats, method: Method, rng: np.random.Generator
) -> Floats:
    """Corrected shares for every row of `observed` (replicates, K), each with its own redrawn confusion."""
    matrices = confusion.draws(len(observed), rng)
    return np.stack([corrected_shares(m, q, method)[0] for m, q in zip(matrices, observed, strict=True)])


def default_method(cells: int) -> Method:
    return "rogan_gladen" if cells == 2 else "least_squares"


def correct_for_annotator(
    observed: Sequence[float] | Floats,
    confusion: Sequence[Sequence[float]] | Floats,
    *,
    images: int | None = None,
    method: Method | None = None,
    max_condition: float = MAX_CONDITION,
    replicates: int = 1000,
    seed: int = 0,
) -> Correction:
    """True shares behind observed label shares, given how the annotator errs.

    `observed` are images per label, or shares of `images`. `confusion[t][o]`
    are counts of label o among images of truth t (then the interval includes
    that sample), or probabilities (taken as exact, and flagged so). Methods:
    Rogan & Gladen (1978) for two labels, else constrained least squares, or EM
    for the maximum of the likelihood; all three agree where πC = q has a
    solution on the simplex, and `outside_simplex` is flagged where it has not.

    Raises InvalidInput for shapes and counts that do not fit, and
    PreconditionFailed for a near singular matrix (`max_condition`).

    >>> C = [[.9, .1, 0], [.15, .8, .05], [0, .2, .8]]
    >>> [round(p, 9) for p in correct_for_annotator([.495, .33, .175], C, images=1000).shares]
    [0.5, 0.3, 0.2]
    """
    weights = rates(observed, "observed", highest=np.inf)
    total = float(weights.sum())
    if total == 0:
        raise InvalidInput("observed", "all labels are empty; at least one image is needed")
    if images is None:
        if not np.array_equal(weights, np.round(weights)):
            raise InvalidInput("images", "observed shares need the number of images they were taken over")
        images = int(total)
    if images < 1:
        raise InvalidInput("images", f"{images}; shares are taken over at least 1")
    cells = weights.size
    chosen = default_method(cells) if method is None else method
    if chosen not in ("rogan_gladen", "least_squares", "em") or (chosen == "rogan_gladen" and cells != 2):
        raise InvalidInput(
            "method", f"{chosen!r} for {cells} labels; rogan_gladen is for 2, else least_squares or em"
        )
    checked = confusion_matrix(confusion, cells, max_condition=max_condition)
    q = weights / total
    shares, moved = corrected_shares(checked.matrix, q, chosen)
    rng = np.random.default_rng(seed)
    draws = corrected_draws(checked, rng.multinomial(images, q, size=replicates) / images, chosen, rng)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    flags = (["outside_simplex"] if moved else []) + (["confusion_taken_as_exact"] if checked.exact else [])
    return Correction(
        shares=tuple(shares.tolist()),
        intervals=tuple(zip(low.tolist(), high.tolist(), strict=True)),
        observed=tuple(q.tolist()),
        method=chosen,
        condition=float(np.linalg.cond(checked.matrix)),
        flags=tuple(flags),
    )
