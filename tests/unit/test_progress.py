"""Progress where there is no terminal: lines, seldom, that say how far it is."""

from __future__ import annotations

import io

from rich.console import Console

from fairloop.commands import progress


def told(unit: str, calls: list[tuple[float, str, int, int | None]]) -> str:
    """What is printed of calls at these seconds."""
    out = io.StringIO()
    now = [0.0]
    lines = progress._lines(Console(file=out, width=200), unit, lambda: now[0])
    for at, stage, done, total in calls:
        now[0] = at
        lines(stage, done, total)
    return out.getvalue()


def test_a_line_comes_every_ten_seconds_with_rate_and_estimate() -> None:
    calls = [(second, "copying", 50 * second, 2_000) for second in range(1, 31)]
    # 50 a second: after 10 s 1,500 are left, which take 30 s.
    assert told(" images", [(float(at), s, d, t) for at, s, d, t in calls]) == (
        "  copying: 500 of 2,000 images, 50 images/s, 30 s left\n"
        "  copying: 1,000 of 2,000 images, 50 images/s, 20 s left\n"
        "  copying: 1,500 of 2,000 images, 50 images/s, 10 s left\n"
    )


def test_nothing_is_printed_of_what_takes_less_and_no_estimate_without_a_total() -> None:
    assert told("", [(1.0, "checking", 5, None), (9.9, "checking", 900, 1_000)]) == ""
    assert told("", [(20.0, "checking", 30, None)]) == "  checking: 30, 1.5/s\n"


def test_a_stage_that_begins_later_has_a_rate_of_its_own() -> None:
    calls = [(0.0, "checking", 1, 100), (5.0, "checking", 100, 100), (6.0, "copying", 0, 100)]
    assert told("", [*calls, (16.0, "copying", 40, 100)]) == ("  copying: 40 of 100, 4.0/s, 15 s left\n")
