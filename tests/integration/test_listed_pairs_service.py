"""Evaluations over a published list of pairs by the metrics service, against a second count of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fairloop.client import MetricsClient
from fairloop.dataset import DatasetWriter, Image
from fairloop.errors import InvalidInput, NotFound
from fairloop.importers import Pair
from fairloop.pair_table import pair_file
from fairloop.stats import evaluate_pairs
from fairloop.stats.threshold_baseline import compare_thresholds
from fairloop.table_store import EMBEDDINGS, TableWriter, to_parquet
from fairloop.tables import embedding_schema
from fairloop.v1.metrics_pb2 import CompareThresholdsRequest, EvaluateVerificationRequest
from tests.support.bucket import own_bucket
from tests.support.metrics_world import DIMENSION, IMAGES, SUBJECTS, World, png
from tests.support.services import Services

FOLDS = 5
MODEL = "models/listed/versions/0123456789abcdef"


@dataclass(frozen=True)
class Listed:
    """Pairs of the world's images by their places, and the dataset that has them as a list."""

    world: World
    dataset: str
    vectors: NDArray[np.float32]
    embeddings: str
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]

    @property
    def scores(self) -> NDArray[np.float64]:
        unit = self.vectors.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        return np.asarray((unit[self.first] * unit[self.second]).sum(axis=1))

    @property
    def folds(self) -> NDArray[np.int64]:
        return np.arange(self.first.size) % FOLDS

    def side(self, which: NDArray[np.int64]) -> tuple[list[str], list[str | None]]:
        """Subjects and groups of one side, by hand: the last subject's images disagree."""
        subjects = [self.world.subjects[k] for k in which]
        groups = [
            None if k // IMAGES == SUBJECTS - 1 else f"skin_tone_band={self.world.bands[k]}" for k in which
        ]
        return subjects, groups


def pairs_of_world(
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """All pairs of one person, and three times as many of two people, some across bands."""
    who = np.arange(SUBJECTS * IMAGES) // IMAGES
    left, right = np.triu_indices(who.size, 1)
    mated = np.flatnonzero(who[left] == who[right])
    other = rng.choice(np.flatnonzero(who[left] != who[right]), 3 * mated.size, replace=False)
    chosen = rng.permutation(np.concatenate([mated, other]))
    return left[chosen], right[chosen], who[left[chosen]] == who[right[chosen]]


@pytest.fixture(scope="module")
def listed(s3: dict[str, str]) -> Listed:
    _, store = own_bucket(s3)
    world = World(store)
    first, second, same = pairs_of_world(np.random.default_rng(4))
    names = {str(k): image for k, image in enumerate(world.image_ids)}
    pairs = [
        Pair("published", str(a), str(b), bool(same[n]), n % FOLDS)
        for n, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    writer = DatasetWriter(store, "datasets/listed")
    for k in range(SUBJECTS * IMAGES):
        writer.add(Image(png(k), 8, 8, "png", world.subjects[k]))
    few = [
        Pair("few", str(a), str(b), bool(s), 1)
        for a, b, s in zip(first[:9], second[:9], same[:9], strict=True)
    ]
    dataset = writer.finish(pairs=pair_file([*pairs, *few], names)).name
    vectors = world.vectors(7, 1.2)
    return Listed(world, dataset, vectors, world.embeddings(vectors, MODEL), first, second, same)


@pytest.fixture(scope="module")
def metrics(
    listed: Listed, s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MetricsClient]:
    environment = {**s3, "FAIRLOOP_S3_BUCKET": listed.world.store.bucket}
    services = Services(tmp_path_factory.mktemp("metrics"), environment)
    try:
        services.start("metrics")
        yield services.metrics
    finally:
        services.stop()


def ask(metrics: MetricsClient, listed: Listed, **chosen: Any) -> dict[str, Any]:
    request = EvaluateVerificationRequest(
        **{
            "embeddings": listed.embeddings,
            "grouping": listed.world.grouping(),
            "pairs": listed.dataset,
            "pair_list": "published",
            "seed": 3,
            "request_id": str(uuid.uuid4()),
            **chosen,
        }
    )
    found: dict[str, Any] = json.loads(metrics.evaluate_verification(request).result(60).summary_json)
    return found


def test_rates_at_a_threshold_are_the_shares_of_exactly_the_listed_pairs(
    metrics: MetricsClient, listed: Listed
) -> None:
    found = ask(metrics, listed, threshold=0.45)
    (_, left), (_, right) = listed.side(listed.first), listed.side(listed.second)
    for group in found["groups"]:
        mine = np.array([a == b == group["group"] for a, b in zip(left, right, strict=True)])
        mated, other = mine & listed.same, mine & ~listed.same
        assert group["genuine"] == mated.sum()
        assert group["impostor"] == other.sum()
        assert group["fnmr"] == pytest.approx((listed.scores[mated] < 0.45).mean())
        assert group["fmr"] == pytest.approx((listed.scores[other] >= 0.45).mean())
    assert [group["group"] for group in found["groups"]] == ["skin_tone_band=dark", "skin_tone_band=light"]
    assert found["counts"]["pairs"] == listed.first.size
    assert (found["pairs"], found["pair_list"]) == (listed.dataset, "published")
    assert listed.dataset in found["inputs"]


def test_intervals_are_over_subjects_and_those_of_the_statistics(
    metrics: MetricsClient, listed: Listed
) -> None:
    found = ask(metrics, listed, fmr=0.05)
    (who, left), (whom, right) = listed.side(listed.first), listed.side(listed.second)
    expected = evaluate_pairs(
        listed.scores, listed.same, (left, right), subjects=(who, whom), fmr=0.05, seed=3
    ).to_dict()
    for mine, theirs in zip(found["groups"], expected["groups"], strict=True):
        for figure in ("fmr", "fnmr", "fmr_interval", "fnmr_interval", "own_threshold", "subjects"):
            assert mine[figure] == pytest.approx(theirs[figure], abs=1e-9), figure
        assert mine["fnmr_interval"][0] < mine["fnmr"] < mine["fnmr_interval"][1]
    garbe, expected_garbe = found["summaries"]["garbe"], expected["summaries"]["garbe"]
    assert garbe["value"] == pytest.approx(expected_garbe["value"], abs=1e-9)
    assert garbe["interval"] == pytest.approx(expected_garbe["interval"], abs=1e-9)
    assert "no_subject_ids" not in found["flags"]


def test_folds_choose_the_threshold_on_the_others_as_the_protocol_of_lfw_does(
    metrics: MetricsClient, listed: Listed
) -> None:
    found = ask(metrics, listed, cross_validated=True, policy="10_fold_accuracy")
    accuracies = []
    for fold in range(FOLDS):
        mine, scores = listed.folds == fold, listed.scores
        best = max(((scores[~mine] >= at) == listed.same[~mine]).mean() for at in scores[~mine])
        at = max(at for at in scores[~mine] if ((scores[~mine] >= at) == listed.same[~mine]).mean() == best)
        accuracies.append(((scores[mine] >= at) == listed.same[mine]).mean())
    assert found["lfw"]["mean"] == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert [fold["accuracy"] for fold in found["lfw"]["folds"]] == pytest.approx(
        [accuracies[int(fold["fold"])] for fold in found["lfw"]["folds"]]
    )
    assert "thresholds of folds" in found["conventions"]


def test_people_whom_nobody_named_are_grouped_by_their_images_and_pairs_count_as_independent(
    metrics: MetricsClient, listed: Listed
) -> None:
    world, schema = listed.world, embedding_schema(DIMENSION)
    rows = [
        {"image_id": image, "face": 0, "subject_id": None, "status": "ok", "embedding": vector.tolist()}
        for image, vector in zip(world.image_ids, listed.vectors, strict=True)
    ]
    table = TableWriter(world.store, EMBEDDINGS, schema, [listed.dataset, MODEL])
    table.add(to_parquet(rows, schema))
    unnamed = table.finish({}, details={"model": MODEL}).name
    found = ask(metrics, listed, embeddings=unnamed, threshold=0.45)
    assert "no_subject_ids" in found["flags"]
    bands = [
        f"skin_tone_band={band}" if seen else None for band, seen in zip(world.bands, world.seen, strict=True)
    ]
    for group in found["groups"]:
        mine = np.array(
            [bands[a] == bands[b] == group["group"] for a, b in zip(listed.first, listed.second, strict=True)]
        )
        assert group["fnmr"] == pytest.approx((listed.scores[mine & listed.same] < 0.45).mean())


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"pairs": "datasets/x"}, InvalidInput, "pairs"),
        ({"pairs": "", "pair_list": "published"}, InvalidInput, "pair_list: goes with `pairs`"),
        ({"pairs": "", "pair_list": "", "cross_validated": True}, InvalidInput, "cross_validated: goes with"),
        (
            {"cross_validated": True, "threshold": 0.5},
            InvalidInput,
            "threshold: does not go with `cross_vali",
        ),
        ({"policy": "10_fold_accuracy"}, InvalidInput, "policy: '10_fold_accuracy' goes with `cross_vali"),
        ({"pair_list": ""}, InvalidInput, "pair_list: .* has several; name one of few, published"),
        ({"pair_list": "other"}, NotFound, "has no list 'other'; it has few, published"),
        ({"pairs": "datasets/none/versions/0123456789abcdef"}, NotFound, "does not exist"),
    ],
)
def test_wrong_requests_are_refused_with_the_field(
    metrics: MetricsClient, listed: Listed, chosen: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(metrics, listed, **chosen)


def test_a_dataset_without_a_list_is_refused(metrics: MetricsClient, listed: Listed) -> None:
    with pytest.raises(NotFound, match="came without a list of pairs"):
        ask(metrics, listed, pairs=listed.world.dataset.name, pair_list="")


def test_thresholds_per_group_fitted_on_others_are_compared_with_retraining(
    metrics: MetricsClient, listed: Listed
) -> None:
    world = listed.world
    after = world.vectors(9, 0.7)
    request = CompareThresholdsRequest(
        before=[listed.embeddings],
        after=[world.embeddings(after, "models/after/versions/0123456789abcdef")],
        grouping=world.grouping(),
        fmr=0.1,
        replicates=100,
        seed=5,
        request_id=str(uuid.uuid4()),
    )
    reply = metrics.compare_thresholds(request).result(60)
    expected = compare_thresholds(
        [listed.vectors], [after], world.subjects, world.groups, fmr=0.1, replicates=100, seed=5
    )
    found = json.loads(reply.summary_json)
    assert (reply.headline, found["verdict"]) == (expected.sentence, "one run")
    assert found["split"] == expected.to_dict()["split"]
    assert found["subjects_left_out"] == {"disagree": 1}
    for mine, theirs in zip(found["comparisons"], expected.comparisons, strict=True):
        assert mine["differences"]["garbe"]["value"] == pytest.approx(theirs.differences["garbe"].value)
    request.measure, request.request_id = "fnmr_gap_at_own_threshold", str(uuid.uuid4())
    with pytest.raises(InvalidInput, match="measure: 'fnmr_gap_at_own_threshold' is no gap at the arms'"):
        metrics.compare_thresholds(request)
