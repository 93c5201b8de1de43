"""Vocabularies and cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop import taxonomy
from fairloop.errors import InvalidInput

terms = st.dictionaries(st.sampled_from(sorted(taxonomy.ATTRIBUTES)), st.integers(0, 100)).map(
    lambda found: {a: taxonomy.values(a)[i % len(taxonomy.values(a))] for a, i in found.items()}
)


def test_fairface_has_two_orders_of_race_and_they_are_told_apart() -> None:
    hub, model = taxonomy.vocabulary("fairface_hub", "race"), taxonomy.vocabulary("fairface_model", "race")
    assert (hub.by_index(0), model.by_index(0)) == ("east_asian", "white")
    assert sorted(hub.values) == sorted(model.values)
    assert all(hub.by_label(label) == model.by_label(label) for label in hub.labels)


def test_both_spellings_of_the_oldest_are_one_bin() -> None:
    ages = taxonomy.vocabulary("fairface_model", "age")
    assert ages.by_label("70+") == ages.by_label("more than 70") == "70_plus"


def test_gender_codes_flip_between_sources() -> None:
    assert taxonomy.vocabulary("fairface_model", "gender").by_index(0) == "male"
    assert taxonomy.vocabulary("face_api", "gender").by_index(0) == "male"
    assert taxonomy.vocabulary("insightface_genderage", "gender").by_index(0) == "female"
    assert taxonomy.vocabulary("ai_face", "gender").by_label("1") == "male"
    assert taxonomy.vocabulary("clip_s1", "gender").by_index(0) == "male"
    with pytest.raises(InvalidInput, match="has no vocabulary"):
        taxonomy.vocabulary("nobody", "gender")


@given(terms)
def test_a_cell_survives_its_text(found: dict[str, str]) -> None:
    assert taxonomy.parse_cell(taxonomy.format_cell(found)) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gender=woman", "gender has female, male"),
        ("height=tall", "attribute 'height' is not known"),
        ("skin_tone_band=dark,gender=male", "canonical order"),
        ("gender", "is not attribute=value"),
        ("gender=male,gender=male", "stands twice"),
    ],
)
def test_a_wrong_cell_says_what_would_be_right(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        taxonomy.parse_cell(text)


def test_bands_are_monk_tones_1_to_3_4_to_6_and_7_to_10() -> None:
    bands = [taxonomy.tone_band(tone) for tone in range(1, 11)]
    assert bands == ["light"] * 3 + ["medium"] * 3 + ["dark"] * 4
    with pytest.raises(InvalidInput, match="1–10"):
        taxonomy.tone_band(11)


def test_ages_fall_into_the_nine_bins() -> None:
    ages = (0, 2.9, 3, 9, 10, 19, 20, 69, 70, 101)
    found = [taxonomy.age_bin(age) for age in ages]
    assert found == ["0_2", "0_2", "3_9", "3_9", "10_19", "10_19", "20_29", "60_69", "70_plus", "70_plus"]
