"""Parts of the report document from stored reports: conversion, no computation.

The bodies are what `to_dict` of an `AuditReport`, an `AuditChange`, a
`VerificationReport` or a `ComparisonReport` gives, fresh or read back from JSON.
"""

from __future__ import annotations

from fairloop.reporting.sections.classification import classification
from fairloop.reporting.sections.exploration import (
    exploration_highlights,
    explored,
    sheet_note,
    sheet_rows,
)
from fairloop.reporting.sections.finding import (
    balance,
    classified,
    compared,
    compared_limits,
    distance,
    finding,
    highlights,
    limits,
    verdict,
)
from fairloop.reporting.sections.leaks import leak_highlights, leak_limits, leaks
from fairloop.reporting.sections.parts import estimate
from fairloop.reporting.sections.prompts import conventions as prompt_conventions
from fairloop.reporting.sections.prompts import prompt_highlights, prompted
from fairloop.reporting.sections.protocols import (
    contest,
    contest_highlights,
    contest_verdict,
    points,
    policies,
    race_highlights,
    races,
    three_arms,
)
from fairloop.reporting.sections.rates import rates
from fairloop.reporting.sections.shares import no_faces, shares
from fairloop.reporting.sections.verification import evaluation, verification

__all__ = [
    "balance",
    "classification",
    "classified",
    "compared",
    "compared_limits",
    "contest",
    "contest_highlights",
    "contest_verdict",
    "distance",
    "estimate",
    "evaluation",
    "exploration_highlights",
    "explored",
    "finding",
    "highlights",
    "leak_highlights",
    "leak_limits",
    "leaks",
    "limits",
    "no_faces",
    "points",
    "policies",
    "prompt_conventions",
    "prompt_highlights",
    "prompted",
    "race_highlights",
    "races",
    "rates",
    "shares",
    "sheet_note",
    "sheet_rows",
    "three_arms",
    "verdict",
    "verification",
]
