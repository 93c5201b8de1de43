"""Biometric and fairness statistics: pure functions on arrays (numpy, scipy).

Scalar measures take plain sequences and return a `Measure`, a float that knows
its formula's name, its fair value and its flags. What is computed, and with
which conventions, is in docs/statistics.md.
"""

from __future__ import annotations

from fairloop.stats.agreement import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from fairloop.stats.agreement_report import AgreementReport, agreement_by_group
from fairloop.stats.annotator_error import Correction, correct_for_annotator
from fairloop.stats.attribute_gaps import AttributeGaps, SeveralAttributes, attribute_gaps
from fairloop.stats.audit import audit_distribution
from fairloop.stats.audit_change import compare_audits
from fairloop.stats.audit_report import AuditChange, AuditReport, CellRecord
from fairloop.stats.calibration import Calibration, calibrate
from fairloop.stats.classification import classification_fairness
from fairloop.stats.classification_report import ClassificationRecord, ClassificationReport
from fairloop.stats.compare import compare_recognizers, compare_reports
from fairloop.stats.comparison import ComparisonReport, Control, Difference
from fairloop.stats.consensus import Consensus, dawid_skene
from fairloop.stats.cross_group import CrossGroupMatrix, cross_group_matrix
from fairloop.stats.curves import (
    d_prime,
    det,
    equal_error_rate,
    fisher_ratio,
    fnmr_at_fmr,
    roc,
    threshold_at_fmr,
)
from fairloop.stats.densities import ScoreDensity, score_densities
from fairloop.stats.distribution import distribution
from fairloop.stats.evaluation import Options
from fairloop.stats.identity_rates import IdentityRates, identity_rates
from fairloop.stats.inequality import (
    fairness_discrepancy_rate,
    garbe,
    gini,
    inequity_rate,
    max_over_geomean,
    skewed_error_ratio,
)
from fairloop.stats.intervals import clopper_pearson, wilson
from fairloop.stats.lfw import LfwAccuracy, lfw_accuracy
from fairloop.stats.pair_list import similarity_from_distance
from fairloop.stats.pairs import evaluate_pairs
from fairloop.stats.pairwise import PairwiseGap, pairwise_gaps
from fairloop.stats.panel import Panel, annotator_panel
from fairloop.stats.power import required_subjects
from fairloop.stats.ranking import Ranking, ranking
from fairloop.stats.rate_summaries import RateSummaries, summarise_rates
from fairloop.stats.report import GroupRecord, Summary, VerificationReport
from fairloop.stats.risk import cvar
from fairloop.stats.scan import RateCurve, rate_curves
from fairloop.stats.sweep import Sweep, threshold_sweep
from fairloop.stats.verdict import Decision, Verdict
from fairloop.stats.verification import evaluate_verification

__all__ = [
    "AgreementReport",
    "AttributeGaps",
    "AuditChange",
    "AuditReport",
    "Calibration",
    "CellRecord",
    "ClassificationRecord",
    "ClassificationReport",
    "ComparisonReport",
    "Consensus",
    "Control",
    "Correction",
    "CrossGroupMatrix",
    "Decision",
    "Difference",
    "GroupRecord",
    "IdentityRates",
    "LfwAccuracy",
    "Options",
    "PairwiseGap",
    "Panel",
    "Ranking",
    "RateCurve",
    "RateSummaries",
    "ScoreDensity",
    "SeveralAttributes",
    "Summary",
    "Sweep",
    "Verdict",
    "VerificationReport",
    "agreement_by_group",
    "annotator_panel",
    "attribute_gaps",
    "audit_distribution",
    "calibrate",
    "classification_fairness",
    "clopper_pearson",
    "cohen_kappa",
    "compare_audits",
    "compare_recognizers",
    "compare_reports",
    "correct_for_annotator",
    "cross_group_matrix",
    "cvar",
    "d_prime",
    "dawid_skene",
    "det",
    "distribution",
    "equal_error_rate",
    "evaluate_pairs",
    "evaluate_verification",
    "fairness_discrepancy_rate",
    "fisher_ratio",
    "fleiss_kappa",
    "fnmr_at_fmr",
    "garbe",
    "gini",
    "gwet_ac1",
    "identity_rates",
    "inequity_rate",
    "krippendorff_alpha",
    "lfw_accuracy",
    "max_over_geomean",
    "pairwise_gaps",
    "ranking",
    "rate_curves",
    "required_subjects",
    "roc",
    "score_densities",
    "similarity_from_distance",
    "skewed_error_ratio",
    "summarise_rates",
    "threshold_at_fmr",
    "threshold_sweep",
    "wilson",
]
