"""Training a recogniser in arms that share everything but the data, and comparing them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fairloop.seeds import child_seed
from fairloop.v1 import common_pb2, generator_pb2, metrics_pb2, recognizer_pb2
from flows.loop_round import Round
from flows.sets import GROUPS, Evaluation

MEASURE = "fnmr_gap_at_own_threshold"
"""What the verdict is about, named before anything is run."""


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
        result = run.do(
            f"train {arm}, seed {number + 1} of {p.training_seeds}", "recognizer", "fine_tune", request
        )
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
        self_graded=tone.annotator == p.steering_tone.value,
    )
    result = run.do("compare the arms", "metrics", "compare_recognizers", request)
    return Comparison(result.report, json.loads(result.summary_json), result.headline, embeddings)
