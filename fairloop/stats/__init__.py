"""Biometric and fairness statistics: pure functions on arrays (numpy, scipy).

Scalar measures take plain sequences and return a `Measure`, a float that knows
its formula's name, its fair value and its flags. What is computed, and with
which conventions, is in docs/statistics.md.
"""

from __future__ import annotations

from fairloop.stats.annotator_error import Correction, correct_for_annotator
from fairloop.stats.audit import audit_distribution
from fairloop.stats.audit_change import compare_audits
from fairloop.stats.audit_report import AuditChange, AuditReport, CellRecord
from fairloop.stats.compare import compare_recognizers, compare_reports
from fairloop.stats.comparison import ComparisonReport, Control, Difference
from fairloop.stats.curves import d_prime, det, equal_error_rate, roc, threshold_at_fmr
from fairloop.stats.densities import ScoreDensity, score_densities
from fairloop.stats.distribution import distribution
from fairloop.stats.inequality import (
    fairness_discrepancy_rate,
    garbe,
    gini,
    inequity_rate,
    max_over_geomean,
    skewed_error_ratio,
)
from fairloop.stats.intervals import clopper_pearson, wilson
from fairloop.stats.report import GroupRecord, Summary, VerificationReport
from fairloop.stats.verdict import Decision, Verdict
from fairloop.stats.verification import evaluate_verification

__all__ = [
    "AuditChange",
    "AuditReport",
    "CellRecord",
    "ComparisonReport",
    "Control",
    "Correction",
    "Decision",
    "Difference",
    "GroupRecord",
    "ScoreDensity",
    "Summary",
    "Verdict",
    "VerificationReport",
    "audit_distribution",
    "clopper_pearson",
    "compare_audits",
    "compare_recognizers",
    "compare_reports",
    "correct_for_annotator",
    "d_prime",
    "det",
    "distribution",
    "equal_error_rate",
    "evaluate_verification",
    "fairness_discrepancy_rate",
    "garbe",
    "gini",
    "inequity_rate",
    "max_over_geomean",
    "roc",
    "score_densities",
    "skewed_error_ratio",
    "threshold_at_fmr",
    "wilson",
]
