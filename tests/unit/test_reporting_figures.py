"""Figures draw the numbers they are given, as far as these go, and can be told apart."""

import itertools

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.patches import StepPatch
from scipy.stats import norm

from fairloop.reporting import sections
from fairloop.reporting.drawing import drawable, drawn_names, line_style
from fairloop.reporting.figures.classification import classification_canvas
from fairloop.reporting.figures.cross_group import (
    COLORS,
    compact,
    cross_group_canvas,
    cross_group_squares,
    ink_on,
    luminance,
)
from fairloop.reporting.figures.curves import det_canvas, operating_point, roc_canvas
from fairloop.reporting.figures.densities import densities_canvas
from fairloop.reporting.figures.given_rates import given_rates_canvas
from fairloop.reporting.figures.rates import rates_canvas
from fairloop.reporting.figures.shares import share_bars_canvas
from fairloop.reporting.figures.sweep import sweep_canvas
from fairloop.reporting.measured import Estimate
from fairloop.stats import audit_distribution, evaluate_verification, score_densities
from fairloop.stats.classification import classification_fairness
from fairloop.stats.cross_group import cross_group_matrix
from fairloop.stats.rate_summaries import summarise_rates
from fairloop.stats.scan import rate_curves
from fairloop.stats.sweep import threshold_sweep

SOURCE = "given: column race of s.csv"
WITHOUT = "race=without_pairs"


class World:
    """Three groups; the third has one image per person, so no genuine pair."""

    def __init__(self):
        rng = np.random.default_rng(5)
        embeddings, subjects, groups = [], [], []
        for g, (group, images) in enumerate([("race=a", 4), ("race=b", 4), (WITHOUT, 1)]):
            for s in range(14 + 4 * g):
                centre = rng.standard_normal(12) + 0.4
                for _ in range(images):
                    embeddings.append(centre + (0.5 + 0.2 * g) * rng.standard_normal(12))
                    subjects.append(f"{g}/{s}")
                    groups.append(group)
        given = np.array(embeddings, np.float32), subjects, groups
        self.report = evaluate_verification(*given, fmr=0.02, replicates=100, threshold_in_replicates="both")
        self.curves = rate_curves(*given, points=120)
        self.sweep = threshold_sweep(*given)
        self.cross = cross_group_matrix(*given, threshold=0.85, replicates=100)
        self.densities = score_densities(*given)
        self.verification = sections.evaluation(
            self.report.to_dict(), group_source=SOURCE, cross_group=self.cross.to_dict()
        )


@pytest.fixture(scope="module")
def world():
    return World()


def line(canvas, gid):
    """x and y of the line with this id, in whichever panel it is."""
    found = [drawn for ax in canvas.axes for drawn in ax.lines if drawn.get_gid() == gid]
    assert len(found) == 1, gid
    return np.asarray(found[0].get_xdata(), float), np.asarray(found[0].get_ydata(), float)


def ids(canvas):
    return {drawn.get_gid() for ax in canvas.axes for drawn in ax.lines}


def said(canvas):
    return " ".join(text.get_text().replace("\n", " ") for text in canvas.texts)


def with_errors(curve, record, *, of_both_kinds):
    """Points with a false match (and a false non-match), the common threshold's too, by falling FMR."""
    points = [
        (fmr, fnmr)
        for fmr, fnmr in [*zip(curve.fmr, curve.fnmr, strict=True), (record.fmr, record.fnmr)]
        if round(fmr * curve.impostor) >= 1
        and (not of_both_kinds or (round(fnmr * curve.genuine) >= 1 and fmr < 1 and fnmr < 1))
    ]
    return np.array(sorted(points, key=lambda p: (-p[0], p[1]))).T


def test_det_lines_are_normal_deviates_of_the_rates_down_to_one_error(world):
    canvas = det_canvas(world.curves, world.verification)
    for place, curve in enumerate(world.curves[:2]):
        x, y = line(canvas, f"curve:{place}")
        fmr, fnmr = with_errors(curve, world.report.groups[place], of_both_kinds=True)
        np.testing.assert_allclose(x, norm.ppf(fmr), rtol=1e-9)
        np.testing.assert_allclose(y, norm.ppf(fnmr), rtol=1e-9)
        assert norm.cdf(x).min() * curve.impostor > 0.999
        assert norm.cdf(y).min() * curve.genuine > 0.999
        floor, _ = line(canvas, f"floor:{place}")
        assert norm.cdf(floor[0]) == pytest.approx(1 / curve.impostor)


def test_roc_lines_are_true_match_rates_over_fmr(world):
    canvas = roc_canvas(world.curves, world.verification)
    for place, curve in enumerate(world.curves[:2]):
        x, y = line(canvas, f"curve:{place}")
        fmr, fnmr = with_errors(curve, world.report.groups[place], of_both_kinds=False)
        np.testing.assert_array_equal(x, fmr)
        np.testing.assert_array_equal(y, 1 - fnmr)
    assert canvas.axes[0].get_xscale() == "log"


def test_the_common_threshold_is_marked_at_the_reports_rates(world):
    canvas = det_canvas(world.curves, world.verification)
    for place, record in enumerate(world.report.groups[:2]):
        x, y = line(canvas, f"threshold:{place}")
        assert norm.cdf(x[0]) == pytest.approx(record.fmr)
        assert norm.cdf(y[0]) == pytest.approx(record.fnmr)


def test_a_rate_of_zero_stands_at_one_error_and_is_hollow_where_the_axis_has_no_zero(world):
    group = world.verification.arms[0].groups[0].model_copy(update={"fnmr": Estimate(value=0.0)})
    curve = world.curves[0]
    assert operating_point(group, curve) == (group.fmr.value, 1 / curve.genuine, False)
    assert operating_point(group, curve, deviates=False) == (group.fmr.value, 0.0, True)
    arm = world.verification.arms[0].model_copy(update={"groups": (group,)})
    canvas = det_canvas([curve], world.verification.model_copy(update={"arms": (arm,)}))
    marker = next(drawn for drawn in canvas.axes[0].lines if drawn.get_gid() == "threshold:0")
    assert marker.get_markerfacecolor() == "white"
    assert "no error of a kind there (a)" in said(canvas)


def test_a_group_without_genuine_pairs_has_no_curve_and_the_figure_says_so(world):
    canvas = det_canvas(world.curves, world.verification)
    assert {name for name in ids(canvas) if name.startswith("curve")} == {"curve:0", "curve:1"}
    assert "No curve: without pairs" in said(canvas)


@pytest.mark.parametrize("build", [det_canvas, roc_canvas, sweep_canvas, rates_canvas, cross_group_canvas])
def test_every_figure_says_how_many_at_which_threshold_and_by_whose_labels(world, build):
    first = {
        det_canvas: world.curves,
        roc_canvas: world.curves,
        sweep_canvas: world.sweep,
        cross_group_canvas: world.verification.cross_group,
    }
    canvas = build(*([first[build]] if build in first else []), world.verification)
    words = said(canvas)
    for record in world.report.groups:
        assert (
            f"{record.subjects} subjects, {record.genuine} genuine and {record.impostor:,} impostor" in words
        )
    assert world.report.conventions["threshold policy"] in words
    assert SOURCE in words


def test_rates_stand_at_their_values_between_the_ends_of_their_intervals(world):
    canvas = rates_canvas(world.verification)
    groups = world.report.groups
    for ax, kind in zip(canvas.axes, ("fmr", "fnmr", "fnmr_at_own_threshold"), strict=True):
        drawn = [container for container in ax.containers if container.has_xerr]
        records = [record for record in groups if getattr(record, kind) is not None]
        assert [c.lines[0].get_xdata()[0] for c in drawn] == [getattr(r, kind) for r in records]
        for container, record in zip(drawn, records, strict=True):
            (ends,) = container.lines[2][0].get_segments()
            np.testing.assert_allclose(ends[:, 0], getattr(record, f"{kind}_interval"), atol=1e-12)
    assert [text.get_text() for text in canvas.axes[1].texts] == ["no value"]


def test_the_sweep_shows_every_summary_its_fair_value_and_the_threshold(world):
    canvas = sweep_canvas(world.sweep, world.verification)
    assert len(canvas.axes) == len(world.sweep.summaries)
    for name, values in world.sweep.summaries.items():
        x, y = line(canvas, f"summary:{name}")
        np.testing.assert_array_equal(x, world.sweep.thresholds)
        np.testing.assert_array_equal(y, [np.nan if v is None else v for v in values])
    for ax, name in zip(canvas.axes, world.sweep.summaries, strict=True):
        by_id = {drawn.get_gid(): drawn for drawn in ax.lines}
        assert set(by_id["fair"].get_ydata()) == {world.sweep.fair[name]}
        assert set(by_id["threshold"].get_xdata()) == {world.report.threshold}


def test_densities_are_drawn_as_they_are(world):
    canvas = densities_canvas({"evaluation": world.densities}, world.verification)
    for ax, density in zip(canvas.axes, world.densities, strict=True):
        steps = [patch.get_data().values.tolist() for patch in ax.patches if isinstance(patch, StepPatch)]
        assert list(density.genuine) in steps
        assert list(density.impostor) in steps
        # Only the last panel has labels: all must have its ticks.
        assert ax.get_xticks().tolist() == canvas.axes[-1].get_xticks().tolist()
    # These groups are small enough for every score to be there.
    assert "sample" not in said(canvas)


def test_accuracies_are_told_apart_on_an_axis_of_their_own():
    report = summarise_rates(["a", "b"], [0.01, 0.02], accuracy=[99.1, 99.6])
    canvas = given_rates_canvas(sections.rates(report.to_dict(), group_source=SOURCE))
    fmr, accuracy = canvas.axes
    assert fmr.get_xlim()[0] == 0
    assert accuracy.get_xlim() == pytest.approx((0.991 - 0.12 * 0.005, 0.996 + 0.12 * 0.005))


def test_cells_without_a_false_match_say_of_how_many(world):
    squares = cross_group_squares(world.verification.cross_group)
    zero = [
        (r, c)
        for r, c in itertools.product(range(3), repeat=2)
        if world.cross.comparisons[r][c] and world.cross.false_matches[r][c] == 0
    ]
    assert zero, "the world needs such a cell"
    for r, c in zero:
        assert squares[r][c].text == f"0 of\n{compact(world.cross.comparisons[r][c])}"
        assert squares[r][c].share is None
    canvas = cross_group_canvas(world.verification.cross_group, world.verification)
    hatched = [patch for patch in canvas.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == len(zero)
    assert all(sum(patch.get_facecolor()[:3]) < 3 for patch in hatched)


def test_numbers_in_cells_stand_out_from_every_colour_of_the_map():
    for color in colormaps[COLORS](np.linspace(0, 1, 256)):
        ink = 1.0 if ink_on(color) == "white" else 0.0
        light, dark = sorted((ink, luminance(color)), reverse=True)
        # WCAG 2: contrast of normal text.
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (950, "950"), (10_000, "10k"), (13_700, "13.7k"), (4_072_656, "4.1M")]
)
def test_counts_in_cells_are_short(count, text):
    assert compact(count) == text


def test_bars_are_as_long_as_the_shares_asked_for_and_obtained():
    cells = ["tone=dark", "tone=light"]
    labels = ["tone=dark"] * 30 + ["tone=light"] * 70
    audit = audit_distribution(labels, cells, requested=["tone=dark"] * 50 + ["tone=light"] * 50)
    shares = sections.shares(None, audit.to_dict(), sample="a folder")
    asked, obtained = share_bars_canvas(shares).axes[0].containers
    assert [bar.get_width() for bar in asked] == [0.5, 0.5]
    assert [bar.get_width() for bar in obtained] == [0.3, 0.7]


def test_a_classifiers_rates_and_gaps_stand_at_their_values():
    # AI-Face's toy: F_MEO 25, F_DP 25, F_OAE 0, F_FPR 25.
    truth, calls = [0, 0, 0, 0, 1, 1, 1, 1] * 2, [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    report = classification_fairness(truth, calls, ["a"] * 8 + ["b"] * 8, replicates=100)
    part = sections.classification(report.to_dict(), group_source=SOURCE)
    fpr, tpr, accuracy, gaps = classification_canvas(part).axes

    def drawn(ax):
        return [c.lines[0].get_xdata()[0] for c in ax.containers if c.has_xerr]

    assert (drawn(fpr), drawn(tpr), drawn(accuracy)) == ([0.25, 0.5], [0.75, 1.0], [0.75, 0.75])
    assert drawn(gaps)[:4] == [25.0, 25.0, 0.0, 25.0]


def test_the_first_28_groups_differ_in_colour_or_line_style():
    styles = [line_style(place) for place in range(28)]
    assert len({(style.color, style.dash) for style in styles}) == 28


def test_drawn_names_are_short_printable_and_different():
    groups = [
        "a=" + "x" * 300,
        "a=" + "x" * 299 + "y",
        "东亚 女",
        "東亜 女",
        "bell\x07",
        "$\\frac{1}{0}$",
        "",
    ]
    names = drawn_names(groups)
    assert len(set(names)) == len(groups)
    assert all(name and len(name) <= 40 and name.isprintable() for name in names)
    assert names[5] == groups[5]


def test_text_that_the_font_lacks_is_drawn_as_boxes():
    assert drawable("a東\x1bé") == "a□□é"
