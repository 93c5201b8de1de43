"""FMR and FNMR per group, with intervals and where equal groups would lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure as Canvas

from fairloop.reporting.drawing import Plot, drawable, rendered, styled
from fairloop.reporting.figures.panels import Panel, Row, panels_canvas
from fairloop.reporting.measured import ArmRates, GroupRates, Verification
from fairloop.reporting.wording import counted, readable

Pick = Callable[[GroupRates], Row]

PANELS: tuple[tuple[str, str, Pick], ...] = (
    ("FMR at {at}", "false match rate", lambda g: (g.fmr, g.fmr_null)),
    ("FNMR at {at}", "false non-match rate", lambda g: (g.fnmr, g.fnmr_null)),
    (
        "FNMR at each group's own threshold",
        "false non-match rate",
        lambda g: (g.fnmr_at_own_threshold, g.fnmr_at_own_threshold_null),
    ),
)


def over(verification: Verification) -> str:
    """What the intervals are over."""
    if all(group.subjects is None for arm in verification.arms for group in arm.groups):
        return "pairs, as if independent"
    one = len(verification.arms) == 1 and verification.arms[0].runs == 1
    return "subjects" if one else "seeds and subjects"


def basis(verification: Verification) -> str:
    """What every figure of a verification says: how many, at which threshold, by whose labels."""
    return (
        f"{counted(verification.arms[0].groups)}. Threshold: {verification.threshold_policy}. "
        f"Groups: {verification.group_source}."
    )


@styled
def rates_canvas(verification: Verification) -> Canvas:
    """One panel per rate that any group has; a row per group, in it one point per arm."""
    arms = verification.arms
    groups = [group.group for group in arms[0].groups]
    panels = [
        Panel(
            title.format(at=verification.at),
            axis,
            [[_row(arm, group, pick) for group in groups] for arm in arms],
        )
        for title, axis, pick in PANELS
    ]
    panels = [p for p in panels if any(row[0].value is not None for arm in p.rows for row in arm)] or panels
    note = f"95 % intervals over {over(verification)}. {basis(verification)}"
    return panels_canvas(panels, groups, [_arm_label(arms, a) for a in range(len(arms))], note)


def _row(arm: ArmRates, name: str, pick: Pick) -> Row:
    return pick(next(group for group in arm.groups if group.group == name))


def _arm_label(arms: Sequence[ArmRates], place: int) -> str:
    arm = arms[place]
    if len(arms) == 1 and arm.runs == 1:
        return "rate, 95 % interval"
    return f"{drawable(arm.name)} ({arm.runs} run{'s' if arm.runs != 1 else ''})"


def rates_figure(verification: Verification) -> Plot:
    """FMR and FNMR per group and arm, with intervals and where equal groups would lie."""
    arms = verification.arms
    several = len(arms) > 1 or arms[0].runs > 1
    return rendered(
        rates_canvas(verification),
        "rates",
        "Error rates per group",
        f"{'Means over training runs' if several else 'Rates'} with 95 % intervals over "
        f"{over(verification)}. Grey: where 95 % of this group's rates would lie if all groups had the "
        f"{'pooled rate of the arm' if several else 'pooled rate'}. {basis(verification)}",
        _text(arms),
        "verification",
    )


def _text(arms: Sequence[ArmRates]) -> str:
    parts = []
    for arm in arms:
        for group in arm.groups:
            rates = (
                (group.fmr, "FMR"),
                (group.fnmr, "FNMR"),
                (group.fnmr_at_own_threshold, "FNMR at own threshold"),
            )
            words = [f"{name} {100 * e.value:.2f} %" for e, name in rates if e.value is not None]
            whose = f"{arm.name}, " if len(arms) > 1 else ""
            parts.append(f"{whose}{readable(group.group)}: {', '.join(words) or 'no rate'}")
    return "Error rates per group. " + "; ".join(parts) + "."
