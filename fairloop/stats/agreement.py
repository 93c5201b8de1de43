"""How far annotators agree beyond chance (statistics §5).

Every coefficient is a `Measure` whose conventions hold the number of items,
the observed and the expected agreement, and the prevalence of each label: a
coefficient without its prevalence cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.coding import Values, coded, joint, numeric
from fairloop.stats.measure import Floats, Measure
from fairloop.stats.scoring import Ints

Weights = Literal["linear", "quadratic"]

ONE_LABEL = "undefined:only one label occurs, so there is no agreement beyond chance to measure"


def disagreement(labels: int, weights: Weights | None) -> Floats:
    """Weight of each pair of labels, (labels, labels): 0 on the diagonal, 1 for the furthest apart.

    1 off the diagonal without `weights`, |i − j|/(K − 1) linear, (i − j)²/(K − 1)² quadratic.
    """
    if weights not in (None, "linear", "quadratic"):
        raise InvalidInput("weights", f"{weights!r}; allowed are None, 'linear' and 'quadratic'")
    if weights is None or labels < 2:
        return 1.0 - np.eye(labels)
    k = np.arange(labels)
    distance = np.abs(k[:, None] - k[None, :]) / (labels - 1)
    return np.asarray(distance if weights == "linear" else distance**2)


def pair_table(first: Ints, second: Ints, labels: int) -> Ints:
    """Items by the first's and the second's label, (labels, labels)."""
    return np.bincount(first * labels + second, minlength=labels * labels).reshape(labels, labels)


def agreement_rows(tables: Floats) -> Floats:
    """Share of items on the diagonal of (..., K, K)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.trace(tables, axis1=-2, axis2=-1) / tables.sum(axis=(-2, -1)))


def kappa_rows(tables: Floats, weights: Floats) -> Floats:
    """1 − observed / expected disagreement of (..., K, K); NaN where none is expected."""
    total = tables.sum(axis=(-2, -1))
    expected = np.einsum("...i,...j,ij->...", tables.sum(axis=-1), tables.sum(axis=-2), weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = total * (tables * weights).sum(axis=(-2, -1)) / expected
    return np.where(expected > 0, 1.0 - ratio, np.nan)


def ac1_rows(tables: Floats) -> Floats:
    """AC1 of (..., K, K)."""
    labels = tables.shape[-1]
    with np.errstate(invalid="ignore"):
        share = (tables.sum(axis=-1) + tables.sum(axis=-2)) / (2.0 * tables.sum(axis=(-2, -1)))[..., None]
    expected = (share * (1.0 - share)).sum(axis=-1) / max(labels - 1, 1)
    return np.asarray((agreement_rows(tables) - expected) / (1.0 - expected))


def prevalence(names: Sequence[str], counts: Floats | Ints) -> dict[str, float]:
    """Share of each label among all labels given."""
    total = float(counts.sum())
    return {name: float(n) / total for name, n in zip(names, counts, strict=True)}


def _two(
    first: Values, second: Values, labels: Sequence[Any] | None
) -> tuple[tuple[str, ...], Ints, dict[str, Any]]:
    """Label names, the pair table, and the conventions every coefficient of two annotators has."""
    names, one, other = joint(first, second, ("first", "second"), labels)
    both = (one >= 0) & (other >= 0)
    if not both.any():
        raise InvalidInput("first", f"no item has a label of both annotators ({one.size} items)")
    table = pair_table(one[both], other[both], len(names))
    conventions = {
        "items": int(both.sum()),
        "left out": int((~both).sum()),
        "observed agreement": float(agreement_rows(table.astype(np.float64))),
        "prevalence": prevalence(names, table.sum(axis=0) + table.sum(axis=1)),
    }
    return names, table, conventions


def check_order(names: Sequence[str], labels: Sequence[Any] | None, what: str) -> None:
    """InvalidInput when an ordinal measure has to guess the order of labels that are no numbers."""
    if labels is None and any(numeric(name) is None for name in names):
        raise InvalidInput("labels", f"{what} needs the labels in their order; found {', '.join(names)}")


def cohen_kappa(
    first: Values,
    second: Values,
    *,
    weights: Weights | None = None,
    labels: Sequence[Any] | None = None,
) -> Measure:
    """Cohen's κ of two annotators' labels of the same items, at most 1; 1 is full agreement.

    κ = 1 − Σ w·observed / Σ w·expected (Cohen 1960, 1968), w = 1 off the
    diagonal, or for ordinal labels |i − j|/(K − 1) (`weights="linear"`) or
    (i − j)²/(K − 1)² (`"quadratic"`) in the order of `labels`, which may name
    labels that do not occur; labels that are all numbers order themselves. Items
    that either left unlabelled (None, NaN, "") are left out and counted.

    Where both annotators gave one and the same label everywhere it has no value:
    NaN, a flag with the reason, and the observed agreement as `substitute`.
    Raises InvalidInput for lengths that differ, a label that is not in `labels`,
    and weights without an order.

    >>> round(cohen_kappa([1, 1, 2, 2], [1, 1, 2, 1]), 9)
    0.5
    """
    names, table, conventions = _two(first, second, labels)
    if weights is not None:
        check_order(names, labels, "weighted kappa")
    loss = disagreement(len(names), weights)
    value = float(kappa_rows(table.astype(np.float64), loss))
    n = conventions["items"]
    expected = float(table.sum(axis=1) @ loss @ table.sum(axis=0)) / n**2
    conventions["expected disagreement"] = expected
    conventions["weights"] = weights or "none"
    return _measure(value, "Cohen's kappa" if weights is None else f"{weights} weighted kappa", conventions)


def gwet_ac1(first: Values, second: Values, *, labels: Sequence[Any] | None = None) -> Measure:
    """Gwet's AC1 of two annotators: like κ, but steady where one label is rare or common.

    AC1 = (p_a − p_e)/(1 − p_e), p_e = Σ π_k(1 − π_k)/(K − 1), π_k the mean of the
    two annotators' shares (Gwet 2008). K counts `labels`, those that do not occur
    included. With one label only it is the observed agreement, flagged.
    Raises InvalidInput as `cohen_kappa` does.
    """
    names, table, conventions = _two(first, second, labels)
    counts = table.astype(np.float64)
    share = np.array(list(conventions["prevalence"].values()))
    conventions["expected agreement"] = float((share * (1 - share)).sum()) / max(len(names) - 1, 1)
    flags = ("one_label",) if np.count_nonzero(share) == 1 else ()
    return Measure(float(ac1_rows(counts)), "Gwet's AC1", fair=1.0, conventions=conventions, flags=flags)


def fleiss_kappa(
    counts: Sequence[Sequence[int]] | Floats | Ints, *, labels: Sequence[Any] | None = None
) -> Measure:
    """Fleiss' κ of `counts`, shape (images, labels): how many annotators gave each image each label.

    κ = (P̄ − P_e)/(1 − P_e), P̄ the mean share of agreeing pairs of annotators, P_e
    = Σ p_k² (Fleiss 1971). Every image needs the same number of annotators, at
    least two (`krippendorff_alpha` takes missing ones). `labels` name the
    columns. With one label only it is NaN, flagged, as `cohen_kappa`.

    Raises InvalidInput naming the image whose counts are negative or do not add up.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise InvalidInput("counts", f"shape {table.shape}; images by labels is needed")
    names = (
        [str(label) for label in labels] if labels is not None else [str(k) for k in range(table.shape[1])]
    )
    if len(names) != table.shape[1]:
        raise InvalidInput("labels", f"{len(names)} labels for {table.shape[1]} columns of counts")
    wrong = np.flatnonzero(~(np.isfinite(table) & (table >= 0) & (table == np.round(table))).all(axis=1))
    if wrong.size:
        raise InvalidInput("counts", f"image {wrong[0]} has a count that is negative or not whole")
    annotators = table.sum(axis=1)
    odd = np.flatnonzero((annotators != annotators[0]) | (annotators < 2))
    if odd.size:
        raise InvalidInput(
            "counts",
            f"image {odd[0]} has {annotators[odd[0]]:.0f} labels, image 0 {annotators[0]:.0f}; every image "
            "needs the same number, at least 2 (krippendorff_alpha takes missing ones)",
        )
    n = float(annotators[0])
    share = table.sum(axis=0) / table.sum()
    observed = float(((table**2).sum(axis=1) - n).mean() / (n * (n - 1.0)))
    expected = float((share**2).sum())
    conventions: dict[str, Any] = {
        "items": len(table),
        "annotators": int(n),
        "observed agreement": observed,
        "expected agreement": expected,
        "prevalence": prevalence(names, table.sum(axis=0)),
    }
    several = np.count_nonzero(share) > 1
    value = (observed - expected) / (1.0 - expected) if several else float("nan")
    return _measure(value, "Fleiss' kappa", conventions)


def krippendorff_alpha(
    ratings: Sequence[Sequence[Any]] | np.ndarray[Any, Any],
    *,
    level: Literal["nominal", "ordinal"] = "nominal",
    labels: Sequence[Any] | None = None,
) -> Measure:
    """Krippendorff's α of `ratings`, shape (images, annotators), None, NaN or "" where one is missing.

    α = 1 − D_o/D_e over all pairs of labels of the same image (Krippendorff 2004).
    `level="ordinal"` takes the distance of two labels as the number of labels
    given from one to the other, in the order of `labels` (labels that are all
    numbers order themselves). Images with fewer than two labels are left out and
    counted. With one label only it is NaN, flagged, as `cohen_kappa`.

    Raises InvalidInput for another level, rows of different length, and labels without an order.
    """
    if level not in ("nominal", "ordinal"):
        raise InvalidInput("level", f"{level!r}; allowed are 'nominal' and 'ordinal'")
    names, codes = rating_codes(ratings, "ratings", labels)
    if level == "ordinal":
        check_order(names, labels, "ordinal alpha")
    images, k = len(codes), len(names)
    given = codes >= 0
    at = (np.arange(images)[:, None] * k + codes)[given]
    table = np.bincount(at, minlength=images * k).reshape(images, k).astype(np.float64)
    given_each = table.sum(axis=1)
    table, pairable = table[given_each >= 2], given_each[given_each >= 2]
    if pairable.size == 0:
        raise InvalidInput("ratings", f"no image has two labels ({images} images)")
    scaled = table / (pairable - 1.0)[:, None]
    coincidence = table.T @ scaled - np.diag(scaled.sum(axis=0))
    n_label = table.sum(axis=0)
    n = float(n_label.sum())
    distance = _ordinal(n_label) if level == "ordinal" else 1.0 - np.eye(k)
    expected = float(n_label @ distance @ n_label) / (n * (n - 1.0))
    observed = float((coincidence * distance).sum()) / n
    conventions: dict[str, Any] = {
        "items": int(pairable.size),
        "left out": images - int(pairable.size),
        "labels": int(n),
        "level": level,
        "observed agreement": float(np.trace(coincidence)) / n,
        "prevalence": prevalence(names, n_label),
    }
    value = 1.0 - observed / expected if expected > 0 else float("nan")
    return _measure(value, "Krippendorff's alpha", conventions)


def rating_codes(
    ratings: Sequence[Sequence[Any]] | np.ndarray[Any, Any], field: str, labels: Sequence[Any] | None
) -> tuple[tuple[str, ...], Ints]:
    """Label names, and codes of shape (images, annotators) with −1 where a label is missing."""
    flat: Values
    if isinstance(ratings, np.ndarray):
        if ratings.ndim != 2:
            raise InvalidInput(field, f"shape {ratings.shape}; images by annotators is needed")
        shape, flat = (ratings.shape[0], ratings.shape[1]), ratings.ravel()
    else:
        widths = [len(row) for row in ratings]
        if not widths or len(set(widths)) > 1:
            at = next((i for i, width in enumerate(widths) if width != widths[0]), 0)
            found = f"row {at} has {widths[at]} labels, row 0 has {widths[0]}" if widths else "no images"
            raise InvalidInput(field, f"{found}; one label per annotator, None where it is missing")
        shape, flat = (len(widths), widths[0]), [label for row in ratings for label in row]
    names, codes = coded(flat, field, labels)
    if not (codes >= 0).any():
        raise InvalidInput(field, f"no label at all in {shape[0]} images by {shape[1]} annotators")
    return names, codes.reshape(shape)


def _ordinal(counts: Floats) -> Floats:
    """Squared ordinal distances: labels given from one to the other, half of both ends."""
    middle = np.cumsum(counts) - counts / 2.0
    return np.asarray((middle[:, None] - middle[None, :]) ** 2)


def _measure(value: float, formula: str, conventions: dict[str, Any]) -> Measure:
    if np.isfinite(value):
        return Measure(value, formula, fair=1.0, conventions=conventions)
    return Measure(
        value,
        formula,
        fair=1.0,
        conventions=conventions,
        flags=(ONE_LABEL,),
        substitute=conventions["observed agreement"],
    )
