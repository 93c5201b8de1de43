"""Verification error rates per group of a given list of scored pairs (RFW, BFW, LFW style)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.curves import allowed_errors, threshold_from_tail
from fairloop.stats.evaluation import InReplicates, Method, Options, check_choice, finish
from fairloop.stats.lfw import FoldLabels, best_accuracy_threshold, fold_codes
from fairloop.stats.pair_list import (
    PairGroups,
    PairList,
    PairScores,
    pair_list,
    sample_of_pairs,
    scores_by_group,
)
from fairloop.stats.report import VerificationReport
from fairloop.stats.resampling import Float32s
from fairloop.stats.roster import Labels
from fairloop.stats.scoring import Ints
from fairloop.stats.tails import (
    Impostors,
    PooledScores,
    equal_error,
    equal_error_threshold,
    pooled_threshold,
)

Policy = Literal["eer", "10_fold_accuracy"]
FoldThresholds = Literal["common", "per_group"]

WITHOUT_IDS = (
    "no subject ids: intervals and null floors ignore that pairs share people, so they are too narrow "
    "and p-values too small; labels could not be checked against subjects"
)


def evaluate_pairs(
    scores: PairScores,
    genuine: Sequence[bool] | NDArray[Any],
    groups: PairGroups,
    *,
    subjects: tuple[Labels, Labels] | None = None,
    fmr: float | None = None,
    threshold: float | None = None,
    policy: Policy | None = None,
    alpha: float = 0.5,
    impostors: Impostors = "within_group",
    replicates: int = 1000,
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
    threshold_in_replicates: InReplicates = "fixed",
    method: Method = "shrunk",
    folds: FoldLabels | None = None,
    fold_thresholds: FoldThresholds = "common",
    seed: int = 0,
) -> VerificationReport:
    """FMR and FNMR of every group over the pairs of a list, and every summary of §2.

    With all pairs of a set of images it is what `evaluate_verification` reports.
    A record's `images` are the rows of the list that name the group, and `fta`
    the share of them that failed: a list does not say which image failed.

    Parameters
    ----------
    scores : (pairs,) similarities of any scale, accepted at or above the threshold;
        None for a pair that has none because an image failed. For distances see
        `similarity_from_distance`.
    genuine : (pairs,) True or 1 where both images show one person, False or 0 where not.
    groups : one label per pair, or a tuple of the labels of the first sides and those
        of the second sides. A mapping attribute → labels stands for an intersection.
        A pair with an unknown label (None, NaN, "") is in no comparison and counted.
    subjects : ids of the first sides and of the second sides. A pair with an unknown
        id is left out of every rate, counted and flagged: it cannot be weighed with the
        pairs that it shares a person with. None when there are no ids: pairs are taken
        as independent and the report carries `no_subject_ids`.
    fmr, threshold, alpha, threshold_in_replicates, method, seed : as in
        `evaluate_verification`; `method` needs `subjects`.
    policy : "eer" takes the threshold where FMR and FNMR over all are equal;
        "10_fold_accuracy" (needs `folds`) the most accurate one on the other folds.
    impostors : what happens to impostor pairs whose sides differ in group: left out and
        counted with "within_group", counted in both groups (once over all) with "all".
        Genuine pairs across groups are always left out and counted.
    replicates : subject-weight replicates, and draws of the null.
    failures : True for pairs whose score is not read: non-matches (genuine) and
        rejections (impostor) in the generalised rates, in no other.
    folds : one label per pair: each fold is judged at the threshold that `fmr` or
        `policy` chooses on all other folds (calibration apart from test). Scores become
        margins over that threshold and the report's threshold is 0; its `fmr` is the
        one achieved. `folds_share_subjects` is flagged when people are in several folds.

    Raises
    ------
    InvalidInput naming the field, and the row where there is one: a score that is NaN
    or infinite and no failure, a genuine pair of two subjects, an impostor pair of one,
    lengths that differ, no impostor pair at all, fewer than 1/`fmr` impostor pairs, not
    exactly one of `fmr`, `threshold`, `policy`.
    """
    options = Options(alpha, replicates, threshold_in_replicates, method, seed=seed)
    _check(fmr, threshold, policy, impostors, folds is not None, options, subjects is not None)
    if fold_thresholds != "common":
        _check_per_group(fold_thresholds, fmr, impostors, folds is not None)
    pairs = pair_list(scores, genuine, groups, subjects, failures)
    conventions: dict[str, str] = {}
    flags: list[str] = []
    score = pairs.score
    if folds is not None:
        names, codes = fold_codes(folds, score.size)
        used = pairs.compared(impostors) & ~pairs.failed
        flags += _shared_by_folds(pairs, codes, len(names))
        if fold_thresholds == "per_group":
            assert fmr is not None
            margins, conventions = _own_margins(pairs, used, names, codes, fmr)
            score = score.astype(np.float64) - margins
        else:
            levels = _fold_thresholds(pairs, used, names, codes, fmr, policy)
            score = score.astype(np.float64) - levels[codes]
            conventions["thresholds of folds"] = _listed(names, levels)
    pooled = scores_by_group(pairs, score, impostors)
    common = 0.0 if folds is not None else _common_threshold(pooled, fmr, threshold, policy)
    target = pooled.false_matches(common) / pooled.impostor if fmr is None else fmr
    return finish(
        pooled,
        sample_of_pairs(pairs, impostors, flags),
        threshold=common,
        target=target,
        chosen=threshold is None and folds is None,
        equal_error=policy == "eer",
        within=impostors == "within_group",
        options=options,
        conventions={
            **_conventions(fmr, threshold, policy, impostors, target, pairs, folds is not None),
            **conventions,
        },
        streams=options.streams(),
    )


def _check_per_group(chosen: str, fmr: float | None, impostors: str, folds: bool) -> None:
    if chosen != "per_group":
        raise InvalidInput("fold_thresholds", f"{chosen!r}; it is 'common' or 'per_group'")
    if not folds or fmr is None:
        raise InvalidInput("fold_thresholds", "'per_group' needs `folds` and `fmr`, which choose them")
    if impostors != "within_group":
        raise InvalidInput(
            "fold_thresholds", "'per_group' needs impostors within groups: a pair across has two thresholds"
        )


def _check(
    fmr: float | None,
    threshold: float | None,
    policy: str | None,
    impostors: str,
    folds: bool,
    options: Options,
    identified: bool,
) -> None:
    check_choice(fmr, threshold, policy, impostors, policies=("eer", "10_fold_accuracy"))
    if policy == "10_fold_accuracy" and not folds:
        raise InvalidInput("folds", "10_fold_accuracy needs the fold of every pair")
    if folds and threshold is not None:
        raise InvalidInput("folds", "folds choose the threshold; give `fmr` or `policy`, not `threshold`")
    if folds and options.threshold_in_replicates != "fixed":
        raise InvalidInput(
            "threshold_in_replicates", "with `folds` it is 'fixed': thresholds come from elsewhere"
        )
    if options.method != "shrunk" and not identified:
        raise InvalidInput("method", f"{options.method} needs `subjects`")


def _common_threshold(
    scores: PooledScores, fmr: float | None, threshold: float | None, policy: str | None
) -> float:
    if threshold is not None:
        return threshold
    if policy == "eer":
        if not any(group.genuine.size for group in scores.groups):
            raise InvalidInput(
                "policy", "eer needs genuine pairs; the list has none with a score and a group"
            )
        return equal_error_threshold(scores)
    assert fmr is not None
    return pooled_threshold(scores, fmr)


def _fold_thresholds(
    pairs: PairList,
    used: NDArray[np.bool_],
    names: Sequence[str],
    codes: Ints,
    fmr: float | None,
    policy: str | None,
) -> NDArray[np.float64]:
    """The threshold of every fold, chosen on the pairs that are `used` in all others."""
    found = np.empty(len(names))
    for code, name in enumerate(names):
        rest = used & (codes != code)
        mated = np.sort(pairs.score[rest & pairs.genuine])
        other = np.sort(pairs.score[rest & ~pairs.genuine])[::-1]
        if other.size == 0 or (mated.size == 0 and policy is not None):
            what = "impostor" if other.size == 0 else "genuine"
            raise InvalidInput(
                "folds", f"no {what} pair outside fold {name}: no threshold can be chosen for it"
            )
        if policy == "eer":
            found[code] = equal_error(cast(Float32s, mated), cast(Float32s, other), other.size)
        elif policy == "10_fold_accuracy":
            found[code] = best_accuracy_threshold(mated, other)
        else:
            assert fmr is not None
            allowed = allowed_errors(fmr, other.size)
            if allowed < 1:
                raise InvalidInput(
                    "fmr",
                    f"undefined at {fmr:g} for fold {name}: {other.size} impostor pairs in the others, "
                    f"at least {1 / fmr:.0f} needed",
                )
            found[code] = threshold_from_tail(other, allowed, [mated])
    return found


def _own_margins(
    pairs: PairList, used: NDArray[np.bool_], names: Sequence[str], codes: Ints, fmr: float
) -> tuple[NDArray[np.float64], dict[str, str]]:
    """The threshold that judges each pair: of its group, chosen on the group's pairs of all other folds.

    Also the thresholds in words. Pairs outside all comparisons get 0.
    """
    found = np.zeros(pairs.score.size)
    told = []
    for code, group in enumerate(pairs.people.group_names):
        mine = (pairs.first_group == code) & (pairs.second_group == code)
        if not (used & mine).any():
            continue
        try:
            levels = _fold_thresholds(pairs, used & mine, names, codes, fmr, None)
        except InvalidInput as error:
            first = error.violations[0]
            raise InvalidInput(first.field, f"group {group}: {first.description}") from error
        found[mine] = levels[codes[mine]]
        told.append(f"{group}: {_listed(names, levels)}")
    return found, {
        "threshold policy": f"for each group the smallest with FMR ≤ {fmr:g} over its own listed "
        "impostor pairs, on the other folds",
        "thresholds of folds": "; ".join(told),
    }


def _listed(names: Sequence[str], levels: NDArray[np.float64]) -> str:
    return ", ".join(f"{name} {level:.6g}" for name, level in zip(names, levels.tolist(), strict=True))


def _shared_by_folds(pairs: PairList, codes: Ints, folds: int) -> list[str]:
    """The flag for subjects that are in several folds: calibration and test are not apart."""
    if pairs.first is None or pairs.second is None:
        return []
    who, where = np.concatenate([pairs.first, pairs.second]), np.concatenate([codes, codes])
    subject = np.unique(who[who >= 0] * folds + where[who >= 0]) // folds
    several = np.flatnonzero(np.bincount(subject, minlength=1) > 1)
    if not several.size:
        return []
    return [f"folds_share_subjects:{several.size}, such as {pairs.people.subject_names[several[0]]}"]


def _conventions(
    fmr: float | None,
    threshold: float | None,
    policy: str | None,
    impostors: Impostors,
    target: float,
    pairs: PairList,
    folded: bool,
) -> dict[str, str]:
    """How thresholds were chosen and who was compared, in words."""
    if threshold is not None:
        chosen = f"fixed at {threshold:.6g}"
    elif policy == "eer":
        chosen = "equal error rate over all groups"
    elif policy == "10_fold_accuracy":
        chosen = "best accuracy over all groups"
    else:
        chosen = f"smallest with FMR ≤ {fmr:g} over all {impostors.replace('_', '-')} impostor pairs"
    if folded:
        chosen += ", on the other folds"
    score = (
        "margins of the list's scores over their fold's threshold" if folded else "similarities of the list"
    )
    return {
        "threshold policy": chosen,
        "own thresholds": f"smallest with FMR ≤ {target:.4g} over the group's impostor pairs",
        "scores": f"{score}, accepted at or above the threshold",
        "impostors": "listed pairs within groups" if impostors == "within_group" else "all listed pairs",
        "images": "rows of the list that name the group; FTA is the share of them that failed",
        **({} if pairs.first is not None else {"guarantees lost": WITHOUT_IDS}),
    }
