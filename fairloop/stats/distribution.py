"""How observed shares differ from a target (statistics §4). Entropies are in nats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.measure import Floats, rates


@dataclass(frozen=True)
class Distribution:
    """Measures of shares p over K cells against target shares q.

    A value is None where its formula has none, and `flags` says why.
    """

    cells: int
    images: int | None
    """Number of images the shares were taken over; None when only shares were given."""
    shares: tuple[float, ...]
    target: tuple[float, ...]
    entropy: float
    """H = −Σ p ln p."""
    normalised_entropy: float | None
    """H / ln K, 1 when uniform; None for one cell."""
    miller_madow_entropy: float | None
    """H + (occupied cells − 1) / 2n (Miller 1955)."""
    kl_to_target: float | None
    """KL(p‖q) = Σ p ln(p/q); None when a cell has p > 0 and q = 0."""
    jensen_shannon: float
    """Divergence (not its root), 0 to ln 2."""
    total_variation: float
    """TV = ½ Σ |p − q|, 0 to 1."""
    chi_square: float | None
    """n · Σ (p − q)² / q, on K − 1 degrees of freedom; None without n or with a q of 0."""
    mean_absolute_deviation: float
    """(1/K) Σ |p − 1/K|: from uniform, whatever the target."""
    mean_pairwise_gap: float | None
    """Mean of |pᵢ − pⱼ| over pairs of cells; None for one cell."""
    gini_simpson: float
    """1 − Σ p²."""
    imbalance_ratio: float | None
    """max p / min p; None when a cell is empty."""
    flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def entropy_rows(p: Floats) -> Floats:
    """−Σ p ln p along the last axis, 0 ln 0 = 0."""
    return np.asarray(-np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1))


def total_variation_rows(p: Floats, q: Floats) -> Floats:
    return np.asarray(0.5 * np.abs(p - q).sum(axis=-1))


def kl_rows(p: Floats, q: Floats) -> Floats:
    """KL(p‖q) along the last axis; infinite where p > 0 = q."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(np.where(p > 0, p, 1.0)) - np.log(q)), 0.0)
    return np.asarray(terms.sum(axis=-1))


def jensen_shannon_rows(p: Floats, q: Floats) -> Floats:
    # Rounding can take equal distributions below 0 by an ulp.
    return np.maximum(entropy_rows((p + q) / 2) - (entropy_rows(p) + entropy_rows(q)) / 2, 0.0)


def chi_square_rows(p: Floats, q: Floats) -> Floats:
    """Σ (p − q)² / q along the last axis, without the factor n."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(q > 0, (p - q) ** 2 / q, np.where(p > 0, np.inf, 0.0))
    return np.asarray(terms.sum(axis=-1))


def target_shares(target: Sequence[float] | Floats | None, cells: int) -> Floats:
    """Target shares that sum to 1; uniform when None. Weights are normalised."""
    if target is None:
        return np.full(cells, 1.0 / cells)
    q = rates(target, "target", highest=np.inf)
    if q.size != cells:
        raise InvalidInput("target", f"{q.size} values for {cells} cells")
    if q.sum() == 0:
        raise InvalidInput("target", "all values are 0; they are shares or weights")
    return np.asarray(q / q.sum())


def distribution(
    counts: Sequence[float] | Floats,
    target: Sequence[float] | Floats | None = None,
    *,
    images: int | None = None,
) -> Distribution:
    """All distances of observed shares from a target.

    `counts` are images per cell, or shares, in which case `images` says over
    how many they were taken (measures that need n are None without it).
    `target` are shares or weights per cell, uniform when None. Raises
    InvalidInput for negative values, all zero, or lengths that differ.

    >>> round(distribution([.7, .1, .1, .1]).total_variation, 9)
    0.45
    """
    x = rates(counts, "counts", highest=np.inf)
    total = float(x.sum())
    if total == 0:
        raise InvalidInput("counts", "all cells are empty; at least one image is needed")
    if images is None and total > 1.5 and np.array_equal(x, np.round(x)):
        images = int(total)
    p, q, k = x / total, target_shares(target, x.size), x.size
    flags = []
    if np.any((q == 0) & (p > 0)):
        flags.append("outside_target")
    if p.min() == 0:
        flags.append("empty_cell")
    entropy = float(entropy_rows(p))
    ordered = np.sort(p)
    pairwise = ordered @ (2.0 * np.arange(1, k + 1) - k - 1)
    return Distribution(
        cells=k,
        images=images,
        shares=tuple(p.tolist()),
        target=tuple(q.tolist()),
        entropy=entropy,
        normalised_entropy=entropy / float(np.log(k)) if k > 1 else None,
        miller_madow_entropy=None if images is None else entropy + (int((p > 0).sum()) - 1) / (2 * images),
        kl_to_target=None if "outside_target" in flags else max(float(kl_rows(p, q)), 0.0),
        jensen_shannon=float(jensen_shannon_rows(p, q)),
        total_variation=float(total_variation_rows(p, q)),
        chi_square=None if images is None or (q == 0).any() else images * float(chi_square_rows(p, q)),
        mean_absolute_deviation=float(np.abs(p - 1.0 / k).mean()),
        mean_pairwise_gap=float(pairwise / (k * (k - 1) / 2)) if k > 1 else None,
        gini_simpson=float(1.0 - (p**2).sum()),
        imbalance_ratio=float(p.max() / p.min()) if p.min() > 0 else None,
        flags=tuple(flags),
    )
