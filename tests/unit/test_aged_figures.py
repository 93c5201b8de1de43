"""Figures of likeness over the years and of worse pictures draw the numbers of their tables."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fairloop.reporting.figures.aged import (
    garbe_canvas,
    kernel_canvas,
    kernel_figure,
    quality_canvas,
    quality_figures,
)
from fairloop.stats.age_bands import Band
from fairloop.stats.age_sweep import age_sweep
from fairloop.stats.kernel_density import kernel_densities
from tests.unit.stats.test_age_similarity import random_people
from tests.unit.stats.test_robustness import judged, world

SCORES = {"mine": [-1.0, 1.0], "theirs": [0.2, 0.3, 0.7], "lonely": [0.5], "equal": [0.4, 0.4]}


def shown(lines):
    """What the legend lists, and the points of each."""
    return {
        line.get_label(): (np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float))
        for line in lines
        if not line.get_label().startswith("_")
    }


def test_a_density_is_gaussian_kernels_of_scotts_bandwidth_over_one_grid():
    found = {one.name: one for one in kernel_densities(SCORES)}
    at = np.array(found["mine"].at)
    # Two scores at ±1 deviate by √2 (n − 1); Scott takes n^(−1/5) of that.
    width = math.sqrt(2) * 2 ** (-1 / 5)
    bells = [
        np.exp(-(((at - score) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi)) for score in (-1, 1)
    ]
    assert found["mine"].density == pytest.approx(np.mean(bells, axis=0), abs=1e-12)
    assert found["theirs"].at == found["mine"].at
    for name in ("mine", "theirs"):
        assert np.trapezoid(found[name].density, at) == pytest.approx(1, abs=0.003)
    assert (found["lonely"].at, found["equal"].at) == ((), ())


def test_densities_are_drawn_under_their_names_and_counts_and_those_of_too_few_people_are_named():
    densities = kernel_densities(SCORES)
    (ax,) = kernel_canvas(densities, "a note").axes
    lines = shown(ax.lines)
    assert list(lines) == ["mine (2)", "theirs (3)"]
    for one, (x, y) in zip(densities[:2], lines.values(), strict=True):
        assert x == pytest.approx(one.at)
        assert y == pytest.approx(one.density)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(lines)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Similarity", "Density")
    plot = kernel_figure(densities, "distribution_plot", "Likeness", "People's means.")
    assert "Fewer than two people differ in: lonely, equal." in plot.figure.caption


def test_garbe_is_a_point_at_each_threshold_that_has_one():
    vectors, who, ages = random_people()
    sweep = age_sweep(vectors, who, ages, groups={"young": Band(0, 30), "old": Band(31, 70)})
    gone = replace(sweep, garbe=(None, None, *sweep.garbe[2:]))
    (ax,) = garbe_canvas({"before": sweep, "after": gone}, "a note").axes
    before, after = shown(ax.lines).values()
    assert len(sweep.thresholds) == len(before[0]) == 40
    assert before[0] == pytest.approx([step * 0.025 for step in range(40)])
    assert before[1] == pytest.approx(sweep.garbe)
    assert after[0] == pytest.approx(before[0][2:])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Threshold", "GARBE")
    assert {line.get_linestyle() for line in ax.lines} == {"None"}


def apart(ax):
    """Distance of the two groups' lines: at their marked points, and at best over shared quality."""
    (x1, y1), (x2, y2) = shown(ax.lines).values()
    marked = [line for line in ax.lines if line.get_label().startswith("_")]
    ends = [float(line.get_ydata()[0]) for line in marked]
    at = np.linspace(max(x1.min(), x2.min()), min(x1.max(), x2.max()), 50)
    heights = [np.interp(at, x[::-1], y[::-1]) for x, y in ((x1, y1), (x2, y2))]
    return abs(ends[0] - ends[1]), float(np.abs(heights[0] - heights[1]).mean())


def test_lines_over_the_light_lie_on_each_other_for_bad_light_and_apart_for_a_bad_matcher():
    light = judged(world({"light": 1.0, "dark": 0.5}, lambda group, value: 1.3 - value))
    matcher = judged(
        world({"light": 1.0, "dark": 1.0}, lambda group, value: 1.3 - value + 0.6 * (group == "dark"))
    )
    drawn = []
    for found in (light, matcher):
        (ax,) = quality_canvas(found, "a note").axes
        assert (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) == (
            "brightness",
            "luminance",
            "FNMR",
        )
        lines = shown(ax.lines)
        assert set(lines) == {"light", "dark"}
        for group, (x, y) in lines.items():
            rows = [row for row in found.rows if row.group == group]
            assert x == pytest.approx([row.quality for row in rows])
            assert y == pytest.approx([row.fnmr for row in rows])
        drawn.append(apart(ax))
        # Seen in the drawing alone: the number of the table.
        assert drawn[-1][1] == pytest.approx(found.equal_quality[0].gap, abs=0.01)
    (untouched, at_equal_light), (also_untouched, still) = drawn
    # The marked points, untouched images, are apart in both worlds; what follows at equal light is not.
    assert min(untouched, also_untouched) > 0.1
    assert at_equal_light < 0.5 * untouched
    assert still > 0.7 * also_untouched


def test_false_matches_have_a_figure_of_their_own_as_high_as_the_highest():
    found = judged(world({"light": 1.0, "dark": 0.5}, lambda group, value: 1.3 - value))
    (ax,) = quality_canvas(found, "a note", "fmr").axes
    lines = shown(ax.lines)
    for group, (_, y) in lines.items():
        assert y == pytest.approx([row.fmr for row in found.rows if row.group == group])
    highest = max(row.fmr for row in found.rows)
    assert 0 < highest < 0.5
    assert ax.get_ylabel() == "FMR"
    assert highest < ax.get_ylim()[1] < 1.1 * highest
    plots = quality_figures(found, "models/x", "worse_pictures")
    assert [plot.figure.name for plot in plots] == ["worse_pictures", "worse_pictures_fmr"]
    assert [plot.figure.title.split()[0] for plot in plots] == ["FNMR", "FMR"]
