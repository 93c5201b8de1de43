"""Likeness over the years: densities of every group, one model beside another, GARBE over the threshold;
and error rates over the quality of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from fairloop.reporting.drawing import WIDTH, Plot, drawable, line_style, rendered, sheet, styled
from fairloop.stats.age_sweep import AgeSweep
from fairloop.stats.kernel_density import KernelDensity
from fairloop.stats.robustness import Robustness

TALL = 3.0
Rate = Literal["fnmr", "fmr"]
RATES: tuple[tuple[Rate, str, str], ...] = (
    (
        "fnmr",
        "",
        "Lines that lie on each other where the pictures are equally good: the pictures make the gap. "
        "Lines apart there: the matcher does.",
    ),
    (
        "fmr",
        "_fmr",
        "People taken for one another on worse pictures make FMR rise and FNMR fall: read both figures.",
    ),
)
"""Rates that are drawn over the quality of pictures, what their figures' names end in, how to read them."""


@styled
def kernel_canvas(densities: Sequence[KernelDensity], note: str) -> Canvas:
    """One line per density that there is; x "Similarity", y "Density"."""
    paper = sheet(TALL + 0.75, note)
    ax = paper.axes(0.65, 0.5, WIDTH - 0.85, TALL)
    for place, one in enumerate(densities):
        if not one.at:
            continue
        style = line_style(place)
        label = f"{drawable(one.name)} ({one.scores:,})"
        ax.plot(one.at, one.density, color=style.color, linestyle=style.dash, linewidth=1.8, label=label)
    ax.set_xlabel("Similarity")
    ax.set_ylabel("Density")
    ax.set_ylim(bottom=0)
    ax.grid(True)
    if any(one.at for one in densities):
        ax.legend(loc="upper left")
    return paper.canvas


def kernel_figure(densities: Sequence[KernelDensity], name: str, title: str, note: str) -> Plot:
    """Densities over one grid; those of too few people are named and not drawn."""
    absent = [one.name for one in densities if not one.at]
    if absent:
        note += f" Fewer than two people differ in: {', '.join(absent)}."
    drawn = ", ".join(one.name for one in densities if one.at) or "nothing"
    return rendered(kernel_canvas(densities, note), name, title, note, f"Density curves of {drawn}.", "aged")


@styled
def garbe_canvas(sweeps: Mapping[str, AgeSweep], note: str) -> Canvas:
    """GARBE of each model at every threshold where it has one, as points."""
    paper = sheet(TALL + 0.75, note)
    ax = paper.axes(0.65, 0.5, WIDTH - 0.85, TALL)
    for place, (model, sweep) in enumerate(sweeps.items()):
        style = line_style(place)
        points = [(t, g) for t, g in zip(sweep.thresholds, sweep.garbe, strict=True) if g is not None]
        ax.plot(
            [t for t, _ in points],
            [g for _, g in points],
            linestyle="none",
            marker=style.marker,
            color=style.color,
            markersize=4.5,
            label=drawable(model),
        )
    ax.set_xlabel("Threshold")
    ax.set_ylabel("GARBE")
    ax.set_xlim(-0.02, 1.0)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xticks([k / 10 for k in range(10)])
    ax.grid(True)
    ax.legend(loc="best")
    return paper.canvas


def garbe_figure(sweeps: Mapping[str, AgeSweep]) -> Plot:
    """GARBE of the age groups over the threshold."""
    first = next(iter(sweeps.values()))
    bands = ", ".join(f"{group.group} {group.band}" for group in first.groups)
    note = f"Age groups {bands}; α {first.alpha:g}. A point is missing where GARBE has no value."
    return rendered(
        garbe_canvas(sweeps, note),
        "age-garbe",
        "GARBE of the age groups",
        note,
        f"GARBE of {', '.join(sweeps)} over {len(first.thresholds)} thresholds.",
        "aged",
    )


@styled
def quality_canvas(found: Robustness, note: str, rate: Rate = "fnmr") -> Canvas:
    """One panel per transform: a rate of every group over measured quality, or over the level.

    FNMR from 0 to 1; FMR, which is small, to the highest there is.
    """
    known = [value for row in found.rows if (value := getattr(row, rate)) is not None]
    top = 1.0 if rate == "fnmr" else max(known, default=0.0) or 1.0
    transforms = list(dict.fromkeys(row.transform for row in found.rows))
    measured = {one.transform: one.measured_by for one in found.equal_quality}
    rows = -(-len(transforms) // 2)
    each, wide = 2.6, WIDTH / 2
    paper = sheet(each * rows + 0.35, note)
    for k, transform in enumerate(transforms):
        row, column = divmod(k, 2)
        ax = paper.axes(column * wide + 0.85, each * (rows - 1 - row) + 0.5, wide - 1.05, each - 0.95)
        for place, group in enumerate(found.groups):
            mine = [r for r in found.rows if (r.transform, r.group) == (transform, group)]
            points: list[tuple[float, float]] = []
            for r in mine:
                x, y = r.quality if transform in measured else r.level, getattr(r, rate)
                if x is not None and y is not None:
                    points.append((x, y))
            style = line_style(place)
            (line,) = ax.plot([x for x, _ in points], [y for _, y in points], label=drawable(group))
            line.set(color=style.color, linestyle=style.dash, linewidth=1.6)
            if points:
                ax.plot(
                    [points[0][0]], [points[0][1]], marker=style.marker, color=style.color, markersize=6.5
                )
        ax.set_title(transform)
        ax.set_xlabel(measured.get(transform, "level"))
        ax.set_ylabel(rate.upper())
        ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.3g} %")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_ylim(-0.03 * top, 1.03 * top)
        ax.grid(True)
        if k == 0:
            handles, labels = ax.get_legend_handles_labels()
            ncols = min(4, max(1, len(labels)))
            paper.canvas.legend(handles, labels, loc="upper right", ncols=ncols)
    return paper.canvas


def quality_figures(found: Robustness, model: str, name: str) -> list[Plot]:
    """Whether bad light or a bad matcher makes a gap: FNMR under `name`, FMR under `{name}_fmr`."""
    transforms = len({row.transform for row in found.rows})
    plots = []
    for rate, ending, reading in RATES:
        note = (
            f"{drawable(model)}, threshold {found.threshold:.4f}, chosen on the untouched images, whose "
            f"points are marked. {reading}"
        )
        plots.append(
            rendered(
                quality_canvas(found, note, rate),
                f"{name}{ending}",
                f"{rate.upper()} over the quality of pictures: {model}",
                note,
                f"{rate.upper()} of {', '.join(found.groups)} under {transforms} transforms.",
                "aged",
            )
        )
    return plots
