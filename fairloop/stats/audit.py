"""Shares of perceived attributes against a target, with uncertainty (statistics §4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.annotator_error import (
    Confusion,
    Method,
    confusion_matrix,
    corrected_draws,
    corrected_shares,
    default_method,
)
from fairloop.stats.audit_report import AuditReport, CellRecord, RequestedRecord
from fairloop.stats.clusters import proportion_interval
from fairloop.stats.distribution import (
    chi_square_rows,
    distribution,
    entropy_rows,
    jensen_shannon_rows,
    kl_rows,
    target_shares,
    total_variation_rows,
)
from fairloop.stats.gaps import above_zero
from fairloop.stats.intervals import Interval, shifted_percentiles
from fairloop.stats.measure import Floats
from fairloop.stats.report import Summary
from fairloop.stats.roster import Labels, known

OUTCOMES = ("no_face", "uncertain", "failed")
"""Labels of images that belong to no cell: no face found, no certain label, bytes unreadable."""

Ints = NDArray[np.int64]


class _Counts:
    """Images per cell and outcome, in total and by cluster."""

    def __init__(
        self, labels: Labels | Mapping[str, int], cells: Sequence[str], clusters: Labels | None
    ) -> None:
        self.names = (*cells, *OUTCOMES)
        number = {name: k for k, name in enumerate(self.names)}
        self.codes: Ints | None = None
        self.by_cluster: Floats | None = None
        if isinstance(labels, Mapping):
            unknown = [name for name in labels if name not in number]
            if unknown:
                raise InvalidInput("labels", f"{unknown[0]!r} is no cell; there are {', '.join(self.names)}")
            if clusters is not None:
                raise InvalidInput("clusters", "counts cannot be clustered; give one label per image")
            self.total = np.array([int(labels.get(name, 0)) for name in self.names], dtype=np.int64)
            if (self.total < 0).any():
                raise InvalidInput("labels", "a count is negative")
        else:
            self.codes = _codes(labels, number)
            self.total = np.bincount(self.codes, minlength=len(self.names))
            if clusters is not None:
                self.by_cluster = self._clustered(clusters)
        if self.total.sum() == 0:
            raise InvalidInput("labels", "no images")

    def _clustered(self, clusters: Labels) -> Floats:
        assert self.codes is not None
        if len(clusters) != self.codes.size:
            raise InvalidInput("clusters", f"{len(clusters)} values for {self.codes.size} images")
        # An image without a cluster is one of its own.
        texts = [f"={c}" if known(c) else f"#{i}" for i, c in enumerate(clusters)]
        _, self.cluster = np.unique(texts, return_inverse=True)
        return self.table(np.ones(self.codes.size, dtype=np.bool_))

    def table(self, chosen: NDArray[np.bool_]) -> Floats:
        """The `chosen` images by cluster and name, (clusters, names)."""
        assert self.codes is not None
        table = np.zeros((int(self.cluster.max()) + 1, len(self.names)))
        np.add.at(table, (self.cluster[chosen], self.codes[chosen]), 1.0)
        return table

    def replicates(self, replicates: int, rng: np.random.Generator) -> Floats:
        """Counts as other samples of this size would give them, (replicates, names)."""
        n = int(self.total.sum())
        if self.by_cluster is None:
            return rng.multinomial(n, self.total / n, size=replicates).astype(np.float64)
        clusters = len(self.by_cluster)
        if clusters == 1:
            raise InvalidInput("clusters", "one cluster: nothing says how much clusters differ")
        weights = rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=replicates)
        return np.asarray(weights @ self.by_cluster)

    def clusters_behind(self, columns: Sequence[int]) -> int:
        """Clusters with an image in any of these columns; images where there are no clusters."""
        if self.by_cluster is None:
            return int(self.total[list(columns)].sum())
        return int(np.count_nonzero(self.by_cluster[:, list(columns)].sum(axis=1)))


def _codes(labels: Labels, number: Mapping[str, int]) -> Ints:
    uncertain = number["uncertain"]
    codes = np.empty(len(labels), dtype=np.int64)
    for i, label in enumerate(labels):
        code = number.get(str(label)) if known(label) else uncertain
        if code is None:
            raise InvalidInput("labels", f"image {i}: {label!r} is no cell; there are {', '.join(number)}")
        codes[i] = code
    return codes


def share_rows(counts: Floats, total: Floats) -> Floats:
    """counts / total, 0 where the total is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(counts / total)


def _design_effect(shares: Floats, replicates: Floats, images: int) -> float:
    """Mean variance of the shares over that of independent images (Rao & Scott 1981); at least 1."""
    plain = shares * (1 - shares) / images
    return max(1.0, float(replicates.var(axis=0).sum() / plain.sum())) if plain.sum() > 0 else 1.0


_DISTANCES = (
    ("total_variation", "total variation to target", total_variation_rows),
    ("kl_to_target", "KL divergence to target (nats)", kl_rows),
    ("jensen_shannon", "Jensen–Shannon divergence to target (nats)", jensen_shannon_rows),
    ("chi_square", "Σ (p − q)² / q to target", chi_square_rows),
    ("entropy_deficit", "ln K − entropy (nats)", lambda p, q: np.log(p.shape[-1]) - entropy_rows(p)),
)


def _summaries(
    shares: Floats, target: Floats, drawn: Floats, effective: int, rng: np.random.Generator
) -> dict[str, Summary]:
    null = rng.multinomial(effective, target, size=len(drawn)) / effective
    found = {}
    for name, formula, rows in _DISTANCES:
        value = float(rows(shares, target))
        if not np.isfinite(value):
            undefined = ("undefined:a cell outside the target is occupied",)
            found[name] = Summary(name, formula, 0.0, None, None, None, None, None, undefined)
            continue
        replicates = np.asarray(rows(drawn, target))
        found[name] = above_zero(name, formula, value, replicates, np.asarray(rows(null, target)))
    return found


def _requested(
    counts: _Counts, requested: Labels, cells: int, replicates: int, rng: np.random.Generator
) -> tuple[RequestedRecord, ...]:
    if counts.codes is None:
        raise InvalidInput("requested", "counts say nothing about requests; give one label per image")
    if len(requested) != counts.codes.size:
        raise InvalidInput("requested", f"{len(requested)} values for {counts.codes.size} images")
    texts = np.array([str(r) if known(r) else "" for r in requested])
    records = []
    for name in sorted(set(texts.tolist()) - {""}):
        mine = texts == name
        row = np.bincount(counts.codes[mine], minlength=len(counts.names))
        images = int(row.sum())
        at = counts.names.index(name) if name in counts.names[:cells] else None
        hits = None if at is None else int(row[at])
        missing = int(row[cells])
        drawn, behind = _redrawn(counts, mine, replicates, rng)
        whole = range(len(counts.names))
        lost = _interval(row, cells, whole, drawn, behind)
        assert lost is not None
        records.append(
            RequestedRecord(
                requested=name,
                images=images,
                obtained=dict(zip(counts.names, row.tolist(), strict=True)),
                hit_rate=None if hits is None else hits / images,
                hit_interval=None if at is None else _interval(row, at, whole, drawn, behind),
                no_face_rate=missing / images,
                no_face_interval=lost,
            )
        )
    return tuple(records)


def _interval(
    total: Ints, column: int, whole: Sequence[int], drawn: Floats | None, clusters: int
) -> Interval | None:
    """Of one column's share of the columns `whole`; `drawn` are replicates where `clusters` are redrawn."""
    columns = list(whole)
    part = None if drawn is None else share_rows(drawn[:, column], drawn[:, columns].sum(axis=1))
    return proportion_interval(int(total[column]), int(total[columns].sum()), part, clusters)


def _redrawn(
    counts: _Counts, chosen: NDArray[np.bool_], replicates: int, rng: np.random.Generator
) -> tuple[Floats | None, int]:
    """Counts of the `chosen` images with their clusters redrawn, (replicates, names), and how many there are.

    None where no two images share a cluster, and where all are of one, within which
    (seeds of one prompt, say) they are taken as independent.
    """
    images = int(chosen.sum())
    if counts.by_cluster is None:
        return None, images
    table = counts.table(chosen)
    table = table[table.any(axis=1)]
    behind = len(table)
    if behind in (1, images):
        return None, images
    weights = rng.multinomial(behind, np.full(behind, 1.0 / behind), size=replicates)
    return np.asarray(weights @ table), behind


def audit_distribution(
    labels: Labels | Mapping[str, int],
    cells: Sequence[str],
    *,
    target: Sequence[float] | Mapping[str, float] | None = None,
    clusters: Labels | None = None,
    requested: Labels | None = None,
    confusion: Confusion | Sequence[Sequence[float]] | Floats | None = None,
    method: Method | None = None,
    label_source: str = "",
    replicates: int = 1000,
    seed: int = 0,
) -> AuditReport:
    """Shares per cell with intervals, and distances to the target with their null floor.

    Parameters
    ----------
    labels : one per image: a cell, `no_face`, `uncertain` (also None) or `failed`;
        or a mapping from these to counts.
    cells : all cells, in the order of the report; a label outside them is an error.
    target : shares or weights per cell (a mapping or in the order of `cells`); uniform when None.
    clusters : subject, prompt or seed of each image where images are not
        independent; intervals then resample clusters. Otherwise they are Wilson's.
    requested : cell or prompt that each image was made for: requested × obtained, with
        intervals over the clusters of its images where it has several.
    confusion : counts or probabilities, rows true, columns label, in the order
        of `cells`, or checked already (`confusion_matrix`, `joint_confusion`): shares
        are corrected as in `correct_for_annotator`.
    label_source : who labelled, printed with every number and compared by `compare_audits`.

    Raises InvalidInput naming the image for an unknown label, and
    PreconditionFailed for a confusion matrix near singular.
    """
    if not cells or len(set(cells)) != len(cells) or set(cells) & set(OUTCOMES):
        raise InvalidInput("cells", f"needs distinct names other than {', '.join(OUTCOMES)}")
    k = len(cells)
    if isinstance(target, Mapping):
        strange = sorted(set(target) - set(cells))
        if strange:
            raise InvalidInput("target", f"{strange[0]!r} is no cell; there are {', '.join(cells)}")
        target = [float(target.get(cell, 0.0)) for cell in cells]
    q = target_shares(target, k)
    counts = _Counts(labels, cells, clusters)
    rng = np.random.default_rng(seed)
    drawn = counts.replicates(replicates, rng)
    # A replicate without a certain label has no shares; the sample's own say nothing either way.
    drawn[drawn[:, :k].sum(axis=1) == 0] = counts.total
    clustered = counts.by_cluster is not None
    groups = len(counts.by_cluster) if counts.by_cluster is not None else int(counts.total.sum())
    total = counts.total.astype(np.float64)
    certain = float(total[:k].sum())
    faces = certain + float(total[k + 1])
    images = float(total.sum())
    readable = images - float(total[k + 2])
    if certain == 0:
        raise InvalidInput("labels", f"no image has a certain label in a cell ({int(images)} images)")
    drawn_certain = drawn[:, :k].sum(axis=1)
    shares, drawn_shares = total[:k] / certain, share_rows(drawn[:, :k], drawn_certain[:, None])

    of_certain, of_images = range(k), range(k + len(OUTCOMES))
    of_faces, of_readable = [*of_certain, k + 1], range(k + 2)

    def interval(column: int, whole: Sequence[int]) -> Interval | None:
        replicate = drawn if clustered else None
        return _interval(counts.total, column, whole, replicate, counts.clusters_behind(whole))

    corrected: list[tuple[float, Interval] | None] = [None] * k
    flags = ["one_cluster"] if clustered and counts.clusters_behind(of_certain) == 1 else []
    summaries = {}
    if confusion is not None:
        checked = confusion if isinstance(confusion, Confusion) else confusion_matrix(confusion, k)
        if checked.matrix.shape != (k, k):
            raise InvalidInput("confusion", f"shape {checked.matrix.shape} is not {(k, k)}, one row per cell")
        chosen = default_method(k) if method is None else method
        fixed, moved = corrected_shares(checked.matrix, shares, chosen)
        fixed_draws = corrected_draws(checked, drawn_shares, chosen, rng)
        ends = np.quantile(fixed_draws, [0.025, 0.975], axis=0).T
        corrected = [(float(p), (float(lo), float(hi))) for p, (lo, hi) in zip(fixed, ends, strict=True)]
        flags += ["outside_simplex"] if moved else []
        flags += ["confusion_taken_as_exact"] if checked.exact else []
        flags += ["errors_taken_as_independent"] if checked.factors else []
        value = float(total_variation_rows(fixed, q))
        low, high = shifted_percentiles(total_variation_rows(fixed_draws, q), value)
        summaries["corrected_total_variation"] = Summary(
            "corrected_total_variation",
            "total variation to target, corrected for annotator error",
            0.0,
            value,
            (max(low, 0.0), high),
            None,
            None,
            None,
            (),
        )
    effect = _design_effect(shares, drawn_shares, int(certain)) if clustered else 1.0
    summaries = {**_summaries(shares, q, drawn_shares, max(1, round(certain / effect)), rng), **summaries}
    records = tuple(
        CellRecord(
            cell=cell,
            count=int(total[c]),
            share=float(shares[c]),
            interval=interval(c, of_certain),
            share_of_faces=float(total[c] / faces),
            share_of_faces_interval=interval(c, of_faces),
            share_of_images=float(total[c] / images),
            share_of_images_interval=interval(c, of_images),
            target=float(q[c]),
            corrected_share=fixed_share[0] if fixed_share else None,
            corrected_interval=fixed_share[1] if fixed_share else None,
            flags=("empty_cell",) if total[c] == 0 else (),
        )
        for c, (cell, fixed_share) in enumerate(zip(cells, corrected, strict=True))
    )
    spread = "Wilson, images taken as independent"
    if clustered:
        spread = f"percentiles of {replicates} replicates over {groups} clusters, t quantiles"
    return AuditReport(
        cells=records,
        outcomes={name: int(total[k + i]) for i, name in enumerate(OUTCOMES)},
        no_face_rate=float(total[k] / readable) if readable else 0.0,
        no_face_interval=interval(k, of_readable),
        uncertain_rate=float(total[k + 1] / faces),
        uncertain_interval=interval(k + 1, of_faces),
        summaries=summaries,
        distribution=distribution(total[:k], q, images=int(certain)),
        requested=() if requested is None else _requested(counts, requested, k, replicates, rng),
        label_source=label_source,
        counts={"images": int(images), "faces": int(faces), "certain": int(certain), "clusters": groups},
        conventions={
            "labels": f"perceived, from {label_source or 'an unnamed source'}",
            "intervals": f"95 %, {spread}",
            "null": "multinomial from the target"
            + (
                f", {certain:.0f} images worth {certain / effect:.0f} (design effect {effect:.2f})"
                if clustered
                else ""
            ),
            "entropy": "nats",
            "seed": str(seed),
        },
        flags=tuple(flags),
        draws=drawn,
    )
