"""What may be said of two arms, on one measure named before the run (statistics §6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fairloop.stats.intervals import Interval
from fairloop.stats.null import SIGNIFICANT

TOLERANCE = 0.05
"""A remaining gap whose upper end is below this counts as closed."""


class Verdict(StrEnum):
    """The only words in which a comparison is summed up."""

    SMALLER = "smaller"
    CLOSED = "closed"
    LEVELLED_DOWN = "smaller because the best group got worse"
    NO_GAP = "no gap seen at this size"
    NOT_SHOWN = "not shown"
    ONE_RUN = "one run"
    SELF_GRADED = "self-graded"
    UNRELIABLE = "unreliable"


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on.

    `interval` is the 95 % interval of the paired difference that decides;
    `remaining_high` the upper end of the gap after; `seen_from` the smallest
    gap that would have been called one in the arm before (its null's 95th
    percentile); `p_before` that arm's p-value.
    """

    formula: str
    before: float
    after: float
    interval: Interval
    remaining_high: float
    p_before: float
    seen_from: float
    runs: tuple[int, int]
    levelling_down: bool
    self_graded: bool
    control_called_change: bool
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Decision:
    """A verdict and its one sentence. `otherwise` is what the numbers alone would have said."""

    verdict: Verdict
    sentence: str
    otherwise: Verdict


def _on_numbers(e: Evidence) -> Verdict:
    low, high = e.interval
    if e.p_before >= SIGNIFICANT:
        # A gap that grew out of none is no "no gap": it is a claim that was not shown.
        return Verdict.NO_GAP if low <= 0 else Verdict.NOT_SHOWN
    if high >= 0:
        return Verdict.NOT_SHOWN
    if e.levelling_down:
        return Verdict.LEVELLED_DOWN
    return Verdict.CLOSED if e.remaining_high < e.tolerance else Verdict.SMALLER


def decide(evidence: Evidence) -> Decision:
    """The verdict on the evidence, in the words of `Verdict` and nothing stronger.

    One run per arm, labels from the steering annotator, or a control that was
    called a change overrule what the numbers alone would say, in this order.
    """
    numbers = _on_numbers(evidence)
    verdict = numbers
    if min(evidence.runs) < 2:
        verdict = Verdict.ONE_RUN
    elif evidence.self_graded:
        verdict = Verdict.SELF_GRADED
    elif evidence.control_called_change:
        verdict = Verdict.UNRELIABLE
    return Decision(verdict, _sentence(verdict, numbers, evidence), numbers)


def _sentence(verdict: Verdict, numbers: Verdict, e: Evidence) -> str:
    low, high = e.interval
    moved = (
        f"the {e.formula} went from {e.before:.3f} to {e.after:.3f} (paired difference "
        f"{e.after - e.before:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, "
        f"{e.runs[0]} and {e.runs[1]} training runs)"
    )
    limit = f"(the smallest that could have been seen: {e.seen_from:.3f})"
    remains = f"what remains is at most {e.remaining_high:.3f}"
    detail = {
        Verdict.SMALLER: f"; {remains}, and {e.tolerance:g} would count as closed",
        Verdict.CLOSED: f"; {remains}, under the tolerance of {e.tolerance:g}",
        Verdict.LEVELLED_DOWN: "; most of that is the best group getting worse, not the worst getting better",
        Verdict.NO_GAP: f"; there was no gap to close that could be told from chance {limit}",
        Verdict.NOT_SHOWN: "; that is a larger gap" if low > 0 else "; that interval includes no change",
    }[numbers]
    overruled = {
        Verdict.ONE_RUN: "; one run is not a claim about the method",
        Verdict.SELF_GRADED: "; the groups' labels come from the annotator that steered the data",
        Verdict.UNRELIABLE: "; but the control, where nothing was changed, was called a change too",
    }.get(verdict, "")
    return f"{verdict.value.capitalize()}: {moved}{detail}{overruled}."
