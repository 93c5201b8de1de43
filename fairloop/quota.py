"""The loop controller: from an audit to what to ask for next. Pure functions.

Deficit ÷ measured yield, damped, bounded by a budget of candidates. Every plan
says what it was made from, so that a decision can be read later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fairloop.errors import InvalidInput


@dataclass(frozen=True)
class CellPlan:
    """What to ask for of one cell.

    `subjects` is what is asked for, `wanted` what the target asks for before the
    budget. `candidates` is how many candidate subjects that is expected to take
    at the yield `yield_used`. `limited` is true where the budget cut it.
    """

    cell: str
    wanted: int
    subjects: int
    yield_used: float
    candidates: int
    limited: bool


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `total` and follow the shares (largest remainder; ties in cell order)."""
    if total < 0:
        raise InvalidInput("total", f"{total} is negative")
    weight = sum(shares.values())
    if not shares or any(share < 0 or not math.isfinite(share) for share in shares.values()) or weight <= 0:
        raise InvalidInput("shares", "must be numbers of 0 or above, at least one above 0")
    exact = {cell: total * share / weight for cell, share in shares.items()}
    counts = {cell: math.floor(value) for cell, value in exact.items()}
    by_remainder = sorted(exact, key=lambda cell: counts[cell] - exact[cell])
    for cell in by_remainder[: total - sum(counts.values())]:
        counts[cell] += 1
    return counts


def plan(
    target: Mapping[str, float],
    yields: Mapping[str, float],
    subjects: int,
    *,
    have: Mapping[str, int] | None = None,
    budget: int,
    damping: float = 1.0,
    least_yield: float = 0.002,
) -> list[CellPlan]:
    """How many subjects to ask for of each cell.

    The deficit of a cell is its share of `subjects` less what there is already
    (`have`), times `damping` (0–1: how much of the deficit to close in this
    round). Its candidates are deficit ÷ yield; a cell with a yield under
    `least_yield` is planned at that yield. When all candidates together exceed
    `budget`, every cell's share of it is in proportion to what it would need,
    so no cell is given up for another.
    """
    if not 0 < damping <= 1:
        raise InvalidInput("damping", f"{damping} is outside 0–1, 0 excluded")
    if budget < 1 or subjects < 1:
        field, value = ("budget", budget) if budget < 1 else ("subjects", subjects)
        raise InvalidInput(field, f"{value} must be 1 or more")
    unknown = set(target) - set(yields)
    if unknown:
        raise InvalidInput("yields", f"no yield is known for {', '.join(sorted(unknown))}")
    for cell, share in yields.items():
        if not 0 <= share <= 1:
            raise InvalidInput("yields", f"{share} of {cell} is outside 0–1")
    have = have or {}
    wanted = {
        cell: round(max(count - have.get(cell, 0), 0) * damping)
        for cell, count in apportion(subjects, target).items()
    }
    used = {cell: max(yields[cell], least_yield) for cell in target}
    need = {cell: wanted[cell] / used[cell] for cell in target}
    scale = min(1.0, budget / sum(need.values())) if sum(need.values()) else 1.0
    plans = []
    for cell in target:
        count = math.floor(wanted[cell] * scale + 1e-9)
        candidates = math.ceil(count / used[cell] - 1e-9)
        plans.append(CellPlan(cell, wanted[cell], count, used[cell], candidates, count < wanted[cell]))
    return plans
