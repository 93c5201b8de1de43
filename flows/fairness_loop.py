"""One round of the loop: audit, steer, generate, retrain in arms, evaluate; never taking success for granted.

Two roles, never one: the steering annotators decide quotas and rejection, the
judging annotators, which took no part, give the headline on unrejected samples
under fresh seeds.
"""

import json
import time
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from prefect import flow, get_run_logger

from fairloop.store import ObjectStore
from fairloop.v1 import common_pb2, generator_pb2, metrics_pb2
from flows import artifacts
from flows.arms import Comparison, compare, train_arm
from flows.audits import Audit, audit, steer
from flows.leak_gate import Gated, gate
from flows.loop_round import Round, source
from flows.params import LoopParameters
from flows.roles import Roles, calibrated, choose
from flows.sets import Evaluation, evaluation_set, training_sets
from flows.tasks import connected

LIMITS = "These are rendered subjects: the numbers say nothing about real people."

PLANNED_SECONDS = {"audit": 60, "sets": 150, "training": 200, "evaluation": 60}
"""Budget of the default parameters on two cores without a GPU."""


@flow(name="fairness-loop", log_prints=False, persist_result=False)
def fairness_loop(parameters: LoopParameters) -> str:
    """Audits a face generator, steers it, retrains a recogniser and says whether the gap closed.

    Returns the name of the report.
    """
    run = Round(parameters, salt=str(time.time_ns()) if parameters.fresh else "")
    roles = chosen_roles(run)
    steering = [source(one.attribute, one.steering) for one in roles]
    judging = [source(one.attribute, one.judging) for one in roles]
    self_graded = sorted({s.annotator for s in steering} & {j.annotator for j in judging})
    with connected() as client:
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
    gated = gate(run, sets, evaluation)
    run.stage("sets", began)

    began = time.monotonic()
    recognisers = {arm: train_arm(run, arm, one.result) for arm, one in gated.items()}
    run.stage("training", began)

    began = time.monotonic()
    comparison = compare(run, recognisers, evaluation, judging[1])
    artifacts.rates(comparison.summary)
    run.stage("evaluation", began)
    report = render(run, before, after, steered, gated, evaluation, comparison, self_graded, judging)
    artifacts.decisions(run.decisions)
    artifacts.report_name(report)
    artifacts.face_grid(ObjectStore.from_environment().get_json(f"{report}/document.json"))
    artifacts.report_link(report, comparison.headline, f"fairloop report {report}")
    get_run_logger().info("report: %s", report)
    return report


def chosen_roles(run: Round) -> list[Roles]:
    """Who steers and who judges on each attribute; with calibrations each choice is a decision."""
    p = run.parameters
    measured = calibrated(ObjectStore.from_environment(), p.calibrations) if p.calibrations else []
    roles = [
        choose("gender", p.steering_gender.value, p.judging_gender.value, measured),
        choose("skin_tone_band", p.steering_tone.value, p.judging_tone.value, measured),
    ]
    for one in roles if measured else ():
        run.decide(
            f"{one.judging} judges {one.attribute}, {one.steering} steers",
            one.because,
            calibrations=p.calibrations,
        )
    # Shares of cells need the errors on every attribute.
    run.corrections = list(p.calibrations) if all(one.calibrated for one in roles) else []
    return roles


def render(
    run: Round,
    before: Audit,
    after: Audit,
    steered: generator_pb2.FineTuneGeneratorResult,
    gated: dict[str, Gated],
    evaluation: Evaluation,
    comparison: Comparison,
    self_graded: list[str],
    judging: list[common_pb2.LabelSource],
) -> str:
    """One page of everything."""
    context = context_of(run, steered, gated, evaluation, self_graded)
    request = metrics_pb2.RenderReportRequest(
        reports=[before.judged_report, after.judged_report, after.steered_report, comparison.report],
        context_json=json.dumps(context, sort_keys=True),
        grids=[
            metrics_pb2.FaceGrid(
                dataset=audit.dataset,
                annotations=audit.annotations,
                sources=judging,
                caption=name,
            )
            for name, audit in (("before", before), ("after", after))
        ],
    )
    result = run.do("render the report", "metrics", "render_report", request)
    return str(result.report)


def context_of(
    run: Round,
    steered: generator_pb2.FineTuneGeneratorResult,
    gated: dict[str, Gated],
    evaluation: Evaluation,
    self_graded: list[str],
) -> dict[str, Any]:
    """What the page says and no other report holds."""
    p = run.parameters

    def plain(message: Message) -> Any:
        return MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

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
        "sets": {name: plain(one.result) for name, one in gated.items()},
        "leaks": {name: one.record for name, one in gated.items()},
        "evaluation": {**plain(evaluation.result), "drawn_from": evaluation.drawn_from},
        "self_graded": self_graded,
    }
