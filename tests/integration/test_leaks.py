"""What two sets share, found by the metrics service as a process: planted copies, and a control without."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image as Picture
from statsmodels.stats.proportion import proportion_confint

from fairloop import manifest
from fairloop.cli import main
from fairloop.client import MetricsClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.erasure.reports import names_somebody
from fairloop.erasure.targets import Targets
from fairloop.errors import Cancelled, InvalidInput, PreconditionFailed
from fairloop.leaks.check import Embedded, find_leaks
from fairloop.leaks.gate import kept, read_leaking
from fairloop.leaks.report import ALIKE, EQUAL, KINDS, NEIGHBOUR
from fairloop.leaks.sides import Vectors
from fairloop.store import ObjectStore, StoreSettings
from fairloop.table_store import EMBEDDINGS, TableWriter, to_parquet
from fairloop.tables import embedding_schema
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.metrics_pb2 import FindLeaksRequest, ReportResult
from services.generator.encode import encode_png
from tests.support.rendered_subjects import rendered_subjects
from tests.support.services import Services

SUBJECTS, IMAGES, DIMENSION = 40, 3, 64
MODEL = "models/other/versions/0123456789abcdef"


@pytest.fixture(scope="module")
def settings(s3: dict[str, str]) -> dict[str, str]:
    return {**s3, "FAIRLOOP_S3_BUCKET": f"leaks-{uuid.uuid4().hex[:12]}"}


@pytest.fixture(scope="module")
def store(settings: dict[str, str]) -> ObjectStore:
    names = ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "BUCKET")
    made = ObjectStore(StoreSettings(*(settings[f"FAIRLOOP_S3_{name}"] for name in names)))
    made.ensure_bucket()
    return made


@pytest.fixture(scope="module")
def metrics(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetricsClient]:
    services = Services(tmp_path_factory.mktemp("leaks"), settings)
    try:
        services.start("metrics")
        yield services.metrics
    finally:
        services.stop()


@functools.cache
def pngs(seed: int, images: int = IMAGES) -> list[list[bytes]]:
    """PNG bytes of each subject's images."""
    files = encode_png(rendered_subjects(seed, SUBJECTS, images)[0])
    return [files[k * images : (k + 1) * images] for k in range(SUBJECTS)]


def encoded(data: bytes, kind: str, side: int = 64, **options: Any) -> bytes:
    with Picture.open(io.BytesIO(data)) as image:
        sink = io.BytesIO()
        image.resize((side, side), Picture.Resampling.BICUBIC).save(sink, kind, **options)
    return sink.getvalue()


def written(store: ObjectStore, name: str, images: Sequence[tuple[bytes, str]]) -> Dataset:
    """A dataset of (bytes, subject); every second subject came as male."""
    writer = DatasetWriter(store, f"datasets/{name}")
    for data, subject in images:
        gender = "male" if int(subject.rpartition(":")[2]) % 2 else "female"
        writer.add(Image(data, 64, 64, "png", subject, labels={"gender": gender}))
    return writer.finish()


def table(store: ObjectStore, dataset: Dataset, rows: NDArray[np.float32], model: str = MODEL) -> str:
    schema = embedding_schema(DIMENSION)
    made = TableWriter(store, EMBEDDINGS, schema, [dataset.name, model])
    found = [
        {"image_id": image, "face": 0, "subject_id": subject, "status": "ok", "embedding": row.tolist()}
        for image, subject, row in zip(
            dataset.index["image_id"].to_pylist(), dataset.index["subject_id"].to_pylist(), rows, strict=True
        )
    ]
    made.add(to_parquet(found, schema))
    return made.finish({}, details={"model": model}).name


def crowd(
    subjects: int, seed: int, dimensions: slice = slice(None), spread: float = 0.2
) -> NDArray[np.float32]:
    """`IMAGES` embeddings of each of so many strangers, in some of the dimensions."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((subjects * IMAGES, DIMENSION), np.float32)
    centres = rng.normal(size=(subjects, rows[:, dimensions].shape[1])).repeat(IMAGES, axis=0)
    rows[:, dimensions] = centres + spread * rng.normal(size=centres.shape)
    return rows


@dataclasses.dataclass(frozen=True)
class World:
    """An evaluation set, a training set with four plants at its end, and one without."""

    evaluation: Dataset
    training: Dataset
    control: Dataset
    planted: dict[str, set[str]]
    """Net → the images of the training set that it should find."""


@pytest.fixture(scope="module")
def world(store: ObjectStore) -> World:
    of_evaluation = pngs(3, IMAGES + 1)
    strangers = [(data, f"train:{k}") for k, files in enumerate(pngs(1)) for data in files]
    evaluation = written(
        store,
        "eval",
        [(data, f"eval:{k}") for k, files in enumerate(of_evaluation) for data in files[:IMAGES]],
    )
    plants = [
        of_evaluation[0][0],
        encoded(of_evaluation[5][1], "JPEG", quality=75),
        encoded(of_evaluation[10][2], "PNG", 48),
        of_evaluation[20][IMAGES],
    ]
    training = written(
        store, "train", [*strangers, *((data, f"train:9{k}") for k, data in enumerate(plants))]
    )
    ids = training.index["image_id"].to_pylist()[-4:]
    # A copy of one picture of somebody is a neighbour of the other pictures of the same person.
    planted = {EQUAL: {ids[0]}, ALIKE: {ids[1], ids[2]}, NEIGHBOUR: set(ids)}
    return World(evaluation, training, written(store, "control", strangers), planted)


@dataclasses.dataclass(frozen=True)
class Tables:
    """Embeddings in which strangers of the two sets cannot meet, and some in which any two images can."""

    evaluation: str
    training: str
    evaluation_scattered: str
    control_scattered: str


@pytest.fixture(scope="module")
def tables(store: ObjectStore, world: World) -> Tables:
    half = slice(0, DIMENSION // 2)
    evaluation = crowd(SUBJECTS, 1, half)
    rng = np.random.default_rng(9)
    plants = np.stack([evaluation[k * IMAGES] for k in (0, 5, 10, 20)])
    plants = plants + 0.05 * rng.normal(size=plants.shape).astype(np.float32)
    training = np.concatenate([crowd(SUBJECTS, 2, slice(DIMENSION // 2, None)), plants])
    return Tables(
        table(store, world.evaluation, evaluation),
        table(store, world.training, training),
        table(store, world.evaluation, crowd(SUBJECTS, 3, half, spread=50)),
        table(store, world.control, crowd(SUBJECTS, 4, half, spread=50)),
    )


@pytest.fixture(scope="module")
def checked(metrics: MetricsClient, world: World, tables: Tables) -> ReportResult:
    return metrics.find_leaks(
        FindLeaksRequest(
            dataset=world.training.name,
            against=[world.evaluation.name],
            embeddings=tables.training,
            against_embeddings=[tables.evaluation],
            fmr=0.001,
            sources=[LabelSource(attribute="gender", annotator="given")],
        )
    ).result(60)


def rows(store: ObjectStore, report: str, file: str) -> list[dict[str, Any]]:
    part = manifest.load(store, report, "fairloop.report/1").part(f"/{file}")
    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(manifest.read_part(store, part))).to_pylist()
    return found


def test_every_plant_is_found_by_the_nets_that_can_and_nothing_else_is(
    checked: ReportResult, store: ObjectStore, world: World
) -> None:
    assert {kind: set(ids) for kind, ids in read_leaking(store, checked.report).items()} == world.planted
    pairs = rows(store, checked.report, "pairs.parquet")
    evaluation = world.evaluation.index["image_id"].to_pylist()
    ids = world.training.index["image_id"].to_pylist()[-4:]
    copies = {(p["kind"], p["first"], p["second"]) for p in pairs if p["kind"] != NEIGHBOUR}
    assert copies == {
        (EQUAL, ids[0], evaluation[0]),
        (ALIKE, ids[1], evaluation[5 * IMAGES + 1]),
        (ALIKE, ids[2], evaluation[10 * IMAGES + 2]),
    }
    # Every pair of one person once: two are left of each that is copied, all three of the fourth.
    near = [(p["first"], p["second"]) for p in pairs if p["kind"] == NEIGHBOUR]
    assert sorted(near) == sorted(
        (image, other)
        for image, k in zip(ids, (0, 5, 10, 20), strict=True)
        for other in evaluation[k * IMAGES : (k + 1) * IMAGES]
        if (image, other) not in {(first, second) for _, first, second in copies}
    )
    assert len({p["group"] for p in pairs}) == 4
    assert {pair["against"] for pair in pairs} == {world.evaluation.name}


def test_leaks_are_counted_per_cell_with_the_labels_that_came_along(
    checked: ReportResult, store: ObjectStore
) -> None:
    # Plants 90 and 92 came as female, 91 and 93 as male: one of 62, of one net each, and two of any.
    cells = {(cell["kind"], cell["cell"]): cell for cell in rows(store, checked.report, "cells.parquet")}
    assert {cell["images"] for cell in cells.values()} == {SUBJECTS * IMAGES // 2 + 2}
    assert cells[EQUAL, "gender=female"]["leaking"] == 1
    assert cells[EQUAL, "gender=male"]["leaking"] == 0
    assert cells["any", "gender=female"]["leaking"] == cells["any", "gender=male"]["leaking"] == 2
    interval = proportion_confint(2, SUBJECTS * IMAGES // 2 + 2, method="wilson")
    assert cells["any", "gender=male"]["interval"] == pytest.approx(interval)


def test_the_gate_leaves_out_exactly_the_plants_and_the_evaluation_set_stays(
    checked: ReportResult, store: ObjectStore, world: World
) -> None:
    before = store.get(f"{world.evaluation.name}/manifest.json")
    leaking = read_leaking(store, checked.report)
    clean = kept(store, world.training, "datasets/train-kept", leaking, report=checked.report)
    assert clean.index["image_id"].to_pylist() == world.control.index["image_id"].to_pylist()
    assert clean.manifest.parents == (world.training.name,)
    assert clean.manifest.details["left_out"]["images"] == 4
    assert kept(store, world.control, "datasets/unused", dict.fromkeys(KINDS, ())) is world.control
    assert store.get(f"{world.evaluation.name}/manifest.json") == before
    everything = {EQUAL: world.control.index["image_id"].to_pylist()}
    with pytest.raises(PreconditionFailed, match="all 120 images"):
        kept(store, world.control, "datasets/unused", everything)


def test_an_erasure_finds_an_image_in_the_tables_of_the_report(
    checked: ReportResult, store: ObjectStore, world: World
) -> None:
    found = manifest.load(store, checked.report, "fairloop.report/1")
    tables = dataclasses.replace(found, parts=tuple(p for p in found.parts if p.key.endswith(".parquet")))
    for image in (*world.planted[NEIGHBOUR], world.evaluation.index["image_id"][0].as_py()):
        gone = Targets(frozenset(), frozenset(), frozenset([image]), frozenset())
        assert names_somebody(store, tables, gone)
    nobody = Targets(frozenset(), frozenset(), frozenset(["0" * 32]), frozenset())
    assert not names_somebody(store, found, nobody)


def test_a_set_without_plants_has_no_copies_and_about_as_many_neighbours_as_chance_gives(
    metrics: MetricsClient, world: World, tables: Tables
) -> None:
    found = metrics.find_leaks(
        FindLeaksRequest(
            dataset=world.control.name,
            against=[world.evaluation.name],
            embeddings=tables.control_scattered,
            against_embeddings=[tables.evaluation_scattered],
            fmr=0.02,
        )
    ).result(60)
    nets = {net["kind"]: net for net in json.loads(found.summary_json)["nets"]}
    assert nets[EQUAL]["pairs"] == nets[ALIKE]["pairs"] == 0
    count = (SUBJECTS * IMAGES) ** 2
    assert nets[NEIGHBOUR]["compared"] == count
    assert nets[NEIGHBOUR]["expected_by_chance"] == pytest.approx(0.02 * count)
    # 288 are due, give or take 17; the threshold rests on 140 pairs, give or take 12: 10 % together.
    assert 0.6 * 0.02 * count < nets[NEIGHBOUR]["pairs"] < 1.4 * 0.02 * count


def test_the_page_shows_pictures_only_when_asked_to(
    metrics: MetricsClient, store: ObjectStore, checked: ReportResult, world: World
) -> None:
    request = FindLeaksRequest(dataset=world.training.name, against=[world.evaluation.name], thumbnails=True)
    shown = metrics.find_leaks(request).result(60)
    pages = [
        manifest.read_part(
            store, manifest.load(store, name, "fairloop.report/1").part("/index.html")
        ).decode()
        for name in (checked.report, shown.report)
    ]
    # The copy and the two that look alike, both sides of each.
    assert [page.count("<img") for page in pages] == [0, 6]
    assert 'data-path="leaks.nets.2.pairs"' in pages[0]


def test_a_request_that_cannot_be_answered_says_which_field_is_wrong(
    metrics: MetricsClient, store: ObjectStore, world: World, tables: Tables
) -> None:
    good = {"dataset": world.training.name, "against": [world.evaluation.name]}
    forty_nine = [data for files in pngs(1) for data in files][:49]
    few = written(store, "few", [(data, f"few:{k}") for k, data in enumerate(forty_nine)])
    few_rows = table(store, few, crowd(17, 5)[:49])
    other = table(store, world.training, np.ones((124, DIMENSION), np.float32), MODEL.replace("0", "f"))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({**good, "against": [world.training.name]}, "against"),
        ({**good, "radius": 17}, "radius"),
        ({**good, "fmr": 0.1}, "fmr"),
        ({**good, "embeddings": tables.training}, "against_embeddings"),
        (
            {"dataset": few.name, "against": [world.evaluation.name], "embeddings": few_rows}
            | {"against_embeddings": [tables.evaluation], "fmr": 0.01},
            "at least 50 of each side",
        ),
    ]
    for fields, word in wrong:
        with pytest.raises(InvalidInput, match=word):
            metrics.find_leaks(FindLeaksRequest(**fields)).result(60)
    mixed = {**good, "embeddings": other, "against_embeddings": [tables.evaluation]}
    with pytest.raises(PreconditionFailed, match="only one model's embeddings"):
        metrics.find_leaks(FindLeaksRequest(**mixed)).result(60)


def test_what_cannot_be_looked_at_is_counted_and_a_cancel_ends_the_work(
    store: ObjectStore, world: World, tables: Tables
) -> None:
    face = pngs(3, IMAGES + 1)[1][IMAGES]
    flat = encoded(face, "PNG", 1)  # one pixel is one colour
    odd = written(store, "odd", [(b"no picture", "odd:1"), (flat, "odd:2"), (face, "odd:3")])
    report = find_leaks(odd, [world.evaluation, world.control])
    assert [(s.images, s.undecodable, s.featureless) for s in report.sets] == [
        (3, 1, 1),
        (120, 0, 0),
        (120, 0, 0),
    ]
    stages: list[str] = []

    def tell(stage: str, done: int, total: int, unit: str = "stages") -> None:
        stages.append(stage)
        if stage == "neighbours":
            raise Cancelled("stopped")

    rows = crowd(SUBJECTS, 4)
    ids = world.evaluation.index["image_id"].to_pylist()
    who = world.evaluation.index["subject_id"].to_pylist()
    mine = Vectors(world.control.index["image_id"].to_pylist(), who, rows, np.zeros(120, np.bool_))
    theirs = Vectors(ids, who, rows, np.zeros(120, np.bool_))
    with pytest.raises(Cancelled):
        find_leaks(
            world.control, [world.evaluation], embedded=Embedded(mine, [theirs], theirs, 0.01), tell=tell
        )
    assert {"pictures", "threshold", "neighbours"} <= set(stages)


def test_the_command_prints_what_was_found(
    metrics: MetricsClient, settings: dict[str, str], world: World
) -> None:
    words = ["leaks", "datasets/train", "--against", world.evaluation.name, "--by", "gender", "--json"]
    address = ["--address", f"metrics={metrics.address}"]
    done = CliRunner().invoke(main, [*words, *address], env=settings)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [net["images"] for net in found["nets"]] == [1, 2]
    assert len(found["cells"]) == 6
