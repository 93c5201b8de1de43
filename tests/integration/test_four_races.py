"""Sources with four races keep their `asian` as one value, through every export and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairloop import exports, importers, taxonomy
from fairloop.dataset import Dataset
from fairloop.importers import Choices
from fairloop.preparation.composition import merged_race
from fairloop.store import ObjectStore
from tests.support.trees import plant

PEOPLE = {"African": "m.1", "Asian": "m.2", "Caucasian": "m.3", "Indian": "m.4"}
LABELS = ("race_rfw", "race", "race4")
GIVEN = {
    ("african", "black", "black"),
    ("asian", None, "asian"),
    ("caucasian", "white", "white"),
    ("indian", "indian", "indian"),
}


def given(dataset: Dataset) -> set[tuple[Any, ...]]:
    return {tuple(dict(row["labels"]).get(name) for name in LABELS) for row in dataset.rows()}


@pytest.mark.parametrize(
    ("form", "kind", "options"),
    [
        ("folder", "table", {"table": "images.csv", "label": tuple(f"{name}={name}" for name in LABELS)}),
        ("webdataset", "webdataset", {}),
        ("hf-dataset", "hf-dataset", {"label": tuple(f"{name}={name}" for name in LABELS)}),
    ],
)
def test_the_races_of_rfw_come_back_from_an_export(
    store: ObjectStore, tmp_path: Path, form: str, kind: str, options: dict[str, Any]
) -> None:
    plant(tmp_path / "rfw", *(f"data/{race}/{who}/{who}_0001.jpg" for race, who in PEOPLE.items()))
    first = importers.import_dataset(store, "rfw", tmp_path / "rfw", "datasets/rfw", Choices("rfw")).dataset
    assert given(first) == GIVEN
    exports.export_dataset(store, first.name, form, tmp_path / "out", policy="research", acknowledge="a test")
    again = importers.import_dataset(
        store, kind, tmp_path / "out", "datasets/again", Choices("rfw"), **options
    )
    assert given(again.dataset) == GIVEN


def test_every_coarse_value_is_one_of_four_and_agrees_with_the_merge_of_the_seven() -> None:
    for attribute, (coarse, values) in taxonomy.COARSE.items():
        assert set(values.values()) <= set(taxonomy.values(coarse))
        _, fine = taxonomy.CANONICAL[attribute]
        for value, race in fine.items():
            assert merged_race({"race": race}, coarse)[coarse] == values[value]
        assert "asian" in values.values()
        assert "asian" not in {*fine, *fine.values()}
