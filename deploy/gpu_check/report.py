"""What the checks came to, as JSON and in lines to read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = "fairloop.gpu_report/1"
SHOWN = (
    "images_per_second",
    "seconds_per_step",
    "peak_bytes",
    "trainer_bytes",
    "relative_difference",
    "batch",
)
"""Measures that a line shows; the file has all of them."""


@dataclass(frozen=True)
class Outcome:
    """One check: `said` is empty when it passed, and else what was wrong."""

    name: str
    seconds: float
    said: str = ""
    measures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.said

    @property
    def line(self) -> str:
        """For the terminal."""
        if not self.passed:
            return f"failed  {self.name} ({self.seconds:.0f} s): {self.said}"
        shown = [_shown(name, self.measures[name]) for name in SHOWN if name in self.measures]
        return f"passed  {self.name} ({self.seconds:.0f} s)" + (f": {', '.join(shown)}" if shown else "")


def write(
    path: Path, device: str, facts: Mapping[str, Any], tiny: bool, outcomes: Sequence[Outcome], at: str
) -> None:
    """The report; `at` is when the check ended, RFC 3339."""
    document = {
        "schema": SCHEMA,
        "device": device,
        "facts": dict(facts),
        "tiny": tiny,
        "ended": at,
        "seconds": sum(outcome.seconds for outcome in outcomes),
        "passed": all(outcome.passed for outcome in outcomes),
        "checks": [_plain({**asdict(outcome), "passed": outcome.passed}) for outcome in outcomes],
    }
    path.write_text(
        json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def _plain(value: Any) -> Any:
    """What JSON knows: a number that is none is told as a word."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _shown(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if name.endswith("_bytes"):
        return f"{words.removesuffix(' bytes')} {value / 1e9:.2f} GB"
    return f"{words} {value:.3g}"
