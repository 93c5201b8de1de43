"""Quality and diversity of sets: closed forms through torchmetrics, and the command on a real store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from fairloop.cli import main
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import PreconditionFailed
from fairloop.stats.set_likeness import kernel_distance, mean_similarity
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, TableWriter, to_parquet
from fairloop.tables import FaceRow, Guess, annotation_record, annotation_schema, embedding_schema
from services.generator import set_quality
from services.generator.encode import encode_png
from services.generator.set_quality import Embedded, fid, fid_floor, kid, measure, measure_set
from tests.support.bucket import own_bucket

MODEL = "models/net/versions/0123456789abcdef"
SIZE = 4
GENDER = ("gender", "one")


@pytest.fixture(scope="module")
def place(s3: dict[str, str]) -> tuple[dict[str, str], ObjectStore]:
    return own_bucket(s3)


def pictures(count: int, seed: int) -> NDArray[np.uint8]:
    """Noise, 16 × 16: no two look alike."""
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def stored(store: ObjectStore, name: str, images: NDArray[np.uint8]) -> Dataset:
    writer = DatasetWriter(store, f"datasets/{name}")
    for k, png in enumerate(encode_png(images)):
        writer.add(Image(png, 16, 16, "PNG", subject_id=f"{name}:{k}", source="synthetic"))
    return writer.finish()


def table(store: ObjectStore, dataset: Dataset, features: NDArray[np.float64], without: int = 0) -> str:
    """An embedding table; the last `without` images have no face."""
    schema = embedding_schema(SIZE)
    rows = [
        {
            "image_id": row["image_id"],
            "face": 0,
            "subject_id": row["subject_id"],
            "status": "ok" if k < len(dataset) - without else "no_face",
            "embedding": features[k].astype(np.float32) if k < len(dataset) - without else None,
        }
        for k, row in enumerate(dataset.rows())
    ]
    writer = TableWriter(store, EMBEDDINGS, schema, [dataset.name, MODEL])
    writer.add(to_parquet(rows, schema))
    return writer.finish({}).name


def labelled(store: ObjectStore, dataset: Dataset, labels: list[str | None]) -> str:
    schema = annotation_schema([GENDER])
    rows = [
        annotation_record(
            row["image_id"], FaceRow("ok" if label else "no_face", guesses={GENDER: Guess(label)}), [GENDER]
        )
        for row, label in zip(dataset.rows(), labels, strict=True)
    ]
    writer = TableWriter(store, ANNOTATIONS, schema, [dataset.name])
    writer.add(to_parquet(rows, schema))
    return writer.finish({}, details={"annotators": {"one": "1"}, "guesses": [list(GENDER)]}).name


def test_fid_of_two_gaussians_is_their_closed_form() -> None:
    rng = np.random.default_rng(0)
    scale, shift = np.array([1.0, 2.0, 0.5]), np.array([0.5, 0.0, -1.0])

    def white(count: int) -> NDArray[np.float64]:
        """Mean exactly 0 and covariance exactly 1."""
        drawn = rng.normal(size=(count, 3))
        drawn -= drawn.mean(0)
        return np.asarray(drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T)

    # |μ − ν|² + Σ (σ − τ)² of covariances that are diagonal.
    wanted = (shift**2).sum() + ((scale - 1) ** 2).sum()
    assert fid(white(400), white(300) * scale + shift) == pytest.approx(wanted, rel=1e-6)


def test_kid_of_all_images_at_once_is_the_distance_whose_interval_is_told() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(40, 6)), rng.normal(0.4, size=(40, 6))
    # As many images as a subset takes: every subset is the whole set.
    alone = np.arange(40)
    own = kernel_distance(first, alone, second, alone, 0).value
    # torchmetrics' cross term has the pairs that ours has; so have the two others.
    assert kid(first, second, 0) == pytest.approx(own, rel=1e-5)


def test_the_floor_is_that_of_two_parts_of_the_reference() -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(600, 5))
    few, many = fid_floor(reference, 20, 0), fid_floor(reference, 300, 0)
    assert few is not None
    assert many is not None
    assert few > 3 * many > 0
    assert fid_floor(reference[:10], 20, 0) is None


def test_a_set_is_measured_group_by_group_against_a_reference(
    place: tuple[dict[str, str], ObjectStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, store = place
    rng = np.random.default_rng(3)
    images = pictures(60, 1)
    images[31] = np.clip(images[30].astype(int) + 2, 0, 255)  # the same picture a little brighter
    made = stored(store, "made", images)
    features = rng.normal(size=(60, SIZE))
    features[:30] = [3, 0, 0, 0] + 0.01 * rng.normal(size=(30, SIZE))  # women all look alike
    reference = stored(store, "reference", pictures(50, 2))
    tables = table(store, made, features, without=2), table(store, reference, rng.normal(size=(50, SIZE)))
    labels: list[str | None] = ["female"] * 30 + ["male"] * 28 + [None] * 2
    annotations = labelled(store, made, labels)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    done = CliRunner().invoke(
        measure_set,
        [
            *(tables[0], "--reference", tables[1], "--annotations", annotations),
            *("--source", "gender=one", "--to", str(tmp_path / "quality.json")),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    body = json.loads((tmp_path / "quality.json").read_text())
    rows = {row["group"]: row for row in body["rows"]}
    assert list(rows) == ["all", "gender=female", "gender=male"]
    assert (body["model"], rows["all"]["images"], rows["all"]["without_face"]) == (MODEL, 60, 2)
    women, men = rows["gender=female"], rows["gender=male"]
    assert women["similarity"] > 0.999
    low, high = men["similarity_interval"]
    assert low < men["similarity"] < high < 0.5
    # KID of the set that is like its reference holds 0, that of the collapsed one does not.
    assert men["kid_interval"][0] < 0 < men["kid_interval"][1]
    assert women["kid_interval"][0] > 0
    assert women["fid"] > 10 * men["fid"] > 0
    assert (women["near_duplicates"], men["near_duplicates"], rows["all"]["near_duplicates"]) == (0, 1, 1)
    assert "60 images, 2 without a face" in done.output
    expected = mean_similarity(features[:30].astype(np.float32).astype(np.float64), np.arange(30), 0).value
    assert women["similarity"] == pytest.approx(expected)


def test_a_group_that_is_too_small_has_no_distance_and_says_so_by_a_dash(
    place: tuple[dict[str, str], ObjectStore],
) -> None:
    _, store = place
    made = stored(store, "few", pictures(6, 5))
    features = np.random.default_rng(6).normal(size=(6, SIZE))
    name = table(store, made, features)
    found = set_quality.embedded(store, name)
    (row,) = measure(store, found, found, {"all": list(found.ids)}, 0)
    assert row.kid is None
    assert row.kid_interval is None
    assert row.fid is not None  # six images are more than four features
    assert set_quality.measure(store, found, found, {"nobody": []}, 0)[0].similarity is None


def test_tables_by_two_models_and_sources_without_a_table_are_refused(
    place: tuple[dict[str, str], ObjectStore],
) -> None:
    _, store = place
    one = Embedded("datasets/a", MODEL, ("x",), np.ones((1, 2)), np.zeros(1, np.int64), ())
    other = Embedded("datasets/a", MODEL.replace("net", "other"), one.ids, one.features, one.subjects, ())
    with pytest.raises(PreconditionFailed, match="take one for both"):
        measure(store, one, other, {}, 0)
    refused = CliRunner().invoke(
        main, ["measure-set", "embeddings/0123456789abcdef", "--reference", "embeddings/0123456789abcdef",
               "--source", "gender=one"]
    )  # fmt: skip
    assert refused.exit_code != 0
    assert "go together" in refused.output
