"""An audit of prompts, as the third reference system draws it: bars and boxes per prompt and model.

Images without a face are in no bar: shares are of all images of a prompt, so bars
of one prompt add to 100 % less those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from fairloop.reporting.drawing import (
    FAINT,
    INK,
    WIDTH,
    Plot,
    drawable,
    drawn_names,
    line_style,
    rendered,
    sheet,
    styled,
)
from fairloop.reporting.prompted import Prompted

PANELS_IN_A_ROW = 3
TALL, HEAD, FOOT, LEGEND = 1.55, 0.35, 0.85, 0.42
"""Inches of a panel, of its title, of the names below it, and of the legend above all."""
MOST_NAMED = 6
"""Names of more models are turned."""


@dataclass(frozen=True)
class Values:
    """Shares by model, prompt and group, 0–1: array (models, prompts, groups); NaN where there are none."""

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    groups: tuple[str, ...]
    shares: np.ndarray

    @staticmethod
    def of(found: Prompted, attribute: str | None = None) -> Values:
        """Of the groups, or summed to the values of one attribute."""
        place = None if attribute is None else found.attributes.index(attribute)

        def name(group: str) -> str:
            return group if place is None else group.split(",")[place]

        prompts = tuple(dict.fromkeys(row.prompt for row in found.shares))
        groups = tuple(dict.fromkeys(name(row.group) for row in found.shares))
        shares = np.full((len(found.models), len(prompts), len(groups)), np.nan)
        for row in found.shares:
            at = found.models.index(row.model), prompts.index(row.prompt), groups.index(name(row.group))
            shares[at] = np.nan_to_num(shares[at]) + (row.share.value or 0.0)
        return Values(found.models, prompts, groups, shares)


@styled
def prompt_bars_canvas(found: Prompted, attribute: str) -> Canvas:
    """A panel per prompt: x model, y percentage, a bar for each value of the attribute."""
    values = Values.of(found, attribute)

    def draw(ax: Axes, prompt: int) -> None:
        _bars(ax, values.shares[:, prompt, :].T, values.groups, values.models)

    return _panels(values.prompts, values.groups, draw, _note(found))


@styled
def prompt_boxes_canvas(found: Prompted) -> Canvas:
    """A panel per prompt: a box for each model over the shares of the groups."""
    values = Values.of(found)

    def draw(ax: Axes, prompt: int) -> None:
        _boxes(ax, values.shares[:, prompt, :], values.models)

    return _panels(values.prompts, (), draw, _note(found))


@styled
def average_boxes_canvas(found: Prompted) -> Canvas:
    """A box for each model over the groups' shares, each the mean over the prompts."""
    values = Values.of(found)
    paper = sheet(3.6, _note(found))
    ax = paper.axes(0.75, 0.7, WIDTH - 0.95, 2.5)
    _boxes(ax, np.nanmean(values.shares, axis=1), values.models)
    ax.set_title("Average percentage distribution")
    ax.set_ylabel("Percentage")
    return paper.canvas


@styled
def group_bars_canvas(found: Prompted) -> Canvas:
    """Bars per group, one for each model: mean over the prompts, error bars their standard deviation."""
    values = Values.of(found)
    means = np.nanmean(values.shares, axis=1)
    counted = np.sum(~np.isnan(values.shares[:, :, 0]), axis=1)
    deviations = np.zeros_like(means)
    for model in np.flatnonzero(counted > 1):
        deviations[model] = np.nanstd(values.shares[model], axis=0, ddof=1)
    paper = sheet(4.1, f"Error bars: standard deviation over the prompts. {_note(found)}")
    ax = paper.axes(0.75, 1.15, WIDTH - 0.95, 2.5)
    _bars(ax, means, values.models, values.groups, deviations)
    ax.set_xlabel("Group")
    ax.set_ylabel("Percentage")
    ax.axhline(
        100 / len(values.groups), color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label="equal shares"
    )
    handles, labels = ax.get_legend_handles_labels()
    paper.canvas.legend(handles, labels, loc="upper left", ncols=4)
    return paper.canvas


def prompt_figures(found: Prompted) -> tuple[Plot, ...]:
    """All figures of an audit of prompts."""
    models = ", ".join(found.models)
    plots = [
        rendered(
            group_bars_canvas(found),
            "prompt-groups",
            "Mean share of each group",
            "Mean over the prompts of each group's share; the dashed line is an equal share.",
            f"Bars of the mean share of each group for {models}: {_means(found)}.",
            "prompts",
        )
    ]
    plots += [
        rendered(
            prompt_bars_canvas(found, attribute),
            f"prompt-{attribute.replace('_', '-')}",
            f"Shares by {attribute.replace('_', ' ')}, prompt by prompt",
            f"Share of every value of {attribute.replace('_', ' ')} among the images of each prompt.",
            f"Panels of bars by {attribute.replace('_', ' ')}, one for each prompt, for {models}.",
            "prompts",
        )
        for attribute in found.attributes
    ]
    caption = (
        "How far the groups' shares lie apart: boxes are quartiles, whiskers reach the last value within "
        "1.5 times the box; fewer and narrower boxes are fairer."
    )
    plots += [
        rendered(
            average_boxes_canvas(found),
            "prompt-boxes-average",
            "Shares of the groups, mean over the prompts",
            caption,
            f"Box plots of the groups' mean shares for {models}.",
            "prompts",
        ),
        rendered(
            prompt_boxes_canvas(found),
            "prompt-boxes",
            "Shares of the groups, prompt by prompt",
            caption,
            f"Panels of box plots, one for each prompt, for {models}.",
            "prompts",
        ),
    ]
    return tuple(plots)


def _panels(
    prompts: Sequence[str], legend: Sequence[str], draw: Callable[[Axes, int], None], note: str
) -> Canvas:
    """Panels in rows of three, titled by their prompts, under one legend."""
    columns = min(PANELS_IN_A_ROW, len(prompts))
    rows = math.ceil(len(prompts) / columns)
    paper = sheet(rows * (TALL + HEAD + FOOT) + (LEGEND if legend else 0.05), note)
    wide = WIDTH / columns
    titles = drawn_names(prompts, 30)
    for place in range(len(prompts)):
        row, column = divmod(place, columns)
        bottom = (rows - 1 - row) * (TALL + HEAD + FOOT) + FOOT
        ax = paper.axes(column * wide + 0.62, bottom, wide - 0.72, TALL)
        draw(ax, place)
        ax.set_title(titles[place])
        if column == 0:
            ax.set_ylabel("Percentage")
    if legend:
        handles, labels = paper.canvas.axes[0].get_legend_handles_labels()
        paper.canvas.legend(handles, labels, loc="upper left", ncols=min(6, len(legend)))
    return paper.canvas


def _bars(
    ax: Axes,
    heights: np.ndarray,
    hues: Sequence[str],
    places: Sequence[str],
    deviations: np.ndarray | None = None,
) -> None:
    """Groups of bars: `heights` (hues, places), 0–1; a bar that is missing stays away."""
    width = 0.8 / len(hues)
    names = drawn_names(hues, 24)
    for number, name in enumerate(names):
        at = np.arange(len(places)) + (number - (len(hues) - 1) / 2) * width
        style = line_style(number)
        ax.bar(
            at,
            100 * np.nan_to_num(heights[number]),
            width=0.94 * width,
            color=style.color,
            label=name,
            yerr=None if deviations is None else 100 * np.nan_to_num(deviations[number]),
            error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2},
        )
    _name_places(ax, places)
    ax.set_ylim(bottom=0)


def _boxes(ax: Axes, shares: np.ndarray, models: Sequence[str]) -> None:
    """A box per model over what it has: `shares` (models, groups), 0–1."""
    drawn = ax.boxplot([100 * own[~np.isnan(own)] for own in shares], widths=0.55, patch_artist=True)
    for number, box in enumerate(drawn["boxes"]):
        box.set(facecolor=line_style(number).color, alpha=0.75, edgecolor=INK)
    for line in drawn["medians"]:
        line.set(color=INK, linewidth=1.4)
    ax.set_xticks(range(1, len(models) + 1))
    _name_places(ax, models, first=1)


def _name_places(ax: Axes, places: Sequence[str], first: int = 0) -> None:
    names = drawn_names(places, 26)
    turned = len(names) > MOST_NAMED or sum(map(len, names)) > 28
    ax.set_xticks(
        range(first, first + len(names)),
        names,
        rotation=35 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor",
        fontsize=8,
    )
    ax.tick_params(axis="x", color=FAINT)
    ax.grid(axis="y")


def _note(found: Prompted) -> str:
    images = {model: sum(row.images for row in found.faces if row.model == model) for model in found.models}
    told = "; ".join(f"{drawable(model)} {count:,} images" for model, count in images.items())
    return f"{told}. Perceived labels, from {drawable(found.label_source)}."


def _means(found: Prompted) -> str:
    values = Values.of(found)
    means = np.nanmean(values.shares, axis=1)
    return "; ".join(
        f"{group} " + " and ".join(f"{100 * means[m, g]:.1f} %" for m in range(len(values.models)))
        for g, group in enumerate(values.groups)
    )
