"""Captions, composition, splits: plans on index rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.preparation.captions import caption, captioned, check_template
from fairloop.preparation.composition import Demand, compose, merged_race, of_races
from fairloop.preparation.splits import by_image, by_subject
from fairloop.taxonomy import values

S0_PROMPTS = {
    "east_asian": "face of East Asian person",
    "indian": "face of Indian person",
    "black": "face of Black person",
    "white": "face of White person",
    "middle_eastern": "face of Middle Eastern person",
    "latino_hispanic": "face of Latino Hispanic  person",
    "southeast_asian": "face of Southeast Asian person",
}
"""The seven strings of the first reference system, to the letter."""


def row(source: str = "real", subject: str | None = None, **labels: str) -> dict[str, Any]:
    return {"source": source, "subject_id": subject, "labels": sorted(labels.items()), "image_id": "0" * 32}


def test_the_seven_prompts_are_the_reference_systems_to_the_letter_in_the_compatibility_mode() -> None:
    template = "face of {race} person"
    assert {race: caption(template, {"race": race}, compatible=True) for race in values("race")} == S0_PROMPTS
    assert caption(template, {"race": "latino_hispanic"}) == "face of Latino Hispanic person"
    change = captioned("a photo of a {race} {gender}")
    assert dict(change(row(race="white", gender="female"))["labels"])["text"] == "a photo of a White female"


@pytest.mark.parametrize("template", ["a face", "face of {race", "face of {} person", "{race} }"])
def test_a_template_that_names_no_label_or_has_a_stray_brace_is_refused(template: str) -> None:
    with pytest.raises(InvalidInput, match="names no label"):
        check_template(template)


def test_a_caption_of_an_image_without_the_label_says_which() -> None:
    with pytest.raises(InvalidInput, match="no label gender"):
        caption("{gender}", {"race": "white"})


def test_a_composition_takes_exactly_what_was_asked_for_and_synthetic_rows_for_synthetic_demands() -> None:
    rows = [row(race="white") for _ in range(10)] + [row("synthetic", race="white") for _ in range(6)]
    rows += [row(race="black") for _ in range(5)]
    # The reference system overwrote its synthetic frame with the real one.
    composed = compose(rows, of_races({"White": 4, "S_White": 5, "Black": 5, "S_Black": 0}), seed=3)
    assert Counter((rows[i]["source"], dict(rows[i]["labels"])["race"]) for i in composed.rows) == {
        ("real", "white"): 4,
        ("synthetic", "white"): 5,
        ("real", "black"): 5,
    }
    assert composed.rows == compose(rows, of_races({"S_White": 5, "Black": 5, "White": 4}), seed=3).rows
    assert composed.rows != compose(rows, of_races({"White": 4, "S_White": 5, "Black": 5}), seed=4).rows
    assert not composed.short


def test_a_composition_is_a_draw_and_not_the_first_rows() -> None:
    rows = [row(race="white") for _ in range(200)]
    drawn = [compose(rows, of_races({"White": 20}), seed=seed).rows for seed in range(30)]
    counts = Counter(position for rows_drawn in drawn for position in rows_drawn)
    assert max(position for rows_drawn in drawn for position in rows_drawn) > 190
    # 600 draws of 200 rows: a row is expected 3 times; 12 or more has p < 2e-5 by the binomial law.
    assert max(counts.values()) < 12


def test_short_supply_is_refused_by_cell_or_taken_and_said() -> None:
    rows = [row(race="white"), row("synthetic", race="black")]
    wanted = of_races({"White": 3, "S_Black": 1})
    with pytest.raises(PreconditionFailed, match=r"real race=white: 1 of 3\)"):
        compose(rows, wanted, seed=0)
    taken = compose(rows, wanted, seed=0, short="take")
    assert (taken.rows, dict(taken.short)) == ((0, 1), {Demand("race=white", "real"): 2})


def test_an_unknown_group_of_a_composition_is_named() -> None:
    with pytest.raises(InvalidInput, match="'S_Asian' is not one of white, black"):
        of_races({"S_Asian": 1})


def test_merged_races_keep_the_counts_and_leave_out_what_is_not_published() -> None:
    merged = [merged_race({"race": race}, "race6")["race6"] for race in values("race")]
    assert Counter(merged) == {
        "white": 1,
        "black": 1,
        "latino_hispanic": 1,
        "asian": 2,
        "indian": 1,
        "middle_eastern": 1,
    }
    four = [merged_race({"race": race}, "race4").get("race4") for race in values("race")]
    assert Counter(four) == {"white": 1, "black": 1, "asian": 2, "indian": 1, None: 2}


def people(count: int, images: int) -> list[dict[str, Any]]:
    """`count` subjects, every third of them dark, each with some images."""
    return [
        row(subject=f"x:{s}", skin_tone_band="dark" if s % 3 == 0 else "light")
        for s in range(count)
        for _ in range(images)
    ]


def test_a_split_by_subject_shares_nobody_and_keeps_the_make_up() -> None:
    rows = people(60, 4)
    parts = by_subject(rows, {"train": 0.8, "test": 0.2}, seed=1, attributes=["skin_tone_band"])
    assert sorted([*parts["train"], *parts["test"]]) == list(range(240))
    who = {part: {rows[i]["subject_id"] for i in positions} for part, positions in parts.items()}
    assert who["train"].isdisjoint(who["test"])
    # 20 dark and 40 light subjects: 16 and 32 in training, 4 and 8 in the test.
    assert {part: len(subjects) for part, subjects in who.items()} == {"train": 48, "test": 12}
    dark = {
        rows[i]["subject_id"] for i in parts["test"] if dict(rows[i]["labels"])["skin_tone_band"] == "dark"
    }
    assert len(dark) == 4
    again = by_subject(rows, {"train": 0.8, "test": 0.2}, seed=1, attributes=["skin_tone_band"])
    assert again == parts
    assert by_subject(rows, {"train": 0.8, "test": 0.2}, seed=2, attributes=["skin_tone_band"]) != parts


def test_a_split_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = people(30, 2)
    turned = list(reversed(rows))
    shares = {"a": 0.5, "b": 0.5}
    one = {rows[i]["subject_id"] for i in by_subject(rows, shares, seed=5)["a"]}
    other = {turned[i]["subject_id"] for i in by_subject(turned, shares, seed=5)["a"]}
    assert one == other


def test_the_closed_set_split_has_every_class_in_training_and_sizes_that_add_up() -> None:
    rows = [*people(10, 5), row(subject="x:alone")]
    parts = by_image(rows, {"train": 0.8, "validation": 0.2}, seed=0)
    assert {rows[i]["subject_id"] for i in parts["train"]} == {r["subject_id"] for r in rows}
    assert sorted([*parts["train"], *parts["validation"]]) == list(range(51))
    with pytest.raises(PreconditionFailed, match="has no subject"):
        by_image([row()], {"a": 0.5, "b": 0.5}, seed=0)


@pytest.mark.parametrize("shares", [{"a": 1.0}, {"a": 0.5, "b": 0.6}, {"a": 1.2, "b": -0.2}])
def test_shares_that_do_not_add_up_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="shares"):
        by_subject(people(4, 1), shares, seed=0)
