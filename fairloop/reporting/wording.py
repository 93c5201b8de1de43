"""Words that figures and pages share: names of groups, how many, lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fairloop.reporting.measured import GroupRates
from fairloop.stats.flags import explain

_ATTRIBUTE = re.compile(r"[A-Za-z][\w.-]*=")
_SPAN = re.compile(r"(?<=\d)_(?=\d)")
_OPEN_END = re.compile(r"(?<=\d)_plus\b")

LISTED = 3
"""Up to so many groups are listed with their numbers under a figure; of more, the range."""


def readable(cell: str) -> str:
    """`gender=female,skin_tone_band=dark` as `female, dark`."""
    parts = [_ATTRIBUTE.sub("", part, count=1) or part for part in cell.split(",")]
    # Bins of age say `20_29` and `70_plus`.
    return _OPEN_END.sub("+", _SPAN.sub("–", ", ".join(parts))).replace("_", " ")


def shortened(text: str, length: int) -> str:
    """At most `length` characters, cut in the middle: long names tend to differ at their ends."""
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 1]}…{text[-tail:]}"


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
            f"{shortened(readable(g.group), 60)}: {span([g.subjects])} subjects, {span([g.genuine])} genuine "
            f"and {span([g.impostor])} impostor pairs"
            for g in groups
        )
    return (
        f"{len(groups)} groups of {span(g.subjects for g in groups)} subjects, "
        f"{span(g.genuine for g in groups)} genuine and {span(g.impostor for g in groups)} impostor pairs"
    )


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def flagged(found: Iterable[tuple[str, Sequence[str]]], *, names: bool = True) -> tuple[str, ...]:
    """Flags in words, each once with whom it concerns; `names` says that these are groups' names."""
    concerned: dict[str, dict[str, None]] = {}
    everybody: dict[str, None] = {}
    for who, flags in found:
        everybody[who] = None
        for flag in flags:
            concerned.setdefault(explain(flag), {})[who] = None
    lines = []
    groups = " groups" if names else ""
    for sentence, whom in concerned.items():
        words = [readable(who) if names else who for who in whom]
        everyone = len(whom) == len(everybody) and len(whom) > LISTED
        lines.append(f"{sentence}: {f'all {len(whom)}{groups}' if everyone else '; '.join(words)}")
    return tuple(lines)
