"""Auditing a generator, and steering it: shares per cell, a fitted latent sampler, its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger

from fairloop.v1 import common_pb2, generator_pb2, metrics_pb2
from flows.loop_round import Round, annotate, generate


@dataclass(frozen=True)
class Audit:
    """One audit: the unrejected samples, all annotators' table, what judges and steerers say of it."""

    dataset: str
    annotations: str
    judged: dict[str, Any]
    judged_report: str
    steered: dict[str, Any]
    steered_report: str


def audit(
    run: Round,
    name: str,
    model: str,
    steering: list[common_pb2.LabelSource],
    judging: list[common_pb2.LabelSource],
    before: str = "",
) -> Audit:
    """Unrejected samples under a fresh seed, described by all annotators, audited by both roles."""
    p = run.parameters
    made = generate(
        run,
        f"{name}: {p.audit_images} unrejected samples",
        generator_pb2.GenerateRequest(
            model=model,
            quotas=[generator_pb2.Quota(subjects=p.audit_images, images_per_subject=1)],
            seed=run.seed(f"audit_{name}"),
            dataset=f"datasets/{p.name}-audit-{name}",
        ),
    )
    table = annotate(run, f"{name}: annotate", made.dataset, [*steering, *judging])
    reports = {}
    for role, sources in (("judging", judging), ("steering", steering)):
        request = metrics_pb2.AuditDistributionRequest(
            annotations=table,
            sources=sources,
            before_annotations=before,
            role=role,
            seed=run.seed("resampling"),
            calibrations=run.corrections if role == "judging" else (),
        )
        reports[role] = run.do(
            f"{name}: shares by the {role} annotators", "metrics", "audit_distribution", request
        )
    judged, steered = reports["judging"], reports["steering"]
    return Audit(
        made.dataset,
        table,
        json.loads(judged.summary_json),
        judged.report,
        json.loads(steered.summary_json),
        steered.report,
    )


def steer(
    run: Round, base: str, annotations: str, steering: list[common_pb2.LabelSource]
) -> generator_pb2.FineTuneGeneratorResult:
    """Fits a latent sampler on the steering labels, then sets its weights by a pilot of its own samples."""
    p = run.parameters

    def fine_tune(title: str, model: str, table: str) -> generator_pb2.FineTuneGeneratorResult:
        recipe = generator_pb2.LatentSampler(
            annotations=table, sources=steering, attributes=[s.attribute for s in steering]
        )
        request = generator_pb2.FineTuneGeneratorRequest(
            model=model,
            target_model=f"models/{p.name}-steered",
            latent_sampler=recipe,
            seed=run.seed("fine_tune"),
        )
        return run.do(title, "generator", "fine_tune", request)

    first = fine_tune("fit the latent sampler", base, annotations)
    pilot = generate(
        run,
        f"pilot: {p.pilot_images} samples of it",
        generator_pb2.GenerateRequest(
            model=first.model,
            quotas=[generator_pb2.Quota(subjects=p.pilot_images, images_per_subject=1)],
            seed=run.seed("pilot"),
            dataset=f"datasets/{p.name}-pilot",
        ),
    )
    table = annotate(run, "pilot: annotate", pilot.dataset, steering)
    second = fine_tune("set its weights by the pilot", first.model, table)
    shown = generator_pb2.FineTuneGeneratorResult()
    shown.CopyFrom(second)
    del shown.nuisances[:]
    # What moved with the attributes was measured when the directions were fitted.
    shown.nuisances.extend(first.nuisances)
    shown.fit.update(first.fit)
    for nuisance in first.nuisances:
        get_run_logger().info(
            "  along %s, %s moves %+.2f sd per sd (naive direction: %+.2f)",
            nuisance.attribute,
            nuisance.nuisance,
            nuisance.used,
            nuisance.naive,
        )
    return shown
