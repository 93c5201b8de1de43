"""Words that figures and pages share: names of groups, how many, lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fairloop.reporting.document import GroupRates

_ATTRIBUTE = re.compile(r"[A-Za-z][\w.-]*=")

LISTED = 3
"""Up to so many groups are listed with their numbers under a figure; of more, the range."""


def readable(cell: str) -> str:
    """`gender=female,skin_tone_band=dark` as `female, dark`."""
    parts = [_ATTRIBUTE.sub("", part, count=1) or part for part in cell.split(",")]
    return ", ".join(parts).replace("_", " ")


def span(values: Iterable[int | None]) -> str:
    """`120` or `40–120`; unknown where nothing is known."""
    known = [value for value in values if value is not None]
    if not known:
        return "an unknown number of"
    low, high = min(known), max(known)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def counted(groups: Sequence[GroupRates]) -> str:
    """Subjects and pairs behind a figure: group by group when they are few, else as ranges."""
    if len(groups) <= LISTED:
        return "; ".join(
            f"{readable(g.group)}: {span([g.subjects])} subjects, {g.genuine:,} genuine and "
            f"{g.impostor:,} impostor pairs"
            for g in groups
        )
    return (
        f"{len(groups)} groups of {span(g.subjects for g in groups)} subjects, "
        f"{span(g.genuine for g in groups)} genuine and {span(g.impostor for g in groups)} impostor pairs each"
    )


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))
