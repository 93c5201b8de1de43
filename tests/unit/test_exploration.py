"""What is counted in a dataset, against counts by hand, and the page and tables that show it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fairloop.contact_sheet import draw
from fairloop.dataset import INDEX
from fairloop.errors import InvalidInput
from fairloop.exploration import Finding, _seen, count
from fairloop.reporting import sections
from fairloop.reporting.bundle import exploration_files
from fairloop.reporting.figures.counts import counts_canvas
from tests.support.pages import Reader

PEOPLE: list[tuple[str, str, str, str | None, dict[str, str]]] = [
    # bytes, source, format, subject, labels
    ("a", "real", "jpeg", "x:1", {"gender": "female", "race": "white", "age": "20_29"}),
    ("b", "real", "jpeg", "x:1", {"gender": "female", "race": "white", "age": "70_plus"}),
    ("c", "real", "png", "x:1", {"gender": "male", "race": "black"}),
    ("a", "real", "jpeg", "x:2", {"gender": "female", "race": "white", "age": "20_29"}),
    ("d", "synthetic", "png", None, {"race": "black", "split": "train", "age": "0_2"}),
    ("e", "synthetic", "png", "m:7:0", {"race": "asian", "gender": "male", "file": "made/e.png"}),
    ("e", "synthetic", "png", "m:7:0", {"race": "black", "gender": "male"}),
]


def index(rows: list[tuple[str, str, str, str | None, dict[str, str]]]) -> pa.Table:
    base: dict[str, Any] = dict.fromkeys(INDEX.names)
    made = [
        {
            **base,
            "image_id": f"{k:032x}",
            "sha256": data * 64,
            "size": 100,
            "width": 20 + k,
            "height": 10 + k,
            "format": kind,
            "source": source,
            "subject_id": subject,
            "labels": sorted(labels.items()),
        }
        for k, (data, source, kind, subject, labels) in enumerate(rows)
    ]
    return pa.Table.from_pylist(made, schema=INDEX)


def test_values_are_counted_with_zeros_missing_labels_and_where_images_come_from() -> None:
    found = count(index(PEOPLE))
    assert (found.images, found.real, found.synthetic) == (7, 4, 3)
    assert found.attributes == ["age", "gender", "race", "split"]
    gender = {
        row.value: (row.images, row.real, row.synthetic) for row in found.values if row.attribute == "gender"
    }
    assert gender == {"female": (3, 3, 0), "male": (3, 1, 2), None: (1, 0, 1)}
    race = {row.value: row.images for row in found.values if row.attribute == "race"}
    # `asian` is no value of the taxonomy and is counted all the same.
    assert race == {
        **dict.fromkeys(("latino_hispanic", "east_asian", "southeast_asian", "indian", "middle_eastern"), 0),
        "white": 3,
        "black": 3,
        "asian": 1,
    }
    for attribute in found.attributes:
        own = [row for row in found.values if row.attribute == attribute]
        assert sum(row.images for row in own) == 7
        assert sum(row.share for row in own) == pytest.approx(1)


def test_intersections_are_whole_and_say_how_many_images_lack_a_label() -> None:
    found = count(index(PEOPLE), [("gender", "race", "age")])
    pairs = list(dict.fromkeys(row.attributes for row in found.cells))
    assert pairs == ["age,gender", "age,race", "gender,race", "gender,race,age"]
    crossed = {row.cell: row for row in found.cells if row.attributes == "gender,race"}
    assert len(crossed) == 2 * 8 + 1
    assert {cell: row.images for cell, row in crossed.items() if row.images} == {
        "gender=female,race=white": 3,
        "gender=male,race=black": 2,
        "gender=male,race=asian": 1,
        None: 1,
    }
    assert (crossed["gender=male,race=black"].real, crossed["gender=male,race=black"].synthetic) == (1, 1)
    triple = {
        row.cell: row.images for row in found.cells if row.attributes == "gender,race,age" and row.images
    }
    assert triple == {
        "age=20_29,gender=female,race=white": 2,
        "age=70_plus,gender=female,race=white": 1,
        None: 4,
    }
    with pytest.raises(
        InvalidInput, match="'tone' is no label with values; there are age, gender, race, split"
    ):
        count(index(PEOPLE), [("tone", "race")])


def test_subjects_formats_and_byte_identical_repeats_are_counted() -> None:
    found = count(index(PEOPLE))
    assert (found.subjects, found.without_subject) == (3, 1)
    assert [(row.images_each, row.subjects) for row in found.subject_sizes] == [(1, 1), (2, 1), (3, 1)]
    # Heights are 10 … 16, the shorter sides; the JPEG files are rows 0, 1 and 3.
    assert [
        (row.format, row.images, row.bytes, row.smallest_side, row.median_side, row.largest_side)
        for row in found.formats
    ] == [("jpeg", 3, 300, 10, 11.0, 13), ("png", 4, 400, 12, 14.5, 16)]
    assert [(row.sha256[0], row.images, row.subjects) for row in found.repeats] == [("a", 2, 2), ("e", 2, 1)]


def test_a_text_is_no_attribute_and_is_said_to_be_left_out() -> None:
    rows = [
        ("a", "real", "png", None, {"note": f"n{k}", "text": "x", "camera": "ab"[k % 2]}) for k in range(30)
    ]
    found = count(index(rows))
    assert (found.attributes, found.uncounted) == (["camera"], ("note",))


def test_the_three_panels_are_titled_as_in_the_first_reference_system_and_as_high_as_the_counts() -> None:
    found = count(index(PEOPLE))
    canvas = counts_canvas(sections.explored(found, {}))
    titles = [ax.get_title(loc="left") for ax in canvas.axes]
    assert titles == ["Age Counts", "Gender Counts", "Race Counts", "Split Counts"]
    gender = canvas.axes[1]
    real, made = gender.containers
    assert [label.get_text() for label in gender.get_xticklabels()] == ["female", "male", "no label"]
    assert [bar.get_height() for bar in real] == [3, 1, 0]
    assert [(bar.get_y(), bar.get_height()) for bar in made] == [(3, 0), (1, 2), (0, 1)]


def test_every_number_on_the_page_is_that_of_the_tables_beside_it() -> None:
    wrong = (Finding("0" * 32, "black", "pixel sum 0"), Finding("1" * 32, "broken", "<b>cut</b>"))
    found = replace(count(index(PEOPLE)), findings=wrong)
    labels = {"race": {"how": "perceived", "source": "labels.csv"}}
    files = exploration_files(found, {"inputs": {"datasets/x": "ab"}}, labels=labels)
    page = Reader(files["index.html"].decode())
    for table, place in (("counts", "attributes"), ("intersections", "intersections")):
        rows = pq.read_table(pa.BufferReader(files[f"{table}.parquet"])).to_pylist()
        assert rows
        first = "attribute" if table == "counts" else "attributes"
        names = list(dict.fromkeys(row[first] for row in rows))
        for number, name in enumerate(names):
            for line, row in enumerate(row for row in rows if row[first] == name):
                at = f"exploration.{place}.{number}.rows.{line}"
                for field in ("images", "real", "synthetic", "share"):
                    assert page.value(f"{at}.{field}") == row[field], at
        assert csv_rows(files[f"{table}.csv"]) == [[str(value) for value in row] for row in plain(rows)]
    findings = pq.read_table(pa.BufferReader(files["findings.parquet"])).to_pylist()
    for place, kind in enumerate(("broken", "black", "nearly_black")):
        expected = sum(row["finding"] == kind for row in findings)
        assert page.value(f"exploration.findings.{place}.images") == expected
    text = " ".join(page.text)
    assert "perceived, labels.csv" in text
    assert "70+" in text
    assert page.find("b") == []  # what an image says of itself is text
    assert page.find("script") == []
    assert files == exploration_files(found, {"inputs": {"datasets/x": "ab"}}, labels=labels)


def csv_rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode())))[1:]


def plain(rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [["" if value is None else value for value in row.values()] for row in rows]


def test_a_contact_sheet_draws_from_a_seed_the_same_images_and_never_more_than_there_are() -> None:
    rows = [("a", "real", "png", None, {"race": race}) for race in ("white", "black") for _ in range(50)]
    rows += [("a", "synthetic", "png", None, {"race": "indian"})] * 2
    table = index(rows)
    drawn = draw(table, "race", 5, 3)
    assert list(drawn) == ["white", "black", "indian"]
    assert drawn["indian"] == [100, 101]
    assert len(drawn["white"]) == 5
    assert set(drawn["white"]) <= set(range(50))
    assert drawn == draw(table, "race", 5, 3)
    assert drawn["white"] != draw(table, "race", 5, 4)["white"]
    assert draw(table, "race", 5, 3, "synthetic") == {"white": [], "black": [], "indian": [100, 101]}
    with pytest.raises(InvalidInput, match="sheet: 21 is outside 1–20"):
        draw(table, "race", 21, 0)
    with pytest.raises(InvalidInput, match="the label 'tone' has 0 values"):
        draw(table, "tone", 5, 0)


def test_black_is_a_pixel_sum_of_zero_and_nearly_black_a_mean_below_five() -> None:
    def png(pixels: np.ndarray[Any, Any]) -> bytes:
        sink = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(sink, "PNG")
        return sink.getvalue()

    one = np.zeros((10, 10, 3))
    assert _seen(png(one)) == ("black", "pixel sum 0")
    one[0, 0, 0] = 1
    seen = _seen(png(one))
    assert seen is not None
    assert seen[0] == "nearly_black"
    assert _seen(png(np.full((10, 10, 3), 4))) == ("nearly_black", "mean 4.00 of 255")
    assert _seen(png(np.full((10, 10, 3), 5))) is None
    assert _seen(png(np.full((4, 4), 0))) == ("black", "pixel sum 0")
    cut = _seen(png(np.random.default_rng(0).integers(0, 255, (40, 40, 3)))[:900])
    assert cut is not None
    assert cut[0] == "broken"
