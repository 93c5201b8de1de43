"""The sets of subjects: two to train on, one to evaluate on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairloop import quota, taxonomy
from fairloop.v1 import common_pb2, generator_pb2
from flows.loop_round import Round, annotate, generate

GROUPS = ("skin_tone_band=dark", "skin_tone_band=light")
"""What the recogniser is evaluated between."""


def training_sets(
    run: Round,
    base: str,
    steered: generator_pb2.FineTuneGeneratorResult,
    steering: list[common_pb2.LabelSource],
) -> dict[str, generator_pb2.GenerateResult]:
    """Two training sets of equal size: as the generator makes them, and balanced over the cells."""
    p = run.parameters
    plans = quota.plan(
        {cell.cell: 1 / len(steered.cells) for cell in steered.cells},
        {cell.cell: cell.predicted_yield for cell in steered.cells},
        p.train_subjects,
        budget=p.candidate_budget,
    )
    run.decide(
        f"{sum(plan.subjects for plan in plans)} balanced subjects in {len(plans)} cells",
        "each cell gets its share, at the yield that the pilot measured",
        plan=[plan.__dict__ for plan in plans],
    )
    balanced = generate(
        run,
        "training set, balanced",
        generator_pb2.GenerateRequest(
            model=steered.model,
            quotas=[
                generator_pb2.Quota(
                    cell=plan.cell, subjects=plan.subjects, images_per_subject=p.images_per_subject
                )
                for plan in plans
                if plan.subjects
            ],
            acceptance=generator_pb2.Acceptance(sources=steering, max_candidates_per_image=40),
            seed=run.seed("training_balanced"),
            dataset=f"datasets/{p.name}-train-balanced",
            purpose="training a recogniser",
        ),
    )
    short = [q for q in balanced.quotas if q.subjects < q.subjects_wanted]
    for result in short:
        run.decide(
            f"{result.cell} stays at {result.subjects} of {result.subjects_wanted} subjects",
            f"its yield is {getattr(result, 'yield'):.1%}",
        )
    generated = generate(
        run,
        "training set, as generated",
        generator_pb2.GenerateRequest(
            model=base,
            quotas=[generator_pb2.Quota(subjects=balanced.subjects, images_per_subject=p.images_per_subject)],
            seed=run.seed("training_generated"),
            dataset=f"datasets/{p.name}-train-generated",
            purpose="training a recogniser",
        ),
    )
    return {"generated": generated, "balanced": balanced}


@dataclass(frozen=True)
class Evaluation:
    """The evaluation set: who is in which group was decided by the judge alone."""

    dataset: str
    annotations: str
    drawn_from: str
    result: generator_pb2.GenerateResult


def evaluation_set(
    run: Round, base: str, judged: dict[str, Any], judging: list[common_pb2.LabelSource]
) -> Evaluation:
    """Subjects of the two groups, accepted by the judge: from the prior where it gives enough of both.

    Else from a second direction, fitted on other images with the judge's labels,
    so that it shares nothing with the sampler that made the training set.
    """
    p = run.parameters
    tone = [s for s in judging if s.attribute == "skin_tone_band"]
    yields = {group: group_share(judged, group) for group in GROUPS}
    model, drawn_from = base, "the prior, by rejection"
    if min(yields.values()) < p.least_prior_yield:
        model, drawn_from = (
            second_direction(run, base, tone),
            "a second direction fitted with the judge's labels",
        )
    run.decide(
        f"evaluation subjects are drawn from {drawn_from}",
        "of the prior's images with a face the judge finds "
        + ", ".join(f"{share:.1%} {group}" for group, share in yields.items())
        + f"; from {p.least_prior_yield:.0%} on the prior is used",
        yields=yields,
    )
    made = generate(
        run,
        "evaluation set",
        generator_pb2.GenerateRequest(
            model=model,
            quotas=[
                generator_pb2.Quota(cell=group, subjects=p.eval_subjects, images_per_subject=p.eval_images)
                for group in GROUPS
            ],
            acceptance=generator_pb2.Acceptance(sources=tone, max_candidates_per_image=60),
            seed=run.seed("evaluation"),
            dataset=f"datasets/{p.name}-evaluation",
            purpose="evaluating recognisers",
        ),
    )
    return Evaluation(
        made.dataset, annotate(run, "evaluation set: annotate", made.dataset, tone), drawn_from, made
    )


def second_direction(run: Round, base: str, tone: list[common_pb2.LabelSource]) -> str:
    """A sampler of the tone bands by the judge's labels of images that nothing else has seen."""
    p = run.parameters
    made = generate(
        run,
        "second direction: samples",
        generator_pb2.GenerateRequest(
            model=base,
            quotas=[generator_pb2.Quota(subjects=p.audit_images, images_per_subject=1)],
            seed=run.seed("second_direction"),
            dataset=f"datasets/{p.name}-second-direction",
        ),
    )
    table = annotate(run, "second direction: annotate", made.dataset, tone)
    request = generator_pb2.FineTuneGeneratorRequest(
        model=base,
        target_model=f"models/{p.name}-second-direction",
        latent_sampler=generator_pb2.LatentSampler(
            annotations=table, sources=tone, attributes=["skin_tone_band"]
        ),
        seed=run.seed("second_direction"),
    )
    tuned = run.do("second direction: fit", "generator", "fine_tune", request)
    return str(tuned.model)


def group_share(audit_report: dict[str, Any], group: str) -> float:
    """Share of a group among an audit's images with a certain label, summed over the cells that it holds."""
    terms = taxonomy.parse_cell(group)
    return sum(
        cell["share"] or 0.0
        for cell in audit_report["cells"]
        if terms.items() <= taxonomy.parse_cell(cell["cell"]).items()
    )
