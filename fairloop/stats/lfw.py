"""The LFW protocol: accuracy at a threshold chosen on the other folds (statistics §1, §9).

Of LFW (Huang et al. 2007, view 2), CFP-FP, AgeDB-30, CALFW, CPLFW and RFW. TAR at
a low FAR as in FaceNet's evaluation, whose grid of thresholds is replaced by the
scores themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.curves import Scores, checked_scores
from fairloop.stats.roster import known
from fairloop.stats.scoring import Ints

FoldLabels = Sequence[str | int] | NDArray[Any]


@dataclass(frozen=True)
class LfwFold:
    """One fold, scored at thresholds that the other folds chose. VAL and FAR are None without such pairs."""

    fold: str
    genuine: int
    impostor: int
    threshold: float
    """Maximises accuracy on the other folds."""
    accuracy: float
    val_threshold: float | None
    """FAR of the other folds, interpolated between scores, is the target here; None when it cannot be."""
    val: float | None
    """Share of this fold's genuine pairs accepted at `val_threshold`."""
    far: float | None
    """Share of this fold's impostor pairs accepted at `val_threshold`."""


@dataclass(frozen=True)
class LfwAccuracy:
    """Mean and population standard deviation over folds, and every fold."""

    mean: float
    std: float
    folds: tuple[LfwFold, ...]
    far_target: float
    val: float | None
    """Mean over folds of the TAR at `far_target`; None unless every fold has one."""
    val_std: float | None
    far: float | None
    """Mean over folds of the FAR that was achieved."""
    genuine: int
    impostor: int
    conventions: Mapping[str, str]
    flags: tuple[str, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        return tuple(fold.accuracy for fold in self.folds)

    @property
    def thresholds(self) -> tuple[float, ...]:
        return tuple(fold.threshold for fold in self.folds)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "schema": "fairloop.lfw/1",
            **asdict(self),
            "folds": [asdict(fold) for fold in self.folds],
            "conventions": dict(self.conventions),
            "flags": list(self.flags),
        }


def lfw_accuracy(
    scores: Scores,
    genuine: Sequence[bool] | NDArray[Any],
    folds: int | FoldLabels = 10,
    *,
    far: float = 1e-3,
) -> LfwAccuracy:
    """Accuracy of verification by the LFW protocol, and TAR at FAR = `far`.

    Each fold is scored at the threshold that maximises accuracy on all others: a
    score that occurred there (the largest that does it, when several do), or the
    next number above all of them when accepting nothing is best. For VAL the
    threshold is where the FAR of the others, interpolated linearly between their
    impostor scores, is `far`.

    Parameters
    ----------
    scores : (pairs,) similarities; a pair is accepted at or above the threshold.
        For distances see `similarity_from_distance`.
    genuine : (pairs,) True where both images show one person.
    folds : so many blocks of consecutive pairs, sizes differing by at most one, as in
        the published lists; or one label per pair.
    far : target of VAL, between 0 and 1.

    Raises
    ------
    InvalidInput naming the field: a score that is not finite, lengths that differ,
    fewer than two folds, no genuine or no impostor pair outside some fold.

    >>> result = lfw_accuracy([0.9, 0.1, 0.8, 0.3], [True, False, True, False], folds=2)
    >>> result.mean, result.std, result.thresholds
    (0.75, 0.25, (0.8, 0.9))
    """
    values = checked_scores(scores, "scores")
    same = genuine_flags(genuine, values.size)
    if not 0.0 < far < 1.0:
        raise InvalidInput("far", f"{far} is outside 0–1, both excluded")
    names, fold = (
        _contiguous(folds, values.size)
        if isinstance(folds, (int, np.integer))
        else fold_codes(folds, values.size)
    )
    results = [_one_fold(values, same, fold == code, name, far) for code, name in enumerate(names)]
    accuracies = np.array([r.accuracy for r in results])
    vals = [r.val for r in results if r.val is not None]
    fars = [r.far for r in results if r.far is not None]
    defined = len(vals) == len(results)
    flags = [
        *(f"fold_of_one_class:{r.fold}" for r in results if not (r.genuine and r.impostor)),
        *(["val_undefined"] if not defined else []),
    ]
    return LfwAccuracy(
        mean=float(accuracies.mean()),
        std=float(accuracies.std()),
        folds=tuple(results),
        far_target=far,
        val=float(np.mean(vals)) if defined else None,
        val_std=float(np.std(vals)) if defined else None,
        far=float(np.mean(fars)) if len(fars) == len(results) else None,
        genuine=int(same.sum()),
        impostor=int((~same).sum()),
        conventions={
            "protocol": "LFW: threshold of the best accuracy on the other folds",
            "folds": f"{len(names)}, "
            + ("consecutive pairs" if isinstance(folds, (int, np.integer)) else "by label"),
            "std": "population, over folds",
            "ties": "the largest of several best thresholds; a score equal to the threshold is accepted",
            "VAL": f"TAR at FAR = {far:g}, the other folds' FAR interpolated between their impostor scores",
        },
        flags=tuple(flags),
    )


def best_accuracy_threshold(genuine: NDArray[Any], impostor: NDArray[Any]) -> float:
    """The largest score at which most pairs are decided rightly, or the next number above all scores."""
    mated, other = np.sort(genuine), np.sort(impostor)
    levels = np.unique(np.concatenate([mated, other]))
    levels = np.append(levels, np.nextafter(levels[-1], levels.dtype.type(np.inf)))
    accepted = mated.size - np.searchsorted(mated, levels, side="left")
    rejected = np.searchsorted(other, levels, side="left")
    right = accepted + rejected
    return float(levels[levels.size - 1 - int(np.argmax(right[::-1]))])


def interpolated_threshold(impostor: NDArray[Any], far: float) -> float | None:
    """Where the FAR, linear between neighbouring impostor scores, is `far`; None below the first step."""
    levels, counts = np.unique(impostor, return_counts=True)
    rates = np.cumsum(counts[::-1]) / impostor.size
    if far < rates[0]:
        return None
    return float(np.interp(far, rates, levels[::-1].astype(np.float64)))


def genuine_flags(genuine: Sequence[bool] | NDArray[Any], pairs: int) -> NDArray[np.bool_]:
    """Booleans from True/False or 1/0, one per pair; InvalidInput naming the first that is neither."""
    array = np.asarray(genuine)
    if array.shape != (pairs,):
        raise InvalidInput("genuine", f"shape {array.shape}; one value for each of {pairs} pairs")
    if array.dtype == np.bool_:
        return array
    yes, no = (np.array([bool(v == want) for v in array.tolist()], dtype=np.bool_) for want in (1, 0))
    wrong = np.flatnonzero(~(yes | no))
    if wrong.size:
        at = int(wrong[0])
        raise InvalidInput("genuine", f"row {at} is {array.tolist()[at]!r}; it is True or 1, or False or 0")
    return yes


def fold_codes(folds: FoldLabels, pairs: int) -> tuple[tuple[str, ...], Ints]:
    """Names of the folds, in order of first appearance, and the fold of every pair."""
    if len(folds) != pairs:
        raise InvalidInput("folds", f"{len(folds)} labels for {pairs} pairs")
    labels = folds.tolist() if isinstance(folds, np.ndarray) else list(folds)
    number: dict[Any, int] = {}
    codes = np.array([number.setdefault(label, len(number)) for label in labels], dtype=np.int64)
    unknown = [label for label in number if not known(label)]
    if unknown:
        raise InvalidInput("folds", f"row {labels.index(unknown[0])} has no fold; every pair is in one")
    if len(number) < 2:
        raise InvalidInput("folds", f"{len(number)} fold; at least 2 are needed to choose on the others")
    return tuple(str(label) for label in number), codes


def _contiguous(folds: int, pairs: int) -> tuple[tuple[str, ...], Ints]:
    if not 2 <= folds <= pairs:
        raise InvalidInput("folds", f"{folds} folds of {pairs} pairs; it is 2–{pairs}")
    sizes = np.full(folds, pairs // folds) + (np.arange(folds) < pairs % folds)
    return tuple(str(k + 1) for k in range(folds)), np.repeat(np.arange(folds), sizes)


def _share(scores: NDArray[Any], threshold: float | None) -> float | None:
    if threshold is None or scores.size == 0:
        return None
    return float((scores >= np.float64(threshold)).mean())


def _one_fold(
    scores: NDArray[Any], genuine: NDArray[np.bool_], inside: NDArray[np.bool_], name: str, far: float
) -> LfwFold:
    mated, other = scores[~inside & genuine], scores[~inside & ~genuine]
    for what, found in (("genuine", mated), ("impostor", other)):
        if found.size == 0:
            raise InvalidInput(
                "folds", f"no {what} pair outside fold {name}: no threshold can be chosen for it"
            )
    threshold = best_accuracy_threshold(mated, other)
    at_far = interpolated_threshold(other, far)
    mine, same = scores[inside], genuine[inside]
    return LfwFold(
        fold=name,
        genuine=int(same.sum()),
        impostor=int((~same).sum()),
        threshold=threshold,
        accuracy=float(((mine >= np.float64(threshold)) == same).mean()),
        val_threshold=at_far,
        val=_share(mine[same], at_far),
        far=_share(mine[~same], at_far),
    )
