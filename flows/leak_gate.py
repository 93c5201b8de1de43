"""The gate before training: what a training set shares with the evaluation set is left out and counted.

The evaluation set never changes. Bytes and pictures are always compared; faces,
by dlib's recogniser, which is not trained here, where that fits the budget.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fairloop.dataset import Dataset
from fairloop.leaks.gate import kept, read_leaking
from fairloop.leaks.neighbours import LEAST
from fairloop.leaks.report import WORDS
from fairloop.provenance import terms
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2, metrics_pb2, recognizer_pb2
from flows.loop_round import Round
from flows.sets import Evaluation
from flows.tasks import connected

RECOGNISER = "models/dlib-recognizer-128"
EMBEDDED = ("ok", "several_faces")
"""Statuses of images that have an embedding."""


@dataclass(frozen=True)
class Gated:
    """A training set as it is trained on, and what the gate's report says of it.

    `record`: the report's name, images checked and left out, what each net found.
    """

    result: generator_pb2.GenerateResult
    record: dict[str, Any]


def gate(
    run: Round, sets: dict[str, generator_pb2.GenerateResult], evaluation: Evaluation
) -> dict[str, Gated]:
    """Every training set without the images that it shares with the evaluation set."""
    p = run.parameters
    embeddings = compared_faces(run, sets, evaluation)
    gated = {}
    for arm, result in sets.items():
        request = metrics_pb2.FindLeaksRequest(
            dataset=result.dataset, against=[evaluation.dataset], radius=p.leak_radius
        )
        if embeddings:
            request.embeddings = embeddings[arm]
            request.against_embeddings.append(embeddings[""])
            request.fmr = p.leak_fmr
        found = run.do(f"leaks of training set, {arm}", "metrics", "find_leaks", request)
        gated[arm] = passed(run, arm, result, found)
    return gated


def passed(
    run: Round, arm: str, result: generator_pb2.GenerateResult, found: metrics_pb2.ReportResult
) -> Gated:
    """The set after the gate, with the decision in the run's record."""
    name = f"datasets/{run.parameters.name}-train-{arm}-kept"
    use = (run.parameters.policy.value, run.parameters.acknowledge)
    title = f"gate of training set, {arm}"
    dataset, images, subjects = leave_out(title, result.dataset, name, found.report, *use)
    nets = json.loads(found.summary_json)["nets"]
    gone = result.images - images
    run.decide(
        f"{gone} of {result.images} images are left out of the training set {arm}",
        "the evaluation set has them too: "
        + ", ".join(f"{net['images']} by {WORDS[net['kind']]}" for net in nets),
        report=found.report,
        nets=nets,
    )
    trained = generator_pb2.GenerateResult()
    trained.CopyFrom(result)
    trained.dataset, trained.images, trained.subjects = dataset, images, subjects
    record = {"report": found.report, "images": result.images, "left_out": gone, "nets": nets}
    return Gated(trained, record)


@task(persist_result=False, cache_policy=NO_CACHE, task_run_name="{title}")
def leave_out(
    title: str, dataset: str, name: str, report: str, policy: str, acknowledge: str
) -> tuple[str, int, int]:
    """The dataset without the images that the report names; its name, images and subjects.

    Written again it is the same one: its name comes from what is in it.
    """
    store = ObjectStore.from_environment()
    with terms.under(terms.check(store, [dataset], policy, acknowledge)):
        made = kept(store, Dataset.open(store, dataset), name, read_leaking(store, report), report=report)
    get_run_logger().info("%s: %s", title, made.name)
    return made.name, made.manifest.counts["images"], made.manifest.counts["subjects"]


def compared_faces(
    run: Round, sets: dict[str, generator_pb2.GenerateResult], evaluation: Evaluation
) -> dict[str, str]:
    """The embedding table of each arm, and of the evaluation set under ""; none where that is not done."""
    p = run.parameters
    total = evaluation.result.images + sum(result.images for result in sets.values())
    if total > p.leak_embedded_images:
        run.decide(
            "training and evaluation faces are not compared",
            f"{total} images are more than the {p.leak_embedded_images} that the budget allows; "
            "bytes and pictures are",
        )
        return {}
    with connected() as client:
        model = client.recognizer.model(RECOGNISER)

    def embed(title: str, dataset: str) -> recognizer_pb2.EmbedResult:
        request = recognizer_pb2.EmbedRequest(dataset=dataset, model=model)
        made: recognizer_pb2.EmbedResult = run.do(f"{title}: embed with dlib", "recognizer", "embed", request)
        return made

    made = {"": embed("evaluation set", evaluation.dataset)}
    made |= {arm: embed(f"training set, {arm}", result.dataset) for arm, result in sets.items()}
    faces = {arm: sum(result.statuses.get(s, 0) for s in EMBEDDED) for arm, result in made.items()}
    # Each subject's images are no strangers of one another.
    strangers = faces[""] * max(faces[""] - p.eval_images, 0) // 2
    if min(faces.values()) < LEAST or strangers * p.leak_fmr < 1:
        run.decide(
            "training and evaluation faces are not compared",
            f"{min(faces.values())} faces in the smallest set, or about {strangers} pairs of strangers, are "
            f"too few for a threshold at a false match rate of {p.leak_fmr:g}; bytes and pictures are",
        )
        return {}
    return {arm: result.embeddings for arm, result in made.items()}
