"""How annotators err and how far they agree, as sections; conversion only."""

from __future__ import annotations

from collections.abc import Iterator

from fairloop.reporting.labelled import (
    Agreed,
    Agreement,
    AgreementLine,
    Calibrated,
    Calibrations,
    ConfusionLine,
    PairLine,
    ReliabilityLine,
    StabilityLine,
    ToLookAt,
)
from fairloop.reporting.sections.parts import Body, conventions, estimate
from fairloop.stats.flags import explain


def calibration_section(body: Body) -> Calibrations:
    """Every annotator of a `calibration.json`."""
    return Calibrations(
        dataset=body["dataset"],
        changes=tuple(f"{name}: {text}" for name, text in body["changes"].items()),
        annotators=tuple(_calibrated(one) for one in body["calibrations"]),
    )


def _calibrated(one: Body) -> Calibrated:
    found = one["reliability"]
    return Calibrated(
        **{key: one[key] for key in ("attribute", "annotator", "version", "images", "labelled")},
        accuracy=estimate(one["accuracy"], one["accuracy_interval"]),
        values=tuple(one["values"]),
        confusion=tuple(
            ConfusionLine(
                **{key: row[key] for key in ("truth", "images", "unlabelled")},
                shares=tuple(
                    estimate(share, interval)
                    for share, interval in zip(row["shares"], row["intervals"], strict=True)
                ),
            )
            for row in one["rows"]
        ),
        ece=found["ece"] if found else None,
        brier=found["brier"] if found else None,
        reliability=tuple(
            ReliabilityLine(
                **{key: bin_[key] for key in ("low", "high", "images", "confidence")},
                accuracy=estimate(bin_["accuracy"], bin_["interval"]),
            )
            for bin_ in (found["bins"] if found else ())
            if bin_["images"]
        ),
        stability=tuple(
            StabilityLine(
                **{key: row[key] for key in ("change", "group", "images", "not_tried", "flipped", "lost")},
                kept=estimate(row["share"], row["interval"]),
            )
            for row in one["stability"]
        ),
        flags=tuple(map(explain, one["flags"])),
        conventions=conventions(one),
    )


def calibration_limits(body: Body) -> Iterator[str]:
    """What the numbers do not say."""
    yield (
        f"The labels of {body['dataset']} are taken as true, and its pictures as like those that are "
        "audited: on other pictures the annotators may err otherwise."
    )
    for one in body["calibrations"]:
        for value in one["never_predicted"]:
            yield f"{one['annotator']} never says {one['attribute']} {value} here."


def agreement_section(body: Body) -> Agreement:
    """Every attribute of a comparison of annotators."""
    return Agreement(
        annotations=body["annotations"],
        group_source=body["label_source"],
        consensus_version=body["consensus_version"],
        attributes=tuple(_agreed(attribute, panel) for attribute, panel in body["attributes"].items()),
    )


def _agreed(attribute: str, panel: Body) -> Agreed:
    return Agreed(
        attribute=attribute,
        annotators=tuple(panel["annotators"]),
        level=panel["level"],
        differing=panel["differing"],
        groups=tuple(
            AgreementLine(
                **{key: row[key] for key in ("group", "images", "complete")},
                fleiss=estimate(row["fleiss"], row["fleiss_interval"]),
                alpha=estimate(row["alpha"], row["alpha_interval"]),
                flags=tuple(map(explain, row["flags"])),
            )
            for row in (*panel["groups"], panel["overall"])
        ),
        pairs=tuple(
            PairLine(
                pair=name,
                group=row["group"],
                images=row["items"],
                **{key: estimate(row[key], row[f"{key}_interval"]) for key in ("agreement", "kappa", "ac1")},
            )
            for name, report in panel["pairs"].items()
            for row in (*report["groups"], report["overall"])
        ),
        look_at=tuple(
            ToLookAt(
                image=one["image"],
                labels=tuple(one["labels"]),
                consensus=one["consensus"],
                entropy=one["entropy"],
            )
            for one in panel["disagreements"]
        ),
        flags=tuple(map(explain, panel["consensus"]["flags"])),
        conventions=conventions(panel),
    )


def agreement_limits(body: Body) -> Iterator[str]:
    """What the numbers do not say."""
    yield "Annotators that agree can be wrong together: agreement is no proof of truth."
    yield (
        "The consensus takes annotators as erring independently given the truth; two that were trained on "
        "the same data do not."
    )
    if any(len(panel["annotators"]) < 3 for panel in body["attributes"].values()):
        yield "Two annotators cannot tell which of them errs: the consensus follows the commoner label."
