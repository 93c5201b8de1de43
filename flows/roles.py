"""Who steers and who judges: chosen from the annotators whose errors are known, where any are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairloop.calibrations import Measured, load
from fairloop.store import ObjectStore


@dataclass(frozen=True)
class Roles:
    """One attribute's annotators, and why they."""

    attribute: str
    steering: str
    judging: str
    calibrated: bool
    """Whether the judge's errors are known."""
    because: str


def choose(attribute: str, steering: str, judging: str, measured: Sequence[Measured]) -> Roles:
    """The roles on one attribute: of the calibrated annotators the most accurate judges, the next one steers.

    With one calibrated annotator that one judges, and with none both are as the
    parameters say. One annotator never gets both roles while there is another.
    Of equally accurate ones the first by name.
    """
    ranked = sorted(
        (one for one in measured if one.attribute == attribute),
        key=lambda one: (-mean_recall(one), one.annotator),
    )
    if not ranked:
        return Roles(attribute, steering, judging, False, "no calibration covers this attribute")
    judge = ranked[0].annotator
    others = [*(one.annotator for one in ranked[1:]), *(n for n in (steering, judging) if n != judge)]
    chosen = others[0] if others else judge
    text = ", ".join(f"{one.annotator} {mean_recall(one):.3f}" for one in ranked)
    return Roles(attribute, chosen, judge, True, f"mean recall over true values: {text}")


def mean_recall(one: Measured) -> float:
    """Mean over the true values that occur of the share of their labels that are right, 0–1.

    Accuracy alone would favour whoever guesses the commonest value.
    """
    rows = [(row[t], sum(row)) for t, row in enumerate(one.confusion) if sum(row)]
    return sum(right / total for right, total in rows) / len(rows) if rows else 0.0


def calibrated(store: ObjectStore, names: Sequence[str]) -> list[Measured]:
    """Everything that these calibrations measured; raises what `fairloop.calibrations.load` raises."""
    return [one for name in names for one in load(store, name).measured]
