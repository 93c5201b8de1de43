"""Error trade-offs per group: DET on normal-deviate axes, ROC over a logarithmic FMR.

A curve is drawn only as far as its counts go: not below one false match in all
impostor pairs, nor below one false non-match in all genuine ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.special import ndtri

from fairloop.reporting.drawing import (
    WIDTH,
    LineStyle,
    Plot,
    Sheet,
    drawn_names,
    line_style,
    name_room,
    rendered,
    sheet,
    styled,
)
from fairloop.reporting.figures.rates import basis
from fairloop.reporting.measured import GroupRates, Verification
from fairloop.reporting.wording import listed, readable

if TYPE_CHECKING:
    from fairloop.stats.scan import RateCurve

Floats = NDArray[np.float64]

SIDE = 5.0
"""Inches of the axes' sides."""

HIGHEST_LOW_END = 0.95
"""Where a ROC's vertical axis starts at the latest: a flat line shows nothing."""

_TICKS = (
    *(10.0**k for k in (-2, -1, -3, -4, -5, -6, -7)),
    *(0.5, 0.9, 0.2, 0.05, 0.02, 0.99, 0.7, 0.95, 0.4, 0.8, 0.3, 0.6, 0.98, 0.005, 0.002, 0.0005, 0.0002),
)
"""Rates worth a tick, the first ones first."""


class Supported(NamedTuple):
    """The part of a curve that its counts support, by falling FMR."""

    fmr: Floats
    fnmr: Floats


def supported(curve: RateCurve, *, deviates: bool = True) -> Supported | None:
    """Points with at least one false match; None without such points.

    Normal deviates have none of 0 or 1 either, so with `deviates` a point also
    needs a false non-match, and a comparison without error of each kind.
    """
    points = [(x, y) for x, y in zip(curve.fmr, curve.fnmr, strict=True) if x is not None and y is not None]
    if not points or not curve.impostor or not curve.genuine:
        return None
    fmr, fnmr = np.array(points).T
    # A rate is a count over its comparisons: half of one is under one in any rounding.
    kept = fmr * curve.impostor > 0.5
    if deviates:
        kept &= (fmr < 1) & (fnmr * curve.genuine > 0.5) & (fnmr < 1)
    order = np.argsort(-fmr[kept], kind="stable")
    return Supported(fmr[kept][order], fnmr[kept][order]) if kept.any() else None


class _Drawn(NamedTuple):
    """A group's curve with how it is drawn; `place` among all curves names its lines."""

    place: int
    name: str
    curve: RateCurve
    points: Supported
    style: LineStyle
    rates: GroupRates | None


def _drawn(curves: Sequence[RateCurve], verification: Verification, *, deviates: bool = True) -> list[_Drawn]:
    """Curves that have points; styles stay with the group whatever is left out."""
    names = drawn_names([curve.group for curve in curves])
    rates = {group.group: group for group in verification.arms[0].groups}
    found = []
    for k, (name, curve) in enumerate(zip(names, curves, strict=True)):
        points = supported(curve, deviates=deviates)
        if points is not None:
            group = rates.get(curve.group)
            through = points if group is None else _through(points, group)
            found.append(_Drawn(k, name, curve, through, line_style(k), group))
    return found


def _through(points: Supported, rates: GroupRates) -> Supported:
    """The curve with the common threshold on it, unless that lies off it (one threshold per fold)."""
    fmr, fnmr = rates.fmr.value, rates.fnmr.value
    if not fmr or not fnmr:
        return points
    place = int(np.searchsorted(-points.fmr, -fmr))
    before, after = points.fnmr[:place], points.fnmr[place:]
    if not before.size or not after.size or not before[-1] <= fnmr <= after[0]:
        return points
    return Supported(np.insert(points.fmr, place, fmr), np.insert(points.fnmr, place, fnmr))


def operating_point(
    rates: GroupRates, curve: RateCurve, *, deviates: bool = True
) -> tuple[float, float, bool]:
    """FMR, FNMR, and whether they can be drawn as they are.

    A rate of 0 has no logarithm and no normal deviate: it stands at one error in
    all comparisons (with `deviates` a rate of 1 at all but one, too).
    """
    found, seen = [], True
    kinds = ((rates.fmr, curve.impostor, True), (rates.fnmr, curve.genuine, deviates))
    for estimate, comparisons, scaled in kinds:
        rate = estimate.value or 0.0
        low, high = (1 / comparisons if scaled else 0.0), (1 - 1 / comparisons if deviates else 1.0)
        seen &= low <= rate * (1 + 1e-9) and rate <= high * (1 + 1e-9)
        found.append(min(max(rate, low), high))
    return found[0], found[1], seen


def _note(
    curves: Sequence[RateCurve],
    drawn: Sequence[_Drawn],
    verification: Verification,
    *,
    deviates: bool = True,
) -> str:
    parts = ["Markers: the common threshold. Ticks on the axis: one false match in a group's impostor pairs."]
    unseen = [
        d.name
        for d in drawn
        if d.rates is not None and not operating_point(d.rates, d.curve, deviates=deviates)[2]
    ]
    if unseen:
        parts.append(f"Hollow: no error of a kind there ({listed(unseen)}), drawn at one.")
    there = {d.place for d in drawn}
    names = drawn_names([curve.group for curve in curves])
    left_out = [name for k, name in enumerate(names) if k not in there]
    if left_out:
        parts.append(f"No curve: {listed(left_out)} (errors of one kind only, or no such pairs).")
    return " ".join([*parts, basis(verification)])


def _page(
    curves: Sequence[RateCurve], drawn: Sequence[_Drawn], verification: Verification, *, deviates: bool = True
) -> tuple[Sheet, Axes]:
    left = 0.75
    note = _note(curves, drawn, verification, deviates=deviates)
    paper = sheet(max(SIDE, 0.26 * len(drawn)) + 0.7, note)
    names = [d.name for d in drawn]
    ax = paper.axes(left, 0.55, min(SIDE, WIDTH - left - name_room(names, 9) - 0.55), paper.height - 0.65)
    return paper, ax


def _legend(ax: Axes, drawn: Sequence[_Drawn], key: Sequence[float]) -> None:
    """Names at the right, from the worst at the common threshold to the best, as the curves lie."""
    order = np.argsort(-np.array(key), kind="stable")
    handles = [
        Line2D(
            [],
            [],
            color=drawn[k].style.color,
            linestyle=drawn[k].style.dash,
            marker=drawn[k].style.marker,
            linewidth=1.9,
            markersize=6.5,
            label=drawn[k].name,
        )
        for k in order
    ]
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), handlelength=3.6, borderaxespad=0.2
    )


def _mark(ax: Axes, d: _Drawn, x: float, y: float, *, seen: bool) -> None:
    ax.plot(
        [x],
        [y],
        linestyle="none",
        marker=d.style.marker,
        markersize=8,
        markerfacecolor=d.style.color if seen else "white",
        markeredgecolor="white" if seen else d.style.color,
        markeredgewidth=1.0 if seen else 1.6,
        zorder=4,
        gid=f"threshold:{d.place}",
    )


def _floor(ax: Axes, d: _Drawn, x: float) -> None:
    """Where the impostor pairs of a group end."""
    ax.plot(
        [x],
        [0],
        transform=ax.get_xaxis_transform(),
        linestyle="none",
        marker=2,
        markersize=11,
        markeredgewidth=1.8,
        color=d.style.color,
        zorder=5,
        gid=f"floor:{d.place}",
    )


def _ticks(low: float, high: float, apart: float) -> list[float]:
    """Rates between two, at least a part of the axis apart on the normal-deviate scale."""
    ends = ndtri(low), ndtri(high)
    chosen: list[float] = []
    for rate in _TICKS:
        place = ndtri(rate)
        if ends[0] <= place <= ends[1] and all(
            abs(place - ndtri(other)) >= apart * (ends[1] - ends[0]) for other in chosen
        ):
            chosen.append(rate)
    return sorted(chosen)


def _written(rate: float) -> str:
    return f"{100 * rate:.10f}".rstrip("0").rstrip(".")


@styled
def det_canvas(curves: Sequence[RateCurve], verification: Verification) -> Canvas:
    """FNMR over FMR on normal-deviate axes, one line per group, the common threshold marked."""
    drawn = _drawn(curves, verification)
    paper, ax = _page(curves, drawn, verification)
    lows, highs, key = [], [], []
    for d in drawn:
        ax.plot(
            ndtri(d.points.fmr),
            ndtri(d.points.fnmr),
            color=d.style.color,
            linestyle=d.style.dash,
            linewidth=1.9,
            gid=f"curve:{d.place}",
        )
        lows.append((1 / d.curve.impostor, d.points.fnmr.min()))
        highs.append((d.points.fmr.max(), d.points.fnmr.max()))
        key.append(float(d.points.fnmr[-1]))
        if d.rates is not None and d.rates.fmr.value is not None and d.rates.fnmr.value is not None:
            x, y, seen = operating_point(d.rates, d.curve)
            _mark(ax, d, ndtri(x), ndtri(y), seen=seen)
            key[-1] = y
            lows.append((x, y))
            highs.append((x, y))
        _floor(ax, d, float(ndtri(1 / d.curve.impostor)))
    for k, apart in enumerate((0.11, 0.06)):
        low = 0.8 * min((pair[k] for pair in lows), default=0.001)
        high = min(0.995, max(0.05, 1.1 * max((pair[k] for pair in highs), default=0.5)))
        ticks = _ticks(low, high, apart)
        ends, places = (float(ndtri(low)), float(ndtri(high))), [float(ndtri(t)) for t in ticks]
        if k == 0:
            ax.set_xlim(ends)
            ax.set_xticks(places, [_written(t) for t in ticks])
        else:
            ax.set_ylim(ends)
            ax.set_yticks(places, [_written(t) for t in ticks])
    ax.set_xlabel("false match rate, % (normal deviates)")
    ax.set_ylabel("false non-match rate, % (normal deviates)")
    ax.grid(True)
    _legend(ax, drawn, key)
    return paper.canvas


@styled
def roc_canvas(curves: Sequence[RateCurve], verification: Verification) -> Canvas:
    """TMR over the logarithm of FMR, one line per group, the common threshold marked."""
    drawn = _drawn(curves, verification, deviates=False)
    paper, ax = _page(curves, drawn, verification, deviates=False)
    ax.set_xscale("log")
    key, lowest = [], [HIGHEST_LOW_END]
    for d in drawn:
        ax.plot(
            d.points.fmr,
            1 - d.points.fnmr,
            color=d.style.color,
            linestyle=d.style.dash,
            linewidth=1.9,
            gid=f"curve:{d.place}",
        )
        lowest.append(float((1 - d.points.fnmr).min()))
        key.append(float(d.points.fnmr[-1]))
        if d.rates is not None and d.rates.fmr.value is not None and d.rates.fnmr.value is not None:
            x, y, seen = operating_point(d.rates, d.curve, deviates=False)
            _mark(ax, d, x, 1 - y, seen=seen)
            key[-1] = y
            lowest.append(1 - y)
        _floor(ax, d, 1 / d.curve.impostor)
    low = min((1 / d.curve.impostor for d in drawn), default=0.001)
    ax.set_xlim(0.7 * low, 1.0)
    decades = [10.0**k for k in range(int(np.floor(np.log10(low))), 1) if 10.0**k >= 0.7 * low]
    ax.set_xticks(decades, [_written(t) for t in decades])
    ax.minorticks_off()
    ax.set_ylim(max(0.0, min(lowest) - 0.03 * (1 - min(lowest)) - 0.002), 1.0 + 0.01 * (1 - min(lowest)))
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.4g}")
    ax.set_xlabel("false match rate, % (logarithmic)")
    ax.set_ylabel("true match rate, %")
    ax.grid(True)
    _legend(ax, drawn, key)
    return paper.canvas


def det_figure(curves: Sequence[RateCurve], verification: Verification) -> Plot:
    """Detection error trade-off of every group."""
    return rendered(
        det_canvas(curves, verification),
        "det",
        "Error trade-off per group (DET)",
        "Every threshold's two error rates, on normal-deviate axes: lower left is better; groups that are "
        f"served equally well lie on one line. {_note(curves, _drawn(curves, verification), verification)}",
        _text("FNMR against FMR", verification),
        "verification",
    )


def roc_figure(curves: Sequence[RateCurve], verification: Verification) -> Plot:
    """True match rate of every group over its false match rate."""
    drawn = _drawn(curves, verification, deviates=False)
    return rendered(
        roc_canvas(curves, verification),
        "roc",
        "True match rate per group (ROC)",
        "True match rate over the false match rate, which is logarithmic: upper left is better. "
        f"{_note(curves, drawn, verification, deviates=False)}",
        _text("True match rate against FMR", verification),
        "verification",
    )


def _text(what: str, verification: Verification) -> str:
    parts = [
        f"{readable(g.group)} FMR {100 * g.fmr.value:.3g} %, FNMR {100 * g.fnmr.value:.3g} %"
        for g in verification.arms[0].groups
        if g.fmr.value is not None and g.fnmr.value is not None
    ]
    return f"{what}, one curve per group. At the common threshold: {'; '.join(parts) or 'no rates'}."


__all__ = ["det_canvas", "det_figure", "operating_point", "roc_canvas", "roc_figure", "supported"]
