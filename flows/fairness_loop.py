"""One round of the loop: audit, steer, generate, retrain in arms, evaluate; never taking success for granted.

Two roles, never one: the steering annotators decide quotas and rejection, the
judging annotators, which took no part, give the headline on unrejected samples
under fresh seeds.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from prefect import flow, get_run_logger

from fairloop import quota, taxonomy
from fairloop.client import Client
from fairloop.seeds import child_seed
from fairloop.v1 import annotator_pb2, common_pb2, generator_pb2, metrics_pb2, recognizer_pb2
from flows import artifacts
from flows.params import LoopParameters
from flows.tasks import operate

GROUPS = ("skin_tone_band=dark", "skin_tone_band=light")
MEASURE = "fnmr_gap_at_own_threshold"
"""What the verdict is about, named before anything is run."""

LIMITS = "These are rendered subjects: the numbers say nothing about real people."

PLANNED_SECONDS = {"audit": 60, "sets": 150, "training": 200, "evaluation": 60}
"""Budget of the default parameters on two cores without a GPU."""


@dataclass
class Round:
    """What one run of the flow has come to: stages with their time, decisions with their inputs."""

    parameters: LoopParameters
    salt: str
    seconds: dict[str, float] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def do(self, title: str, service: str, method: str, request: Message) -> Any:
        """One operation as a task; its result."""
        body = request.SerializeToString(deterministic=True)
        return operate(title, service, method, body, type(request), self.salt)

    def seed(self, purpose: str) -> int:
        """The seed of one purpose; no two purposes share any randomness."""
        return child_seed(self.parameters.seed, purpose, 0) >> 1

    def stage(self, name: str, began: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def decide(self, what: str, because: str, **inputs: Any) -> None:
        """Records a decision with what it was made from."""
        get_run_logger().info("decision: %s, because %s", what, because)
        self.decisions.append({"decision": what, "because": because, "inputs": inputs})


def source(attribute: str, annotator: str) -> common_pb2.LabelSource:
    return common_pb2.LabelSource(attribute=attribute, annotator=annotator)


@flow(name="fairness-loop", log_prints=False, persist_result=False)
def fairness_loop(parameters: LoopParameters) -> str:
    """Audits a face generator, steers it, retrains a recogniser on what it makes and says whether the gap closed.

    Returns the name of the report.
    """
    run = Round(parameters, salt=str(time.time_ns()) if parameters.fresh else "")
    steering = [
        source("gender", parameters.steering_gender.value),
        source("skin_tone_band", parameters.steering_tone.value),
    ]
    judging = [
        source("gender", parameters.judging_gender.value),
        source("skin_tone_band", parameters.judging_tone.value),
    ]
    self_graded = sorted({s.annotator for s in steering} & {j.annotator for j in judging})
    with Client.from_environment() as client:
        base = client.generator.model(parameters.base_model)

    began = time.monotonic()
    before = audit(run, "before", base, steering, judging)
    steered = steer(run, base, before.annotations, steering)
    after = audit(run, "after", steered.model, steering, judging, before=before.annotations)
    artifacts.shares(before.judged, after.judged)
    run.stage("audit", began)

    began = time.monotonic()
    sets = training_sets(run, base, steered, steering)
    evaluation = evaluation_set(run, base, before.judged, judging)
    run.stage("sets", began)

    began = time.monotonic()
    recognisers = {arm: train_arm(run, arm, dataset) for arm, dataset in sets.items()}
    run.stage("training", began)

    began = time.monotonic()
    comparison = compare(run, recognisers, evaluation, judging[1])
    artifacts.rates(comparison.summary)
    run.stage("evaluation", began)
    report = render(run, before, after, steered, sets, evaluation, comparison, self_graded)
    artifacts.decisions(run.decisions)
    artifacts.report_name(report)
    artifacts.report_link(report, comparison.headline, f"fairloop report {report}")
    get_run_logger().info("report: %s", report)
    return report


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
            annotations=table, sources=sources, before_annotations=before, role=role, seed=run.seed("resampling")
        )
        reports[role] = run.do(f"{name}: shares by the {role} annotators", "metrics", "audit_distribution", request)
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
            quotas=[
                generator_pb2.Quota(subjects=balanced.subjects, images_per_subject=p.images_per_subject)
            ],
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
        model, drawn_from = second_direction(run, base, tone), "a second direction fitted with the judge's labels"
    run.decide(
        f"evaluation subjects are drawn from {drawn_from}",
        f"of the prior's images with a face the judge finds "
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
    return Evaluation(made.dataset, annotate(run, "evaluation set: annotate", made.dataset, judging), drawn_from, made)


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


def train_arm(run: Round, arm: str, dataset: generator_pb2.GenerateResult) -> list[str]:
    """One recogniser per training seed; arms share everything but the data."""
    p = run.parameters
    models = []
    for number in range(p.training_seeds):
        request = recognizer_pb2.FineTuneRecognizerRequest(
            dataset=dataset.dataset,
            target_model=f"models/{p.name}-{arm}",
            seed=child_seed(run.seed("training"), "run", number) >> 1,
            options=recognizer_pb2.TrainingOptions(epochs=p.epochs),
        )
        result = run.do(f"train {arm}, seed {number + 1} of {p.training_seeds}", "recognizer", "fine_tune", request)
        models.append(result.model)
    return models


@dataclass(frozen=True)
class Comparison:
    """Both arms on the same images: the report, and the embeddings it was made from."""

    report: str
    summary: dict[str, Any]
    headline: str
    embeddings: dict[str, list[str]]


def compare(
    run: Round, recognisers: dict[str, list[str]], evaluation: Evaluation, tone: common_pb2.LabelSource
) -> Comparison:
    """Embeds the evaluation set with every recogniser and compares the arms over seeds and subjects."""
    p = run.parameters
    embeddings: dict[str, list[str]] = {}
    for arm, models in recognisers.items():
        for number, model in enumerate(models):
            request = recognizer_pb2.EmbedRequest(dataset=evaluation.dataset, model=model)
            result = run.do(f"embed with {arm}, seed {number + 1}", "recognizer", "embed", request)
            embeddings.setdefault(arm, []).append(result.embeddings)
    request = metrics_pb2.CompareRecognizersRequest(
        baseline=metrics_pb2.Arm(name="generated", embeddings=embeddings["generated"]),
        candidate=metrics_pb2.Arm(name="balanced", embeddings=embeddings["balanced"]),
        grouping=metrics_pb2.Grouping(
            annotations=evaluation.annotations, sources=[tone], groups=list(GROUPS)
        ),
        fmr=p.fmr,
        tolerance=p.tolerance,
        seed=run.seed("resampling"),
        replicates=p.replicates,
        measure=MEASURE,
    )
    result = run.do("compare the arms", "metrics", "compare_recognizers", request)
    return Comparison(result.report, json.loads(result.summary_json), result.headline, embeddings)


def render(
    run: Round,
    before: Audit,
    after: Audit,
    steered: generator_pb2.FineTuneGeneratorResult,
    sets: dict[str, generator_pb2.GenerateResult],
    evaluation: Evaluation,
    comparison: Comparison,
    self_graded: list[str],
) -> str:
    """One page of everything."""
    p = run.parameters
    context = context_of(run, steered, sets, evaluation, self_graded)
    sources = [
        source("gender", p.judging_gender.value),
        source("skin_tone_band", p.judging_tone.value),
    ]
    request = metrics_pb2.RenderReportRequest(
        reports=[before.judged_report, after.judged_report, after.steered_report, comparison.report],
        context_json=json.dumps(context, sort_keys=True),
        grids=[
            metrics_pb2.FaceGrid(
                dataset=audit.dataset,
                annotations=audit.annotations,
                sources=sources,
                caption=f"Unrejected samples {name} steering, by cell as the judging annotators see them",
            )
            for name, audit in (("before", before), ("after", after))
        ],
    )
    result = run.do("render the report", "metrics", "render_report", request)
    return str(result.report)


def context_of(
    run: Round,
    steered: generator_pb2.FineTuneGeneratorResult,
    sets: dict[str, generator_pb2.GenerateResult],
    evaluation: Evaluation,
    self_graded: list[str],
) -> dict[str, Any]:
    """What the page says and no other report holds."""
    p = run.parameters

    def plain(message: Message) -> Any:
        return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)

    return {
        "title": f"Fairness loop: {p.name}",
        "limits": LIMITS,
        "decisions": run.decisions,
        "budget": {
            stage: {"planned": planned, "actual": round(run.seconds.get(stage, 0.0), 1)}
            for stage, planned in PLANNED_SECONDS.items()
        },
        "parameters": p.model_dump(mode="json"),
        "steered": plain(steered),
        "sets": {name: plain(result) for name, result in sets.items()},
        "evaluation": {**plain(evaluation.result), "drawn_from": evaluation.drawn_from},
        "self_graded": self_graded,
    }


def annotate(run: Round, title: str, dataset: str, sources: list[common_pb2.LabelSource]) -> str:
    """The annotation table of a dataset by the annotators of these sources."""
    request = annotator_pb2.AnnotateRequest(
        dataset=dataset, annotators=sorted({source.annotator for source in sources})
    )
    result = run.do(title, "annotator", "annotate", request)
    return str(result.annotations)


def generate(
    run: Round, title: str, request: generator_pb2.GenerateRequest
) -> generator_pb2.GenerateResult:
    """A generated dataset, with what came of each quota in the log."""
    result: generator_pb2.GenerateResult = run.do(title, "generator", "generate", request)
    for made in result.quotas:
        if made.cell:
            get_run_logger().info(
                "  %s: %d of %d subjects from %d candidates",
                made.cell,
                made.subjects,
                made.subjects_wanted,
                made.candidate_subjects,
            )
    return result

