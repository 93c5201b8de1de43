"""How genuine and impostor scores of every group are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from fairloop.reporting.drawing import (
    AFTER,
    BEFORE,
    INK,
    WIDTH,
    Plot,
    drawable,
    drawn_names,
    name_room,
    rendered,
    sheet,
    styled,
)
from fairloop.reporting.measured import Verification
from fairloop.reporting.wording import LISTED, listed, readable, span
from fairloop.stats.densities import ScoreDensity

Densities = Mapping[str, Sequence[ScoreDensity]]


@styled
def densities_canvas(densities: Densities, verification: Verification, run: int = 0) -> Canvas:
    """One row per group, one column per arm, with that run's common threshold."""
    arms = [arm for arm in verification.arms if arm.name in densities]
    groups = [density.group for density in densities[arms[0].name]]
    names = drawn_names(groups, 26)
    largest = max(max(*d.genuine, *d.impostor) for arm in arms for d in densities[arm.name])
    each = min(1.2, max(0.5, 7.5 / len(groups)))
    title = 0.3 if len(arms) > 1 else 0.05
    paper = sheet(each * len(groups) + 0.95 + title, _note(densities, verification))
    left = name_room(names)
    wide = (WIDTH - left - 0.12) / len(arms)
    handles: list[Any] = []
    labels: list[str] = []
    for a, arm in enumerate(arms):
        for g, density in enumerate(densities[arm.name]):
            ax = paper.axes(left + a * wide, 0.55 + each * (len(groups) - 1 - g), wide - 0.1, 0.88 * each)
            threshold = arm.thresholds[run] if run < len(arm.thresholds) else None
            _panel(ax, density, largest, threshold)
            if a == 0:
                ax.set_ylabel(names[g], rotation=0, ha="right", va="center", labelpad=8)
            if g == 0 and len(arms) > 1:
                ax.set_title(f"{drawable(arm.name)}, run {run + 1}", fontsize=10, pad=4)
            ax.xaxis.set_major_locator(MaxNLocator(8 // len(arms)))
            if g == len(groups) - 1:
                ax.set_xlabel("similarity score")
            else:
                ax.tick_params(labelbottom=False)
            handles, labels = ax.get_legend_handles_labels()
    paper.canvas.legend(handles, labels, loc="upper right", ncols=3, bbox_to_anchor=(0.995, 1.0))
    return paper.canvas


def _panel(ax: Axes, density: ScoreDensity, largest: float, threshold: float | None) -> None:
    ax.stairs(density.impostor, density.edges, color=BEFORE, fill=True, alpha=0.3, label="different people")
    ax.stairs(density.impostor, density.edges, color=BEFORE, linewidth=1.4)
    ax.stairs(density.genuine, density.edges, color=AFTER, linewidth=2.0, label="same person")
    if threshold is not None:
        ax.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label="common threshold")
    ax.set_xlim(density.edges[0], density.edges[-1])
    ax.set_ylim(0, largest * 1.05)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _note(densities: Densities, verification: Verification) -> str:
    first = next(densities[arm.name] for arm in verification.arms if arm.name in densities)
    if len(first) <= LISTED:
        counts = "; ".join(
            f"{readable(d.group)}: {d.genuine_scores:,} genuine, {d.impostor_scores:,} impostor scores"
            for d in first
        )
    else:
        counts = (
            f"{len(first)} groups of {span(d.genuine_scores for d in first)} genuine and "
            f"{span(d.impostor_scores for d in first)} impostor scores each"
        )
    groups = verification.arms[0].groups
    genuine = {g.group: g.genuine or 0 for g in groups}
    sampled = any(d.genuine_scores < genuine.get(d.group, 0) for d in first)
    sample = " (a seeded sample of subjects where a group is large)" if sampled else ""
    return (
        f"{counts}, of {span(g.subjects for g in groups)} subjects a group{sample}. "
        f"Threshold: {verification.threshold_policy}. Groups: {verification.group_source}."
    )


def densities_figure(densities: Densities, verification: Verification, run: int = 0) -> Plot:
    """Genuine and impostor score densities of every group, one column per arm."""
    arms = [arm for arm in verification.arms if arm.name in densities]
    groups = [density.group for density in densities[arms[0].name]]
    whose = f"run {run + 1} of each arm finds" if len(arms) > 1 else "the recogniser finds"
    beside = f" in {listed([arm.name for arm in arms])}" if len(arms) > 1 else ""
    return rendered(
        densities_canvas(densities, verification, run),
        "densities",
        "Score densities per group",
        f"How similar {whose} images of one person and of different people. {_note(densities, verification)}",
        f"Score densities of genuine and impostor pairs for {listed([readable(n) for n in groups])}{beside}.",
        "verification",
    )
