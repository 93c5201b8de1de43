"""Figures of a report, drawn from its document: PNG for files, SVG for the page.

Every figure says how many images or comparisons it shows, at which threshold,
and where the labels came from.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from fairloop.reporting.document import (
    ArmRates,
    DifferenceValue,
    Document,
    Estimate,
    GroupRates,
    Shares,
    Verification,
)
from fairloop.reporting.drawing import (
    AFTER,
    ARM_STYLES,
    BAND,
    BEFORE,
    FAINT,
    INK,
    STYLE,
    Plot,
    footnote,
    percent,
    point,
    readable,
    rendered,
)
from fairloop.stats import ScoreDensity


def shares_figure(shares: Shares) -> Plot:
    """Share of every cell with its interval, before and after, and the target."""
    rows = shares.cells
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(8.2, 1.6 + 0.5 * len(rows)))
        ax = canvas.add_axes((0.22, 0.19, 0.75, 0.71))
        both = any(row.before for row in rows)
        for k, row in enumerate(rows):
            at = len(rows) - 1 - k
            if row.before is not None:
                name = f"{shares.before_name} ({shares.before_images:,} images)" if k == 0 else None
                point(ax, row.before, at + 0.14, ARM_STYLES[0], name)
            if row.after is not None:
                name = f"{shares.after_name} ({shares.after_images:,} images)" if k == 0 else None
                point(ax, row.after, at - (0.14 if both else 0.0), ARM_STYLES[1], name)
            ax.plot(
                [row.target] * 2,
                [at - 0.36, at + 0.36],
                color=INK,
                linewidth=1.3,
                linestyle=(0, (3, 2)),
                label="target" if k == 0 else None,
            )
        ax.set_yticks(range(len(rows)), [readable(row.cell) for row in reversed(rows)])
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_xlim(left=0)
        ax.set_xlabel("share of images with a certain label")
        ax.grid(axis="x")
        percent(ax)
        ax.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handletextpad=0.4, columnspacing=1.4
        )
        footnote(canvas, f"95 % intervals. Perceived labels: {shares.label_source}. Sample: {shares.sample}.")
        return rendered(
            canvas,
            "shares",
            "Shares per cell",
            "Share of every cell with its 95 % interval; the dashed line is the target. "
            f"Perceived labels from {shares.label_source}; {shares.sample}.",
            _shares_text(shares),
            "shares",
        )


def _shares_text(shares: Shares) -> str:
    parts = []
    for row in shares.cells:
        ends = [
            f"{100 * e.value:.1f} %" for e in (row.before, row.after) if e is not None and e.value is not None
        ]
        parts.append(f"{readable(row.cell)} {' to '.join(ends)}")
    return f"Shares per cell, {shares.before_name} to {shares.after_name}: " + "; ".join(parts) + "."


Pick = Callable[[GroupRates], tuple[Estimate, tuple[float, float] | None]]

_PANELS: tuple[tuple[str, str, Pick], ...] = (
    ("FMR at the common threshold", "false match rate", lambda g: (g.fmr, g.fmr_null)),
    ("FNMR at the common threshold", "false non-match rate", lambda g: (g.fnmr, g.fnmr_null)),
    (
        "FNMR at each group's own threshold",
        "false non-match rate",
        lambda g: (g.fnmr_at_own_threshold, g.fnmr_at_own_threshold_null),
    ),
)


def rates_figure(verification: Verification) -> Plot:
    """FMR and FNMR per group and arm, with intervals and where equal groups would lie."""
    arms = verification.arms
    names = [group.group for group in arms[0].groups]
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(8.2, 2.1 + 0.3 * len(names) * len(arms)))
        for panel, (title, axis, pick) in enumerate(_PANELS):
            ax = canvas.add_axes((0.1 + 0.305 * panel, 0.29, 0.27, 0.5))
            _rate_panel(ax, arms, names, pick, labels=panel == 0)
            ax.set_title("\n".join(textwrap.wrap(title, 24)))
            ax.set_xlabel(axis)
            if panel == 0:
                handles, labels = ax.get_legend_handles_labels()
        canvas.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(0.09, 1.0),
            ncols=len(labels),
            handletextpad=0.5,
        )
        counts = "; ".join(
            f"{readable(g.group)}: {g.subjects:,} subjects, {g.genuine:,} genuine and "
            f"{g.impostor:,} impostor pairs"
            for g in arms[0].groups
        )
        note = f"{counts}. Threshold: {verification.threshold_policy}. Groups: {verification.group_source}."
        footnote(canvas, "95 % intervals over seeds and subjects. " + note)
        return rendered(
            canvas,
            "rates",
            "Error rates per group",
            "Means over training runs with 95 % intervals over seeds and subjects. Grey: where 95 % of this "
            f"group's rates would lie if all groups had the arm's pooled rate. {note}",
            _rates_text(arms),
            "verification",
        )


def _rate_panel(
    ax: Axes, arms: Sequence[ArmRates], names: Sequence[str], pick: Pick, *, labels: bool
) -> None:
    for g, name in enumerate(names):
        for a, arm in enumerate(arms):
            at = (len(names) - 1 - g) - 0.22 * (a - (len(arms) - 1) / 2) * 2
            group = next(group for group in arm.groups if group.group == name)
            estimate, band = pick(group)
            if band is not None:
                ax.fill_betweenx(
                    [at - 0.17, at + 0.17],
                    *band,
                    color=BAND,
                    alpha=0.6,
                    linewidth=0,
                    label="if groups were equal" if g == a == 0 else None,
                )
            point(ax, estimate, at, ARM_STYLES[a % 2], f"{arm.name} ({arm.runs} runs)" if g == 0 else None)
    ax.set_yticks(range(len(names)), [readable(n) for n in reversed(names)] if labels else [""] * len(names))
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    ax.grid(axis="x")
    percent(ax)


def _rates_text(arms: Sequence[ArmRates]) -> str:
    parts = []
    for arm in arms:
        for group in arm.groups:
            rates = (
                (group.fmr, "FMR"),
                (group.fnmr, "FNMR"),
                (group.fnmr_at_own_threshold, "FNMR at own threshold"),
            )
            words = [f"{name} {100 * e.value:.2f} %" for e, name in rates if e.value is not None]
            parts.append(f"{arm.name}, {readable(group.group)}: {', '.join(words)}")
    return "Error rates per group. " + "; ".join(parts) + "."


def differences_figure(verification: Verification, shown: Sequence[str] | None = None) -> Plot:
    """The paired difference of every training run as a dot, and the interval that decides."""
    chosen = shown or (verification.measure, "garbe", "fnmr_gap", "gini_fmr")
    rows = [d for name in dict.fromkeys(chosen) for d in verification.differences if d.name == name]
    first, second = (arm.name for arm in verification.arms)
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(8.2, 1.6 + 0.55 * len(rows)))
        ax = canvas.add_axes((0.3, 0.25, 0.67, 0.63))
        for k, row in enumerate(rows):
            at = len(rows) - 1 - k
            _difference_row(ax, row, at, labelled=k == 0)
        ax.axvline(0, color=INK, linewidth=1.1)
        ax.set_yticks(
            range(len(rows)),
            ["\n".join(textwrap.wrap(_short(row), 30)) for row in reversed(rows)],
            fontsize=9,
        )
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_xlabel(f"{second} − {first} (left of 0: the gap is smaller)")
        ax.grid(axis="x")
        ax.legend(
            loc="lower left", bbox_to_anchor=(-0.45, 1.0), ncols=3, handletextpad=0.4, columnspacing=1.2
        )
        decides = rows[0].decides if rows else "no interval"
        note = f"Groups: {verification.group_source}. Threshold: {verification.threshold_policy}."
        footnote(canvas, f"The bold interval decides: {decides}. {note}")
        return rendered(
            canvas,
            "differences",
            "Paired differences",
            f"{second} minus {first} on the same images. One dot per training run; the bold 95 % interval "
            f"decides ({decides}); the thin one resamples seeds and subjects together. {note}",
            _differences_text(rows),
            "verification",
        )


def _short(row: DifferenceValue) -> str:
    return row.formula.partition(" (")[0]


def _difference_row(ax: Axes, row: DifferenceValue, at: float, *, labelled: bool) -> None:
    if row.joint.low is not None and row.joint.high is not None:
        ax.plot(
            [row.joint.low, row.joint.high],
            [at - 0.2] * 2,
            color=FAINT,
            linewidth=1.2,
            label="seeds and subjects resampled" if labelled else None,
        )
    if row.estimate.low is not None and row.estimate.high is not None:
        ax.plot(
            [row.estimate.low, row.estimate.high],
            [at] * 2,
            color=AFTER,
            linewidth=3.2,
            solid_capstyle="butt",
            label="95 % interval that decides" if labelled else None,
        )
    # Runs that agree would hide one another on a line.
    lift = 0.22 + 0.06 * (np.arange(len(row.by_seed)) % 2)
    ax.plot(
        row.by_seed,
        at + lift,
        linestyle="none",
        marker="o",
        markersize=6,
        markerfacecolor="white",
        markeredgecolor=BEFORE,
        markeredgewidth=1.5,
        label="training runs" if labelled else None,
    )
    if row.estimate.value is not None:
        ax.plot([row.estimate.value], [at], marker="D", color=AFTER, markersize=6.5, markeredgecolor="white")


def _differences_text(rows: Sequence[DifferenceValue]) -> str:
    parts = []
    for row in rows:
        e = row.estimate
        if e.value is not None and e.low is not None and e.high is not None:
            parts.append(f"{_short(row)} {e.value:+.3f}, interval {e.low:+.3f} to {e.high:+.3f}")
    return "Paired differences. " + "; ".join(parts) + "."


def densities_figure(
    densities: Mapping[str, Sequence[ScoreDensity]], verification: Verification, run: int = 0
) -> Plot:
    """Genuine and impostor score densities of every group, one column per arm, with that run's thresholds."""
    arms = [arm for arm in verification.arms if arm.name in densities]
    names = [density.group for density in densities[arms[0].name]]
    largest = max(max(*d.genuine, *d.impostor) for arm in arms for d in densities[arm.name])
    with mpl.rc_context(STYLE):
        height = 1.8 + 1.2 * len(names)
        canvas = Canvas(figsize=(8.2, height))
        grid = canvas.subplots(len(names), len(arms), sharex=True, sharey=True, squeeze=False)
        canvas.subplots_adjust(
            left=0.13, right=0.98, top=1 - 0.65 / height, bottom=1.05 / height, hspace=0.25, wspace=0.08
        )
        for a, arm in enumerate(arms):
            for g, density in enumerate(densities[arm.name]):
                ax = grid[g, a]
                ax.stairs(
                    density.impostor,
                    density.edges,
                    color=BEFORE,
                    fill=True,
                    alpha=0.3,
                    label="different people",
                )
                ax.stairs(density.impostor, density.edges, color=BEFORE, linewidth=1.4)
                ax.stairs(
                    density.genuine,
                    density.edges,
                    color=AFTER,
                    linewidth=2.0,
                    linestyle="-",
                    label="same person",
                )
                if run < len(arm.thresholds):
                    ax.axvline(
                        arm.thresholds[run],
                        color=INK,
                        linewidth=1.2,
                        linestyle=(0, (4, 2)),
                        label="common threshold",
                    )
                ax.set_ylim(0, largest * 1.05)
                ax.set_yticks([])
                ax.spines["left"].set_visible(False)
                if a == 0:
                    ax.set_ylabel(readable(density.group), rotation=0, ha="right", va="center", labelpad=10)
                if g == 0:
                    ax.set_title(f"{arm.name}, run {run + 1}", fontsize=10, pad=4)
        for ax in grid[-1]:
            ax.set_xlabel("cosine similarity")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="upper right", ncols=3, fontsize=9, bbox_to_anchor=(0.99, 1.0))
        counts = "; ".join(
            f"{readable(d.group)}: {d.genuine_scores:,} genuine, {d.impostor_scores:,} impostor scores"
            for d in densities[arms[0].name]
        )
        note = f"{counts}, from at most 800 images a group. Groups: {verification.group_source}."
        footnote(canvas, f"{note} Threshold: {verification.threshold_policy}.")
        return rendered(
            canvas,
            "densities",
            "Score densities per group",
            f"How similar run {run + 1} of each arm finds images of one person and of different people. "
            f"{note}",
            f"Score densities of genuine and impostor pairs for {', '.join(readable(n) for n in names)} "
            f"in {' and '.join(arm.name for arm in arms)}.",
            "verification",
        )


def figures(
    document: Document, densities: Mapping[str, Sequence[ScoreDensity]] | None = None
) -> tuple[Plot, ...]:
    """Every figure that the document has the numbers for."""
    found = []
    if document.shares is not None:
        found.append(shares_figure(document.shares))
    if document.verification is not None:
        found.append(rates_figure(document.verification))
        if document.verification.differences and len(document.verification.arms) == 2:
            found.append(differences_figure(document.verification))
        if densities:
            found.append(densities_figure(densities, document.verification))
    return tuple(found)


__all__ = ["Plot", "densities_figure", "differences_figure", "figures", "rates_figure", "shares_figure"]
