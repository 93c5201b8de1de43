"""The cache of weights against the catalogue."""

from __future__ import annotations

from fairloop import models
from fairloop.doctor.finding import Finding
from fairloop.errors import DataLoss, FairloopError, NotFound


def weights() -> Finding:
    """Which files of the catalogue are in the cache, and whether they are those that it names."""
    try:
        entries = models.catalogue()
    except FairloopError as error:
        return Finding("weights", "fail", str(error), "FAIRLOOP_MODELS names the catalogue to read")
    absent: list[str] = []
    by_hand: list[str] = []
    wrong: list[str] = []
    size = 0
    for name, entry in entries.items():
        try:
            models.verify(name)
            size += entry.size
        except NotFound:
            # Of those that only a person can fetch, none is needed unless it is asked for.
            (by_hand if entry.by_hand else absent).append(name)
        except (DataLoss, OSError) as error:
            wrong.append(f"{name}: {error}")
    there = len(entries) - len(absent) - len(by_hand) - len(wrong)
    facts = {
        "catalogued": len(entries),
        "cached": there,
        "absent": absent,
        "by_hand": by_hand,
        "wrong": wrong,
    }
    if wrong:
        return Finding(
            "weights", "fail", "; ".join(wrong), "delete the file, then: fairloop models pull", facts
        )
    detail = f"{there} of {len(entries) - len(by_hand)} in the cache with their sha256 ({size / 1e6:.0f} MB)"
    if absent:
        names = " ".join(absent) if there else ""
        advice = f"where the sources can be reached: fairloop models pull {names}".strip()
        return Finding(
            "weights",
            "warn",
            detail if not there else f"{detail}; absent: {', '.join(absent)}",
            advice,
            facts,
        )
    return Finding("weights", "ok", detail, facts=facts)
