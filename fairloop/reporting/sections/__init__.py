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
from fairloop.reporting.sections.rates import rates
from fairloop.reporting.sections.shares import no_faces, shares
from fairloop.reporting.sections.verification import evaluation, verification

__all__ = [
    "balance",
    "classification",
    "classified",
    "compared",
    "compared_limits",
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
    "rates",
    "shares",
    "sheet_note",
    "sheet_rows",
    "verdict",
    "verification",
]
