"""A training of a classifier over a real store: what it reads and publishes; it annotates as judged."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image as Picture

from fairloop import manifest
from fairloop.cli import main
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.names import kind_of
from fairloop.registry import SCHEMA
from fairloop.store import ObjectStore
from fairloop.table_store import PREDICTIONS, read_table
from fairloop.taxonomy import values
from fairloop.v1.annotator_pb2 import (
    ClassifierOptions,
    ImageDemand,
    TrainClassifierRequest,
    TrainClassifierResult,
)
from services.annotator import classifier
from services.annotator.classifier import Classifiers
from services.annotator.classifier_network import ARCHITECTURES, fresh
from services.annotator.classifier_published import put
from services.annotator.face import Face
from services.annotator.train import train_classifier
from tests.support.bucket import own_bucket
from tests.support.trainings import LocalJob, named, run

RACES = ("white", "indian", "east_asian")
LEVELS = {"white": 200, "indian": 110, "east_asian": 30}


def png(level: int, rng: np.random.Generator) -> bytes:
    pixels = np.clip(rng.normal(level, 25, (40, 32, 3)), 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Picture.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def pictures(store: ObjectStore, name: str, count: int, seed: int, synthetic: int = 0) -> Dataset:
    """Noise that is as bright as its perceived race says; every seventh came without one."""
    rng = np.random.default_rng(seed)
    writer = DatasetWriter(store, f"datasets/{name}")
    for number in range(count + synthetic):
        race = RACES[number % 3]
        labels = {"race": race, "gender": ("female", "male")[number // 3 % 2]}
        writer.add(
            Image(
                png(LEVELS[race], rng),
                32,
                40,
                "png",
                f"{name}:{number // 2}" if number < count else None,
                labels={} if number % 7 == 6 else labels,
                source="real" if number < count else "synthetic",
            )
        )
    return writer.finish()


@pytest.fixture(scope="module")
def bucket(s3: dict[str, str]) -> tuple[dict[str, str], ObjectStore]:
    return own_bucket(s3)


@pytest.fixture(scope="module")
def world(bucket: tuple[dict[str, str], ObjectStore]) -> Any:
    return bucket[1], pictures(bucket[1], "mixed", 90, 1, synthetic=30)


def request(dataset: Dataset, **more: Any) -> TrainClassifierRequest:
    options = {
        "epochs": 4,
        "batch_size": 8,
        "learning_rate": 0.003,
        "group_by": ["gender"],
        **more.pop("options", {}),
    }
    return TrainClassifierRequest(
        **{
            "dataset": dataset.name,
            "target_model": "models/light",
            "attribute": "race",
            "architecture": "resnet_small",
            "seed": 5,
            "options": ClassifierOptions(**options),
            **more,
        }
    )


@pytest.fixture(scope="module")
def made(world: Any) -> TrainClassifierResult:
    store, dataset = world
    wanted = request(dataset, options={"robustness": ["blur"]})
    found: TrainClassifierResult = run(LocalJob(store, named("whole"), wanted), train_classifier)
    return found


def test_the_model_says_what_it_was_made_from_and_how_it_was_judged(
    world: Any, made: TrainClassifierResult
) -> None:
    store, dataset = world
    assert kind_of(made.model) == "model version"
    found = manifest.load(store, made.model, SCHEMA)
    assert found.parents == (dataset.name,)
    assert found.details["kind"] == "classifier"
    assert found.details["classes"] == ["white", "east_asian", "indian"]
    assert made.without_label == 17
    labelled = 120 - 17
    assert made.train_images + made.validation_images + made.test_images == labelled
    # Only real images are held out: of 78 real ones with a label, .15 of the subjects of each class.
    assert made.validation_images + made.test_images < 0.4 * 78
    evaluation = json.loads(made.evaluation_json)
    assert json.loads(manifest.read_part(store, found.part("/evaluation.json"))) == evaluation
    assert {table["grouping"] for table in evaluation["tables"]} == {"", "gender"}
    assert sum(map(sum, evaluation["tables"][0]["confusion"])) == made.test_images
    # The untouched images, then the four levels.
    steps = [one["groupings"][0]["groups"][0]["accuracy"] for one in evaluation["robustness"]]
    assert len(steps) == 5
    assert steps[0] == pytest.approx(made.accuracy)
    curve = pq.read_table(io.BytesIO(manifest.read_part(store, found.part("/epochs.parquet")))).to_pydict()
    assert curve["epoch"] == [1, 2, 3, 4]
    assert curve["best"].index(True) + 1 == made.best_epoch
    assert curve["validation_loss"][made.best_epoch - 1] == min(curve["validation_loss"])


def test_the_command_writes_figures_tables_and_json(
    bucket: tuple[dict[str, str], ObjectStore], made: TrainClassifierResult, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        main, ["models", "evaluation", made.model, "--to", str(tmp_path / "out")], env=bucket[0]
    )
    assert done.exit_code == 0, done.output
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert all(data.startswith(b"\x89PNG") for name, data in files.items() if name.endswith(".png"))
    assert {"confusion.png", "confusion-gender.png", "predictions.png", "losses.png"} <= set(files)
    assert json.loads(files["evaluation.json"]) == json.loads(made.evaluation_json)
    rows = list(csv.DictReader(io.StringIO(files["confusion.csv"].decode())))
    counted = {(row["true"], row["predicted"]): int(row["images"]) for row in rows if row["group"] == "(all)"}
    _, table = read_table(bucket[1], made.predictions, PREDICTIONS)
    pairs = Counter(zip(table["truth"].to_pylist(), table["predicted"].to_pylist(), strict=True))
    assert {pair: count for pair, count in counted.items() if count} == pairs
    worse = list(csv.DictReader(io.StringIO(files["robustness.csv"].decode())))
    assert {row["change"] for row in worse} == {"", "blur"}


def test_as_an_annotator_it_says_of_the_test_images_what_it_was_judged_by(
    world: Any, made: TrainClassifierResult
) -> None:
    store, dataset = world
    table_manifest, table = read_table(store, made.predictions, PREDICTIONS)
    assert set(table_manifest.parents) == {dataset.name, made.model}
    classifiers = Classifiers(store)
    (annotator,) = classifiers.load([classifiers.manifest(made.model)])
    assert (annotator.name, annotator.attributes) == (made.model, ("race",))
    images = {row["image_id"]: data for row, data in dataset.images()}
    faces = []
    for image_id in table["image_id"].to_pylist():
        pixels = np.asarray(Picture.open(io.BytesIO(images[image_id])).convert("RGB"))
        faces.append(Face(pixels, (0.0, 0.0, 32.0, 40.0), np.zeros((5, 2), np.float32)))
    guesses = [guess["race"] for guess in annotator.annotate(faces)]
    assert [guess.label for guess in guesses] == table["predicted"].to_pylist()
    right = [
        one == other
        for one, other in zip(table["truth"].to_pylist(), [g.label for g in guesses], strict=True)
    ]
    assert np.mean(right) == pytest.approx(made.accuracy)
    assert made.accuracy > 0.8
    for guess in guesses:
        shares = dict(zip(values("race"), guess.probabilities, strict=True))
        assert sum(shares.values()) == pytest.approx(1)
        assert {name for name, share in shares.items() if share > 0} == set(RACES)
        assert max(shares, key=shares.__getitem__) == guess.label


def test_a_training_that_was_stopped_goes_on_to_the_same_model(
    world: Any, made: TrainClassifierResult
) -> None:
    store, dataset = world
    wanted = request(dataset, options={"robustness": ["blur"]})
    steps = -(-made.train_images // 8)
    job = LocalJob(store, named("stopped"), wanted, stop_at=2 * steps + 1)
    assert run(job, train_classifier) is None
    again: TrainClassifierResult = run(LocalJob(store, named("stopped"), wanted), train_classifier)
    assert again == made


def test_a_base_keeps_what_it_learnt_and_gets_a_new_head(world: Any, made: TrainClassifierResult) -> None:
    store, dataset = world
    wanted = request(
        dataset, attribute="gender", base=made.model, architecture="", target_model="models/gender",
        composition=[
            ImageDemand(cell="race=white", source="real", count=6),
            ImageDemand(cell="", source="synthetic", count=9),
        ],
        options={"epochs": 2, "group_by": ["race"]},
    )  # fmt: skip
    found: TrainClassifierResult = run(LocalJob(store, named("based"), wanted), train_classifier)
    assert found.train_images == 15
    was, _ = classifier.read(store, classifier.opened(store, made.model, "base"))
    net, meaning = classifier.read(store, classifier.opened(store, found.model, "base"))
    assert meaning.classes == ("female", "male")
    theirs = was.state_dict()
    for name, tensor in net.state_dict().items():
        if not name.startswith("head."):
            assert (tensor == theirs[name]).all(), name
    assert net.head.fc.weight.shape == (2, 128)
    assert set(manifest.load(store, found.model, SCHEMA).parents) == {dataset.name, made.model}


def test_what_cannot_be_trained_is_refused_with_the_reason(world: Any, made: TrainClassifierResult) -> None:
    store, dataset = world
    other = pictures(store, "other", 30, 2)
    same = request(dataset, test_dataset=dataset.name, validation_dataset=other.name)
    with pytest.raises(InvalidInput, match=r"test_dataset.*of its images are trained on"):
        run(LocalJob(store, named("same"), same), train_classifier)
    with pytest.raises(PreconditionFailed, match="that could be used came with age"):
        run(LocalJob(store, named("age"), request(dataset, attribute="age")), train_classifier)
    net = fresh(ARCHITECTURES["resnet_small"], 1)
    base = put(store, net, "base", alignment="none", about="a base", terms=())
    with pytest.raises(InvalidInput, match=r"annotators: .* is a classifier_base, not a classifier"):
        Classifiers(store).manifest(base.name)
