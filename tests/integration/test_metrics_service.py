"""The metrics service as a process: tables in, reports out, equal to the statistics called directly."""

from __future__ import annotations

import dataclasses
import io
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from fairloop import manifest
from fairloop.cli import main
from fairloop.client import MetricsClient
from fairloop.errors import Cancelled, InvalidInput, NotFound, PreconditionFailed
from fairloop.serving.attempt import Attempt, Superseded
from fairloop.serving.methods import Pools
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import PENDING, RUNNING, Record
from fairloop.serving.runner import RunningOperation
from fairloop.serving.settings import ServerSettings
from fairloop.serving.shards import Replicas
from fairloop.stats import audit_distribution, compare_recognizers, evaluate_verification
from fairloop.stats.classification import classification_fairness
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.metrics_pb2 import (
    AnnotatedLabels,
    Arm,
    AuditDistributionRequest,
    CompareRecognizersRequest,
    ComputeSummaryRequest,
    ConfusionRow,
    EvaluateClassificationRequest,
    EvaluateVerificationRequest,
    FaceGrid,
    Grouping,
    GroupRates,
    RenderReportRequest,
    ReportResult,
    SummaryValue,
)
from services.metrics.reports import Made, commit, put_parts
from services.metrics.servicer import AUDIT, methods
from tests.support.metrics_world import GENDER, TONE, World
from tests.support.services import Services

ABSENT = "annotations/0123456789abcdef"


@pytest.fixture(scope="module")
def settings(s3: dict[str, str]) -> dict[str, str]:
    return {**s3, "FAIRLOOP_S3_BUCKET": f"metrics-{uuid.uuid4().hex[:12]}"}


@pytest.fixture(scope="module")
def world(settings: dict[str, str]) -> World:
    names = ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "BUCKET")
    store = ObjectStore(StoreSettings(*(settings[f"FAIRLOOP_S3_{name}"] for name in names)))
    store.ensure_bucket()
    return World(store)


@pytest.fixture(scope="module")
def metrics(
    world: World, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MetricsClient]:
    services = Services(tmp_path_factory.mktemp("metrics"), settings)
    try:
        services.start("metrics")
        yield services.metrics
    finally:
        services.stop()


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """An evaluation that several tests look at, and what was said of its progress."""

    vectors: NDArray[np.float32]
    embeddings: str
    result: ReportResult
    stages: list[tuple[str, int, str]]


@pytest.fixture(scope="module")
def evaluated(metrics: MetricsClient, world: World) -> Evaluated:
    vectors = world.vectors(1, 1.2)
    name = world.embeddings(vectors, "models/a/versions/0123456789abcdef")
    stages: list[tuple[str, int, str]] = []
    made = metrics.evaluate_verification(
        EvaluateVerificationRequest(embeddings=name, grouping=world.grouping(), fmr=0.05, seed=3)
    ).result(60, on_progress=lambda p: stages.append((p.stage, p.total, p.unit)), every=0.05)
    return Evaluated(vectors, name, made, stages)


def plain(value: Any) -> Any:
    """As it is after a trip through JSON."""
    return json.loads(json.dumps(value))


def part(store: ObjectStore, report: str, file: str) -> bytes:
    return manifest.read_part(store, manifest.load(store, report, "fairloop.report/1").part(f"/{file}"))


def test_rates_are_those_of_the_statistics_and_subjects_that_disagree_are_left_out(
    evaluated: Evaluated, world: World
) -> None:
    made = evaluated.result
    found = json.loads(made.summary_json)
    expected = evaluate_verification(evaluated.vectors, world.subjects, world.groups, fmr=0.05, seed=3)
    assert found["groups"] == plain(expected.to_dict()["groups"])
    assert found["summaries"] == plain(expected.to_dict()["summaries"])
    assert found["subjects_left_out"] == {"disagree": 1}
    assert found["subjects_by_group"] == {"skin_tone_band=dark": 12, "skin_tone_band=light": 11}
    assert found["label_source"] == "skin_tone_band by ita v1"
    assert dict(made.conventions) == dict(expected.conventions)
    assert found["digest"] == made.digest
    assert set(found["inputs"]) == {evaluated.embeddings, world.annotations}
    rows = pq.read_table(io.BytesIO(part(world.store, made.report, "groups.parquet"))).to_pylist()
    assert [row["fnmr"] for row in rows] == [group.fnmr for group in expected.groups]
    assert evaluated.stages[-1] == ("figures", 6, "stages")


def test_options_reach_the_statistics(metrics: MetricsClient, world: World) -> None:
    vectors = world.vectors(2, 1.2)
    name = world.embeddings(vectors, "models/b/versions/0123456789abcdef")
    requests = (
        (
            {"policy": "eer", "alpha": 0.0, "impostors": "all", "threshold_in_replicates": "both"},
            {"policy": "eer", "alpha": 0.0, "impostors": "all", "threshold_in_replicates": "both"},
        ),
        ({"threshold": 0.3, "fmr": 0.1}, {"threshold": 0.3, "fmr": 0.1}),
    )
    for asked, options in requests:
        made = metrics.evaluate_verification(
            EvaluateVerificationRequest(embeddings=name, grouping=world.grouping(), replicates=200, **asked)
        ).result(60)
        expected = evaluate_verification(vectors, world.subjects, world.groups, replicates=200, **options)
        found = json.loads(made.summary_json)
        assert {key: found[key] for key in expected.to_dict()} == plain(expected.to_dict())


def test_the_command_without_the_service_writes_the_same_numbers(
    evaluated: Evaluated, world: World, tmp_path: Path
) -> None:
    embeddings, subjects = world.write_files(tmp_path, evaluated.vectors)
    words = ["evaluate", "--embeddings", str(embeddings), "--subjects", str(subjects), "--group", "group"]
    ran = CliRunner().invoke(main, [*words, "--fmr", "0.05", "--seed", "3", "--to", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    ours = json.loads((tmp_path / "out" / "report.json").read_bytes())
    theirs = json.loads(part(world.store, evaluated.result.report, "report.json"))
    keys = {"groups", "summaries", "threshold", "curves", "sweep", "cross_group", "densities", "conventions"}
    assert {key: ours[key] for key in keys} == {key: theirs[key] for key in keys}
    tables = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    assert "curves.parquet" in tables
    for table in tables:
        assert (tmp_path / "out" / table).read_bytes() == part(world.store, evaluated.result.report, table)


def test_a_comparison_is_that_of_the_statistics_and_its_page_says_the_verdict(
    metrics: MetricsClient, world: World
) -> None:
    arms = [[world.vectors(10 * arm + run, noise) for run in range(3)] for arm, noise in ((1, 1.6), (2, 0.6))]
    names = [
        [world.embeddings(v, f"models/m/versions/{arm}{run}23456789abcdef") for run, v in enumerate(runs)]
        for arm, runs in enumerate(arms)
    ]
    request = CompareRecognizersRequest(
        baseline=Arm(name="generated", embeddings=names[0]),
        candidate=Arm(name="balanced", embeddings=names[1]),
        grouping=world.grouping(),
        fmr=0.05,
        seed=3,
        replicates=200,
    )
    made = metrics.compare_recognizers(request).result(60)
    expected = compare_recognizers(
        arms[0],
        arms[1],
        world.subjects,
        world.groups,
        fmr=0.05,
        seed=3,
        replicates=200,
        names=("generated", "balanced"),
        failures=np.zeros(len(world.subjects), bool),
    )
    assert made.headline == expected.decision.sentence
    audit = AuditDistributionRequest(annotations=world.annotations, sources=[TONE], role="judging", seed=1)
    before = metrics.audit_distribution(audit).result(60)
    audit.request_id, audit.before_annotations = "", world.annotations
    after = metrics.audit_distribution(audit).result(60)
    assert json.loads(after.summary_json)["change"]["total_variation"]["difference"] == 0
    grid = FaceGrid(dataset=world.dataset.name, annotations=world.annotations, sources=[TONE], per_cell=2)
    asked = RenderReportRequest(reports=[before.report, after.report, made.report], grids=[grid])
    page = metrics.render_report(asked).result(60)
    parents = manifest.load(world.store, page.report, "fairloop.report/1").parents
    assert set(parents) == {
        before.report,
        after.report,
        made.report,
        world.dataset.name,
        world.annotations,
    }, "reports, and the faces that are shown with the labels they are shown under"
    for report in (made.report, page.report):
        assert expected.decision.verdict.value in part(world.store, report, "index.html").decode().lower()


def test_an_audit_counts_labels_redraws_clusters_and_corrects_for_the_confusion(
    metrics: MetricsClient, world: World
) -> None:
    cells = [f"skin_tone_band={band}" for band in ("light", "medium", "dark")]
    matrix = [[90, 10, 0], [15, 80, 5], [0, 20, 80]]
    confusion = [
        ConfusionRow(truth=truth, labels=dict(zip(cells, row, strict=True)))
        for truth, row in zip(cells, matrix, strict=True)
    ]
    made = metrics.audit_distribution(
        AuditDistributionRequest(
            annotations=world.annotations,
            sources=[TONE],
            role="judging",
            clusters="subject",
            confusion=confusion[::-1],
        )
    ).result(60)
    expected = audit_distribution(
        world.cells,
        cells,
        clusters=world.subjects,
        confusion=matrix,
        label_source="skin_tone_band by ita v1",
    )
    found = json.loads(made.summary_json)
    assert found["cells"] == plain(expected.to_dict()["cells"])
    assert found["outcomes"] == {"no_face": 4, "uncertain": 0, "failed": 0}
    assert found["counts"]["clusters"] == 24


def test_predictions_are_evaluated_as_by_the_statistics(metrics: MetricsClient, world: World) -> None:
    rng = np.random.default_rng(5)
    truth = ["1" if value < 0.5 else "0" for value in rng.random(len(world.subjects))]
    scores = [
        float(t == "1") + float(noise) for t, noise in zip(truth, rng.normal(size=len(truth)), strict=True)
    ]
    predicted: list[str | None] = ["1" if score > 0.5 else "0" for score in scores]
    predicted[3] = None
    name = world.predictions(truth, predicted, scores)
    made = metrics.evaluate_classification(
        EvaluateClassificationRequest(predictions=name, grouping=world.grouping(), seed=2, replicates=200)
    ).result(60)
    expected = classification_fairness(
        truth,
        [value or "no_prediction" for value in predicted],
        [cell if cell != "no_face" else None for cell in world.cells],
        scores=scores,
        subjects=world.subjects,
        replicates=200,
        seed=2,
    )
    found = json.loads(made.summary_json)
    assert {key: found[key] for key in expected.to_dict()} == plain(expected.to_dict())
    assert found["images_left_out"] == {"no_face": 4}
    assert b"<html" in part(world.store, made.report, "index.html")


def test_an_annotator_is_judged_by_the_labels_that_came_with_the_data_and_a_missed_face_is_wrong(
    metrics: MetricsClient, world: World
) -> None:
    given = LabelSource(attribute="gender", annotator="given")
    request = EvaluateClassificationRequest(
        annotated=AnnotatedLabels(annotations=world.annotations, source=GENDER),
        grouping=Grouping(annotations=world.annotations, sources=[given]),
        positive="female",
        replicates=200,
    )
    found = json.loads(metrics.evaluate_classification(request).result(60).summary_json)
    right = [g == t and s for g, t, s in zip(world.guessed, world.genders, world.seen, strict=True)]
    for record in found["groups"]:
        own = [r for r, t in zip(right, world.genders, strict=True) if record["group"] == f"gender={t}"]
        assert record["images"] == len(own)
        assert record["accuracy"] == pytest.approx(sum(own) / len(own))


def test_summaries_of_given_rates_are_the_reference_values(metrics: MetricsClient) -> None:
    fmr, fnmr = (0.01, 0.02, 0.03, 0.04), (0.05, 0.05, 0.10, 0.20)
    groups = [
        GroupRates(group=name, fmr=x, fnmr=y, accuracy=z)
        for name, x, y, z in zip("abcd", fmr, fnmr, (93, 94, 95, 98), strict=True)
    ]
    reply = metrics.compute_summary(ComputeSummaryRequest(groups=groups))
    found: dict[str, SummaryValue] = {summary.name: summary for summary in reply.summaries}
    reference = {
        "garbe": 0.375,
        "gini_fmr": 0.333333,
        "gini_fnmr": 0.416667,
        "fairness_discrepancy_rate": 0.91,
        "inequity_rate": 4.0,
        "fmr_max_over_geomean": 1.807204,
        "fnmr_max_over_geomean": 2.378414,
    }
    for name, value in reference.items():
        assert found[name].value == pytest.approx(value, abs=5e-7), name
    values = sorted(round(s.value, 6) for s in reply.summaries)
    assert {3.5, 1.870829, 95.0} <= set(values)
    assert not found["garbe"].HasField("p_value")
    worst = {entry.rate: list(entry.groups) for entry in reply.worst}
    assert worst == {"fmr": ["d"], "fnmr": ["d"], "accuracy": ["a"]}
    only = metrics.compute_summary(ComputeSummaryRequest(groups=groups, alpha=1.0))
    assert next(s for s in only.summaries if s.name == "garbe").value == pytest.approx(1 / 3)


def test_an_evaluation_is_cancelled_within_five_seconds_and_leaves_no_report(
    metrics: MetricsClient, world: World
) -> None:
    name = world.embeddings(world.vectors(7, 1.0), "models/c/versions/0123456789abcdef")
    before = set(world.store.list("reports/"))
    operation = metrics.evaluate_verification(
        EvaluateVerificationRequest(
            embeddings=name, grouping=world.grouping(), fmr=0.05, replicates=100_000, impostors="all"
        )
    )
    while operation.progress().stage in ("", "reading"):
        time.sleep(0.05)
    operation.cancel()
    asked = time.monotonic()
    with pytest.raises(Cancelled):
        operation.result(60)
    assert time.monotonic() - asked < 5
    # The next one has its turn, and by then the cancelled one would have written.
    metrics.audit_distribution(
        AuditDistributionRequest(annotations=world.annotations, sources=[TONE], role="steering")
    ).result(60)
    kinds = [
        world.store.get_json(key)["details"]["kind"]
        for key in set(world.store.list("reports/")) - before
        if key.endswith("manifest.json")
    ]
    assert kinds == ["audit"]


def test_a_cancel_amid_many_pairs_frees_the_compute_thread_at_once(
    metrics: MetricsClient, world: World
) -> None:
    embeddings, annotations = world.crowd(2_500, 4, 64)
    operation = metrics.evaluate_verification(
        EvaluateVerificationRequest(
            embeddings=embeddings,
            grouping=Grouping(annotations=annotations, sources=[TONE]),
            impostors="all",
        )
    )
    while operation.progress().unit != "pairs":
        time.sleep(0.05)
    counted = operation.progress()
    # Of 10,000 images against the others, a block at a time.
    assert 0 < counted.done <= counted.total
    assert counted.total > 10_000 * 10_000 // 2
    asked = time.monotonic()
    operation.cancel()
    with pytest.raises(Cancelled):
        operation.result(60)
    metrics.audit_distribution(
        AuditDistributionRequest(annotations=world.annotations, sources=[TONE], role="steering", seed=9)
    ).result(60)
    assert time.monotonic() - asked < 5


async def test_an_attempt_that_another_took_over_leaves_no_report(world: World) -> None:
    name = f"operations/metrics-{'c' * 26}"
    settings = ServerSettings()
    pools = Pools(2)
    operations = OperationStore(world.store)
    request = AuditDistributionRequest(annotations=world.annotations, sources=[TONE], role="judging", seed=8)
    (method,) = (m for m in methods(None, settings, world.store, pools) if m.name == AUDIT)
    assert method.run is not None
    attempt = Attempt(name, Record(1, "me", PENDING), True, operations, pools, settings)
    await attempt.write(state=RUNNING)
    operations.put_record(name, Record(2, "other", RUNNING))
    running = RunningOperation(name, request, operations, pools, attempt, Replicas("127.0.0.1:1"))
    before = {key for key in world.store.list("reports/") if key.endswith("manifest.json")}
    try:
        with pytest.raises(Superseded):
            await method.run(running)
    finally:
        pools.close()
    assert {key for key in world.store.list("reports/") if key.endswith("manifest.json")} == before


def test_a_report_that_stands_is_not_written_over_by_one_with_other_figures(world: World) -> None:
    files = {"report.json": b'{"a": 1}', "rates.png": b"drawn by one version"}
    made = Made("verification", files, {}, "", {"embeddings/0123456789abcdef": "0" * 64})
    first = put_parts(world.store, made)
    commit(world.store, first)
    again = dataclasses.replace(made, files={**files, "rates.png": b"drawn by another version"})
    second = put_parts(world.store, again)
    commit(world.store, second)
    assert second.name == first.name
    assert part(world.store, first.name, "rates.png") == b"drawn by one version"
    world.store.put(f"{first.name}/rates.png", b"corrupt")
    commit(world.store, put_parts(world.store, again))
    assert part(world.store, first.name, "rates.png") == b"drawn by another version"


def test_wrong_requests_are_refused_with_the_field(metrics: MetricsClient, world: World) -> None:
    def audit(**fields: Any) -> None:
        whole = {"annotations": world.annotations, "sources": [TONE], "role": "judging", **fields}
        metrics.audit_distribution(AuditDistributionRequest(**whole)).result(60)

    with pytest.raises(NotFound, match=f"{ABSENT} does not exist"):
        audit(annotations=ABSENT)
    with pytest.raises(InvalidInput, match="role: '' is not one of judging, steering"):
        audit(role="")
    with pytest.raises(InvalidInput, match="has no skin_tone_band by skin_tone"):
        audit(sources=[LabelSource(attribute="skin_tone_band", annotator="skin_tone")])
    with pytest.raises(InvalidInput, match="clusters: 'camera' is not one of subject, prompt, seed"):
        audit(clusters="camera")
    with pytest.raises(PreconditionFailed, match="120 of 120 images without a prompt"):
        audit(clusters="prompt")
    with pytest.raises(InvalidInput, match="confusion: has no row of skin_tone_band=light"):
        audit(confusion=[ConfusionRow(truth="skin_tone_band=dark", labels={"skin_tone_band=dark": 1})])
    for context, says in (
        ("{", "is not JSON"),
        ('{"budget": NaN}', "NaN is no number"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"title": 5}', "is not a page's context"),
        ('{"decisions": [{}]}', "a part of it lacks 'decision'"),
        ('{"steered": 5}', "is not a page's context"),
        ('{"sets": {"a": []}}', "is not a page's context"),
    ):
        with pytest.raises(InvalidInput, match=f"context_json: .*{says}"):
            metrics.render_report(
                RenderReportRequest(reports=["reports/0123456789abcdef"], context_json=context)
            )
    arm = Arm(name="a", embeddings=["embeddings/0123456789abcdef"])
    for name in ("x" * 301, "a\x1b[2J"):
        other = Arm(name=name, embeddings=arm.embeddings)
        request = CompareRecognizersRequest(baseline=arm, candidate=other, grouping=world.grouping())
        with pytest.raises(InvalidInput, match=r"candidate\.name: "):
            metrics.compare_recognizers(request)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"policy": "best"}, "policy: 'best' is not one of fmr, threshold, eer"),
        ({"policy": "threshold"}, "policy: 'threshold' goes with a `threshold`"),
        ({"policy": "eer", "fmr": 0.01}, "fmr: does not go with the policy 'eer'"),
        ({"alpha": 1.5}, "alpha: 1.5 is outside 0–1"),
        ({"impostors": "some"}, "impostors: 'some' is not one of within_group, all"),
        ({"replicates": 7}, "replicates: 7 is outside 100–100,000"),
        ({"fmr": 1.0}, "fmr: 1.0 is outside 0–1"),
    ],
)
def test_wrong_options_of_an_evaluation_are_refused_with_the_field(
    metrics: MetricsClient, world: World, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        metrics.evaluate_verification(
            EvaluateVerificationRequest(
                embeddings="embeddings/0123456789abcdef", grouping=world.grouping(), **fields
            )
        )


def test_wrong_rates_are_refused_with_the_field(metrics: MetricsClient) -> None:
    one, other = GroupRates(group="a", fmr=0.1), GroupRates(group="b", fmr=0.2, impostor=100)
    for groups, says in (
        ([one], "groups: 1; 2–1,000 groups are compared"),
        ([one, one], "groups.group: 'a' stands 2 times"),
        ([one, other], "groups.impostor: is absent in 'a'"),
        ([one, GroupRates(group="b", fmr=2.0)], "fmr"),
        ([one, GroupRates(group="b", fmr=float("nan"))], r"groups\.fmr: nan in 'b'"),
        ([GroupRates(group="a"), GroupRates(group="b")], "fmr: neither FMR, FNMR nor accuracy is given"),
    ):
        with pytest.raises(InvalidInput, match=says):
            metrics.compute_summary(ComputeSummaryRequest(groups=groups))
    many = [GroupRates(group=f"g{k}", fmr=0.1) for k in range(1_000)]
    with pytest.raises(InvalidInput, match=r"replicates: 100,000 of 1,000 groups; at most 5,000"):
        metrics.compute_summary(ComputeSummaryRequest(groups=many, replicates=100_000))


def test_wrong_predictions_are_refused_with_the_field(metrics: MetricsClient, world: World) -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"grouping": world.grouping()}, "predictions: name `predictions` or `annotated`"),
        ({"predictions": "predictions/x", "grouping": world.grouping()}, "predictions: 'predictions/x'"),
        (
            {
                "predictions": "predictions/0123456789abcdef",
                "grouping": Grouping(annotations=world.annotations, sources=[TONE], min_agreement=0.9),
            },
            "grouping.min_agreement: is of subjects",
        ),
    )
    for fields, says in wrong:
        with pytest.raises(InvalidInput, match=says):
            metrics.evaluate_classification(EvaluateClassificationRequest(**fields))
