"""Protocols, thresholds per group, ages and worse pictures by the metrics service and from the store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from fairloop.cli import main
from fairloop.client import MetricsClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput, NotFound, PreconditionFailed
from fairloop.importers import Pair
from fairloop.pair_table import pair_file
from fairloop.provenance import inspection
from fairloop.stats.age_bands import Band
from fairloop.stats.age_similarity import Bands, age_similarity
from fairloop.stats.age_sweep import age_sweep
from fairloop.stats.bfw import bfw_protocol
from fairloop.stats.rfw import rfw_protocol
from fairloop.stats.robustness import Copies, robustness
from fairloop.stats.threshold_baseline import compare_thresholds
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, TableWriter, to_parquet
from fairloop.tables import copies_text, embedding_schema
from fairloop.v1 import metrics_pb2 as pb
from tests.support.bucket import own_bucket
from tests.support.metrics_world import DIMENSION, IMAGES, SUBJECTS, World, png
from tests.support.services import Services

pytestmark = pytest.mark.metrics

COUNT = SUBJECTS * IMAGES
MODEL = "models/judged/versions/0123456789abcdef"
FOLDS = 3
RACES = ("african", "asian")


@dataclass(frozen=True)
class Judged:
    """Images with ages and subgroups, RFW's and BFW's lists of them, and one recogniser's embeddings."""

    world: World
    rfw: Dataset
    bfw: Dataset
    vectors: NDArray[np.float32]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    ages: list[float]

    @property
    def store(self) -> ObjectStore:
        return self.world.store

    @property
    def same(self) -> NDArray[np.bool_]:
        return self.first // IMAGES == self.second // IMAGES

    @property
    def scores(self) -> NDArray[np.float64]:
        unit = self.vectors.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        return np.asarray((unit[self.first] * unit[self.second]).sum(axis=1))

    def who(self, side: NDArray[np.int64]) -> list[str]:
        return [self.world.subjects[k] for k in side]

    def embeddings(self, dataset: Dataset, vectors: NDArray[np.float32]) -> str:
        return table_of(self.store, dataset, self.world.subjects, vectors, [], {"model": MODEL})


def table_of(
    store: ObjectStore,
    dataset: Dataset,
    subjects: list[str],
    vectors: NDArray[np.float32],
    more: list[str],
    details: dict[str, Any],
    quality: NDArray[np.float64] | None = None,
) -> str:
    schema = embedding_schema(DIMENSION, quality=quality is not None)
    ids = dataset.index["image_id"].to_pylist()
    rows = [
        {
            "image_id": image,
            "face": 0,
            "subject_id": subjects[k],
            "status": "ok",
            "embedding": vectors[k].tolist(),
            **({} if quality is None else {"quality": None if np.isnan(quality[k]) else float(quality[k])}),
        }
        for k, image in enumerate(ids)
    ]
    table = TableWriter(store, EMBEDDINGS, schema, [dataset.name, details["model"], *more])
    table.add(to_parquet(rows, schema))
    return table.finish({}, details=details).name


@pytest.fixture(scope="module")
def judged(s3: dict[str, str]) -> Judged:
    _, store = own_bucket(s3)
    world = World(store)
    rng = np.random.default_rng(4)
    left, right = np.triu_indices(COUNT, 1)
    # Within one of two halves of the subjects and one of the folds' thirds, as RFW's and BFW's pairs are.
    group, fold = left // IMAGES % 2, left // IMAGES // 2 % FOLDS
    inside = (right // IMAGES % 2 == group) & (right // IMAGES // 2 % FOLDS == fold)
    mated = np.flatnonzero(inside & (left // IMAGES == right // IMAGES))
    other = rng.choice(np.flatnonzero(inside & (left // IMAGES != right // IMAGES)), 500, replace=False)
    chosen = np.concatenate([mated, other])
    first, second = left[chosen], right[chosen]
    ages = [5.0 + 12 * (k % IMAGES) for k in range(COUNT)]
    names = {str(k): image for k, image in enumerate(world.image_ids)}

    def dataset(name: str, lists: list[str]) -> Dataset:
        writer = DatasetWriter(store, f"datasets/{name}")
        for k in range(COUNT):
            labels = {"gender": "male" if k // IMAGES % 2 else "female", "race4": "asian"}
            labels["age_years"] = f"{ages[k]:g}"
            writer.add(Image(png(k), 8, 8, "png", world.subjects[k], labels=labels))
        pairs = [
            Pair(lists[n], str(a), str(b), bool(a // IMAGES == b // IMAGES), int(a // IMAGES // 2 % FOLDS))
            for n, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True))
        ]
        return writer.finish(pairs=pair_file(pairs, names))

    by_race = [f"rfw-{RACES[a // IMAGES % 2]}" for a in first.tolist()]
    rfw, bfw = dataset("rfw", by_race), dataset("bfw", ["bfw"] * first.size)
    return Judged(world, rfw, bfw, world.vectors(7, 1.2), first, second, ages)


@pytest.fixture(scope="module")
def metrics(
    judged: Judged, s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MetricsClient]:
    environment = {**s3, "FAIRLOOP_S3_BUCKET": judged.store.bucket}
    services = Services(tmp_path_factory.mktemp("metrics"), environment)
    try:
        services.start("metrics")
        yield services.metrics
    finally:
        services.stop()


def fresh(**fields: Any) -> dict[str, Any]:
    return {"request_id": str(uuid.uuid4()), **fields}


def close(found: Any, expected: Any) -> None:
    """Equal to rounding: the service has the scores of a table, the test those of its own product."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            close(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            close(mine, theirs)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-6)
    elif not isinstance(expected, str):
        assert found == expected


def test_the_races_of_a_dataset_are_its_lists(metrics: MetricsClient, judged: Judged) -> None:
    embeddings = judged.embeddings(judged.rfw, judged.vectors)
    request = pb.EvaluateProtocolRequest(
        **fresh(
            dataset=judged.rfw.name, embeddings=embeddings, protocol="rfw", replicates=100, seed=3, far=0.05
        )
    )
    reply = metrics.evaluate_protocol(request).result(60)
    found = json.loads(reply.summary_json)
    expected = rfw_protocol(
        judged.scores,
        judged.same,
        [RACES[a // IMAGES % 2] for a in judged.first.tolist()],
        subjects=(judged.who(judged.first), judged.who(judged.second)),
        folds=[int(a // IMAGES // 2 % FOLDS) for a in judged.first.tolist()],
        far=0.05,
        replicates=100,
        seed=3,
    )
    assert [race["race"] for race in found["races"]] == list(RACES)
    close(found, json.loads(expected.to_json()))
    assert f"mean accuracy {expected.mean:.4f}" in reply.headline
    assert set(found["inputs"]) == {judged.rfw.name, embeddings}
    again = metrics.evaluate_protocol(request).result(60)
    assert (again.report, again.digest) == (reply.report, reply.digest)


def test_subgroups_are_the_labels_that_came_with_the_images(metrics: MetricsClient, judged: Judged) -> None:
    embeddings = judged.embeddings(judged.bfw, judged.vectors)
    reply = metrics.evaluate_protocol(
        pb.EvaluateProtocolRequest(
            **fresh(dataset=judged.bfw.name, embeddings=embeddings, protocol="bfw", replicates=100, fmr=[0.1])
        )
    ).result(60)
    found = json.loads(reply.summary_json)
    cells = [f"gender={'male' if a // IMAGES % 2 else 'female'},race4=asian" for a in judged.first.tolist()]
    expected = bfw_protocol(
        judged.scores,
        judged.same,
        cells,
        [str(a // IMAGES // 2 % FOLDS) for a in judged.first.tolist()],
        subjects=(judged.who(judged.first), judged.who(judged.second)),
        targets=[0.1],
        replicates=100,
    )
    close(found["points"], json.loads(expected.to_json())["points"])
    assert found["label_source"] == f"gender and race4 given with {judged.bfw.name}"


def test_the_command_reads_a_stored_dataset_as_the_service_does(
    judged: Judged, s3: dict[str, str], tmp_path: Path
) -> None:
    embeddings = judged.embeddings(judged.rfw, judged.vectors)
    environment = {**s3, "FAIRLOOP_S3_BUCKET": judged.store.bucket}
    words = ["protocol", "rfw", "datasets/rfw", "--embeddings", embeddings, "--replicates", "100"]
    result = CliRunner(env=environment).invoke(main, [*words, "--to", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "report.json").read_bytes())
    for place, race in enumerate(RACES):
        mine = judged.first // IMAGES % 2 == place
        assert found["races"][place]["race"] == race
        assert found["races"][place]["genuine"] == (mine & judged.same).sum()


def test_thresholds_per_group_are_compared_with_retraining(metrics: MetricsClient, judged: Judged) -> None:
    world = judged.world
    before = [world.vectors(seed, 1.6) for seed in (1, 2)]
    after = [world.vectors(seed, 0.7) for seed in (3, 4)]
    request = pb.CompareThresholdsRequest(
        **fresh(
            before=[world.embeddings(v, MODEL) for v in before],
            after=[world.embeddings(v, "models/after/versions/0123456789abcdef") for v in after],
            grouping=world.grouping(),
            fmr=0.1,
            measure="fnmr_gap",
            replicates=100,
            seed=5,
        )
    )
    reply = metrics.compare_thresholds(request).result(60)
    expected = compare_thresholds(
        before, after, world.subjects, world.groups, fmr=0.1, measure="fnmr_gap", replicates=100, seed=5
    )
    found = json.loads(reply.summary_json)
    close(found, json.loads(expected.to_json()))
    assert reply.headline == expected.sentence
    assert found["models"]["after"] == ["models/after/versions/0123456789abcdef"] * 2
    assert found["subjects_left_out"] == {"disagree": 1}


def test_likeness_over_the_years_is_that_of_the_given_ages(metrics: MetricsClient, judged: Judged) -> None:
    embeddings = judged.embeddings(judged.bfw, judged.vectors)
    other = judged.embeddings(judged.bfw, judged.world.vectors(8, 1.0))
    bands = {"young": pb.AgeBand(low=0, high=20)}
    groups = {"early": pb.AgeBand(low=0, high=20), "late": pb.AgeBand(low=25, high=60)}
    reply = metrics.evaluate_ages(
        pb.EvaluateAgesRequest(
            **fresh(embeddings=embeddings, baseline=other, bands=bands, age_groups=groups, all_pairs=True)
        )
    ).result(60)
    found = json.loads(reply.summary_json)
    who = judged.world.subjects, judged.ages
    similarity = age_similarity(judged.vectors, *who, bands=Bands(young=Band(0, 20)), pairs="all")
    sweep = age_sweep(judged.vectors, *who, groups={"early": Band(0, 20), "late": Band(25, 60)}, pairs="all")
    close(found["models"][0]["similarity"]["groups"], similarity.to_dict()["groups"])
    close(found["models"][0]["sweep"]["garbe"], list(sweep.garbe))
    assert len(found["models"]) == 2
    assert found["models"][0]["similarity"] != found["models"][1]["similarity"]


def copies_of(judged: Judged) -> tuple[list[str], list[Copies]]:
    """Tables as `EmbedCopies` makes them: brightness untouched and at two levels, one level of jpeg."""
    rng = np.random.default_rng(2)
    tables, copies = [], []
    for transform, level, noise in (
        ("brightness", 1.0, 0.0),
        ("brightness", 0.5, 0.2),
        ("brightness", 0.1, 0.5),
        ("jpeg", 5.0, 0.3),
    ):
        vectors = judged.vectors + noise * rng.standard_normal(judged.vectors.shape).astype(np.float32)
        quality = np.full(COUNT, level) if transform == "brightness" else None
        stored = np.full(COUNT, np.nan) if quality is None else quality
        details = {"model": MODEL, "copies": {"transform": transform, "level": level}}
        tables.append(
            table_of(
                judged.store,
                judged.world.dataset,
                judged.world.subjects,
                vectors,
                [copies_text(transform, level)],
                details,
                stored,
            )
        )
        copies.append(Copies(transform, level, vectors, np.zeros(COUNT, np.bool_), quality))
    return tables, copies


def test_rates_on_worse_pictures_are_those_of_the_tables_at_one_threshold(
    metrics: MetricsClient, judged: Judged
) -> None:
    tables, copies = copies_of(judged)
    reply = metrics.evaluate_robustness(
        pb.EvaluateRobustnessRequest(
            **fresh(embeddings=tables, grouping=judged.world.grouping(), fmr=0.1, replicates=100)
        )
    ).result(60)
    found = json.loads(reply.summary_json)
    first = copies[0]
    # jpeg has no table of its own untouched level: it begins with the first one.
    series = [*copies[:3], Copies("jpeg", 100.0, first.embeddings, first.failures), copies[3]]
    expected = robustness(series, judged.world.subjects, judged.world.groups, fmr=0.1, replicates=100)
    close(found["rows"], json.loads(json.dumps(expected.to_dict()["rows"])))
    assert found["threshold"] == pytest.approx(expected.threshold)
    assert [gap["level"] for gap in found["gaps"]] == [1.0, 0.5, 0.1, 100.0, 5.0]
    assert [one["transform"] for one in found["equal_quality"]] == ["brightness"]
    # Column and id of a table of copies are known; only the model that nobody stored is missing.
    problems = {finding.problem for finding in inspection.inspect(judged.store, tables)}
    assert problems == {f"its parent {MODEL} is missing"}


def test_wrong_requests_are_refused_with_the_field(metrics: MetricsClient, judged: Judged) -> None:
    plain = judged.embeddings(judged.bfw, judged.vectors)
    grouping = judged.world.grouping()
    protocol: dict[str, Any] = {"dataset": judged.bfw.name, "embeddings": plain}
    tables, _ = copies_of(judged)
    for fields, error, message in (
        ({"protocol": "lfw"}, InvalidInput, "protocol: 'lfw' is not one of rfw, bfw"),
        ({"protocol": "rfw", "fmr": [0.1]}, InvalidInput, "fmr: goes with the protocol 'bfw'"),
        ({"protocol": "bfw", "far": 0.1}, InvalidInput, "far: goes with the protocol 'rfw'"),
        ({"protocol": "bfw", "fmr": [2.0]}, InvalidInput, "fmr: 2.0 is outside 0–1"),
        ({"protocol": "bfw", "group_by": ["shoe"]}, InvalidInput, "'shoe' is not known"),
        ({"protocol": "rfw"}, InvalidInput, "has one list, bfw; RFW has one for each race"),
        ({"protocol": "bfw", "dataset": judged.rfw.name}, InvalidInput, "pair_list: .* has several"),
        ({"protocol": "bfw", "dataset": judged.world.dataset.name}, NotFound, "came without a list"),
    ):
        with pytest.raises(error, match=message):
            metrics.evaluate_protocol(pb.EvaluateProtocolRequest(**fresh(**{**protocol, **fields}))).result(
                60
            )
    with pytest.raises(InvalidInput, match="after: is empty"):
        metrics.compare_thresholds(pb.CompareThresholdsRequest(**fresh(before=[plain], grouping=grouping)))
    with pytest.raises(InvalidInput, match="measure: 'fnmr_gap_at_own_threshold' is no gap at the arms'"):
        metrics.compare_thresholds(
            pb.CompareThresholdsRequest(
                **fresh(before=[plain], after=[plain], grouping=grouping, measure="fnmr_gap_at_own_threshold")
            )
        )
    with pytest.raises(InvalidInput, match="bands: 'oldest' is not one of young"):
        metrics.evaluate_ages(
            pb.EvaluateAgesRequest(**fresh(embeddings=plain, bands={"oldest": pb.AgeBand(low=1, high=2)}))
        )
    groups = {"a": pb.AgeBand(low=9, high=2), "b": pb.AgeBand(low=1, high=2)}
    with pytest.raises(InvalidInput, match=r"age_groups.a: .* is not low–high"):
        metrics.evaluate_ages(pb.EvaluateAgesRequest(**fresh(embeddings=plain, age_groups=groups)))
    without = judged.world.embeddings(judged.vectors, MODEL)
    with pytest.raises(PreconditionFailed, match=r"no image of datasets/evaluation/.* came with age_years"):
        metrics.evaluate_ages(pb.EvaluateAgesRequest(**fresh(embeddings=without))).result(60)
    for names, error, message in (
        (tables[:1], InvalidInput, "embeddings: 1 tables; it is 2–100"),
        ([tables[0], tables[0]], InvalidInput, "embeddings: names a table twice"),
        ([tables[1], tables[0]], PreconditionFailed, "is not of untouched images"),
        ([tables[0], without], PreconditionFailed, "is no table of copies"),
    ):
        with pytest.raises(error, match=message):
            metrics.evaluate_robustness(
                pb.EvaluateRobustnessRequest(**fresh(embeddings=names, grouping=grouping))
            ).result(60)
