"""Cards from stored facts: composition, labels and how they are known, terms, erasures; Croissant."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from statsmodels.stats.proportion import proportion_confint

from fairloop import cards, manifest
from fairloop.cli import main
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput
from fairloop.manifest import Terms
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, TableWriter, to_parquet
from fairloop.tables import FaceRow, Guess, annotation_record, annotation_schema
from tests.support.manifests import model, put, table
from tests.support.metrics_world import png

NC = Terms("CC BY-NC 4.0", "no", "yes", "yes", "yes", "measuring bias")
GUESSES = [("gender", "face_api")]


def images() -> list[Image]:
    """12 images of 4 subjects; 3 synthetic ones of nobody; 9 with a self-declared gender."""
    made = []
    for k in range(12):
        labels = {"gender": "female" if k % 3 else "male"} if k < 9 else {}
        synthetic = {"source": "synthetic", "model": model(1)} if k >= 9 else {}
        subject = None if k >= 9 else f"set:{k % 4}"
        made.append(Image(png(k), 8, 8, "png" if k else "bmp", subject, labels=labels, **synthetic))  # type: ignore[arg-type]
    return made


@pytest.fixture
def dataset(store: ObjectStore) -> Dataset:
    put(store, model(1), [], [NC], {"weights": ["face-api-age-gender.bin"]})
    writer = DatasetWriter(store, "datasets/mixed", parents=[model(1)], terms=[NC])
    for image in images():
        writer.add(image)
    made = writer.finish({"labels": {"gender": {"how": "self_declared", "source": "the participants"}}})
    rows = [
        annotation_record(
            image,
            FaceRow(
                "ok" if k else "no_face", guesses={GUESSES[0]: Guess("female", uncertain=k == 1)} if k else {}
            ),
            GUESSES,
        )
        for k, image in enumerate(made.index["image_id"].to_pylist())
    ]
    schema = annotation_schema(GUESSES)
    labels = TableWriter(store, ANNOTATIONS, schema, [made.name, "face_api@v7"])
    labels.add(to_parquet(rows, schema))
    details = {
        "annotators": {"face_api": "v7"},
        "guesses": [list(guess) for guess in GUESSES],
        "weights": ["face-api-age-gender.bin"],
    }
    labels.finish({"status_ok": 11, "status_no_face": 1}, [NC], details)
    return made


def test_composition_carries_wilson_intervals_and_says_how_labels_are_known(
    store: ObjectStore, dataset: Dataset
) -> None:
    found = cards.gather(store, dataset.name).dataset
    assert found is not None
    (gender,) = found.compositions
    assert (gender.attribute, gender.how, gender.source) == ("gender", "self_declared", "the participants")
    assert [(s.value, s.count) for s in gender.shares] == [("female", 6), ("male", 3), ("no label", 3)]
    for share in gender.shares:
        expected = proportion_confint(share.count, 12, method="wilson")
        assert share.interval == pytest.approx(expected, abs=1e-12)
    assert [(s.value, s.count) for s in found.sources] == [("real", 9), ("synthetic", 3)]
    assert [(s.value, s.count) for s in found.formats] == [("png", 11), ("bmp", 1)]
    assert [(s.value, s.count) for s in found.makers] == [(model(1), 3)]
    sizes = sorted(len(image.data) for image in images())
    assert (found.bytes[0], found.bytes[1], found.bytes[-1]) == (sizes[0], sizes[5], sizes[-1])
    assert found.without_subject == 3
    assert found.images_per_subject == (2, 2, 3, 3)


def test_annotators_are_named_with_their_failures_and_what_the_catalogue_says_of_them(
    store: ObjectStore, dataset: Dataset
) -> None:
    found = cards.gather(store, dataset.name).dataset
    assert found is not None
    (labelling,) = found.labellings
    assert labelling.annotators == {"face_api": "v7"}
    assert {s.value: s.count for s in labelling.statuses} == {"ok": 11, "no_face": 1}
    assert [(s.value, s.count, s.total) for s in labelling.uncertain] == [("gender by face_api", 1, 11)]
    assert labelling.compositions[0].how == "perceived"
    assert any("its training photographs came from sets published for research" in n for n in labelling.notes)


def test_the_card_holds_terms_with_their_chain_the_warning_and_what_was_erased(
    store: ObjectStore, dataset: Dataset
) -> None:
    text = cards.markdown(cards.gather(store, dataset.name))
    assert f"{dataset.name} → {model(1)}: licence CC BY-NC 4.0 forbids commercial use" in text
    assert "**research**: nothing stands against it" in text
    assert "Attributes called perceived are impressions" in text
    assert "- measuring bias" in text
    assert "└─ weights/face-api-age-gender.bin" in text
    assert "## Erasures\n\nNone." in text
    details = {**dataset.manifest.details, "erasures": [{"images": 2}, {"images": 1}]}
    manifest.commit(store, replace(dataset.manifest, details=details))
    assert "2 recorded" in cards.markdown(cards.gather(store, dataset.name))


def test_a_model_card_names_what_it_was_made_from_and_that_some_of_it_was_erased(
    store: ObjectStore, dataset: Dataset
) -> None:
    put(
        store,
        model(2),
        [dataset.name],
        [NC],
        {"kind": "residual", "service": "recognizer", "contains_erased": True, "settings": {"epochs": 4}},
    )
    put(store, table("reports", 3), [model(2)], [NC], {"kind": "verification"})
    text = cards.markdown(cards.gather(store, model(2)))
    assert f"- {dataset.name}  12 images, 4 subjects" in text
    assert "**Made with data that were erased since**" in text
    assert f"- {table('reports', 3)} (verification)" in text
    assert "| epochs | 4 |" in text


def test_text_from_outside_cannot_become_markup(store: ObjectStore) -> None:
    writer = DatasetWriter(store, "datasets/odd", terms=[replace(NC, purpose="<script>x</script>")])
    writer.add(Image(png(1), 8, 8, "png", labels={"note": "a | b\n# c"}))
    text = cards.markdown(cards.gather(store, writer.finish().name))
    assert "| a \\| b # c | 1 |" in text
    assert "<script>" not in text


def test_croissant_is_valid_for_mlcroissant_and_tells_every_file_with_its_hash(
    store: ObjectStore, store_environment: dict[str, str], dataset: Dataset, tmp_path: Path
) -> None:
    target = tmp_path / "card.json"
    done = CliRunner(env=store_environment).invoke(
        main, ["card", "datasets/mixed", "--format", "croissant", "--to", str(target)]
    )
    assert done.exit_code == 0, done.output
    checked = subprocess.run(
        [Path(sys.executable).with_name("mlcroissant"), "validate", "--jsonld", target],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr.lower(), checked.stderr
    assert "error" not in checked.stderr.lower(), checked.stderr
    body = json.loads(target.read_text())
    files = {file["contentUrl"]: file["sha256"] for file in body["distribution"] if "sha256" in file}
    assert files == {
        f"s3://{store.bucket}/{part.key}": hashlib.sha256(store.get(part.key)).hexdigest()
        for part in dataset.manifest.parts
    }
    assert body["license"] == ["CC BY-NC 4.0"]


def test_croissant_of_a_model_and_cards_of_tables_are_refused(store: ObjectStore, dataset: Dataset) -> None:
    with pytest.raises(InvalidInput, match="croissant describes datasets"):
        cards.croissant(cards.gather(store, model(1)))
    with pytest.raises(InvalidInput, match="neither a dataset nor a model"):
        cards.gather(store, table("reports", 1))
