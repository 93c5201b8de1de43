"""Attributes, cells, and what every source calls them (orders from the published sources)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.taxonomy import ATTRIBUTES, VOCABULARIES, vocabulary

# FairFace's predict.py (race7 logits) and the label order of HuggingFaceM4/FairFace.
MODEL_RACES = [
    ("White", "white"),
    ("Black", "black"),
    ("Latino_Hispanic", "latino_hispanic"),
    ("East Asian", "east_asian"),
    ("Southeast Asian", "southeast_asian"),
    ("Indian", "indian"),
    ("Middle Eastern", "middle_eastern"),
]
HUB_RACES = [
    ("East Asian", "east_asian"),
    ("Indian", "indian"),
    ("Black", "black"),
    ("White", "white"),
    ("Middle Eastern", "middle_eastern"),
    ("Latino_Hispanic", "latino_hispanic"),
    ("Southeast Asian", "southeast_asian"),
]

terms = st.fixed_dictionaries(
    {},
    optional={attribute: st.sampled_from(values) for attribute, values in ATTRIBUTES.items()},
)


@pytest.mark.parametrize(
    ("source", "expected"), [("fairface_model", MODEL_RACES), ("fairface_hub", HUB_RACES)]
)
def test_fairface_has_two_race_orders(source: str, expected: list[tuple[str, str]]) -> None:
    races = vocabulary(source, "race")
    assert [races.by_index(i) for i in range(7)] == [value for _, value in expected]
    assert [races.by_label(label) for label, _ in expected] == [value for _, value in expected]


def test_index_0_is_east_asian_in_the_hub_and_white_in_the_logits() -> None:
    assert vocabulary("fairface_hub", "race").by_index(0) == "east_asian"
    assert vocabulary("fairface_model", "race").by_index(0) == "white"


def test_gender_orders_flip_between_sources() -> None:
    first = {
        source: v.by_index(0) for (source, attribute), v in VOCABULARIES.items() if attribute == "gender"
    }
    assert first["fairface_model"] == "male"
    assert first["ai_face"] == "female"  # 1 is male
    assert first["clip_s1"] == "male"  # the inverse of AI-Face: 0 is man
    assert first["face_api"] == "male"
    assert vocabulary("ai_face", "gender").by_label("1") == "male"
    assert vocabulary("fairface_model", "gender").by_label("F") == "female"


def test_the_last_fairface_age_has_two_spellings() -> None:
    ages = vocabulary("fairface_model", "age")
    assert ages.by_label("more than 70") == ages.by_label("70+") == "70_plus"
    labels = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+"]
    assert [ages.by_label(label) for label in labels] == [ages.by_index(i) for i in range(9)]
    assert [ages.by_index(i) for i in range(9)] == list(ATTRIBUTES["age"])


@pytest.mark.parametrize("found", VOCABULARIES.values(), ids=lambda v: f"{v.source}-{v.attribute}")
def test_every_vocabulary_names_each_canonical_value_once(found: taxonomy.Vocabulary) -> None:
    if found.attribute in ATTRIBUTES:
        assert sorted(found.values) == sorted(ATTRIBUTES[found.attribute])
    assert len(found.labels) == len(set(found.labels)) == len(found.values)
    assert set((found.aliases or {}).values()) <= set(found.values)


def test_canonical_values_are_lower_snake_case() -> None:
    for attribute, values in ATTRIBUTES.items():
        assert re.fullmatch("[a-z][a-z0-9_]*", attribute)
        assert all(re.fullmatch("[a-z0-9_]+", value) for value in values)
    assert ATTRIBUTES["skin_tone"] == ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")


def test_nothing_is_translated_by_guessing() -> None:
    with pytest.raises(InvalidInput, match=r"race: 'asian' is not a label of fairface_model; it has White"):
        vocabulary("fairface_model", "race").by_label("asian")
    with pytest.raises(InvalidInput, match="White"):
        vocabulary("fairface_model", "race").by_label("white")
    for index in (-1, 7):
        with pytest.raises(InvalidInput, match=f"race: index {index} is outside 0–6 of fairface_hub"):
            vocabulary("fairface_hub", "race").by_index(index)
    with pytest.raises(
        InvalidInput, match="source: fairface:race has no vocabulary; there are fairface_model"
    ):
        vocabulary("fairface", "race")
    with pytest.raises(InvalidInput, match="attribute: 'height' is not known; there are gender"):
        taxonomy.values("height")


def test_tone_bands_are_1_to_3_and_4_to_6_and_7_to_10() -> None:
    bands = [taxonomy.tone_band(tone) for tone in range(1, 11)]
    assert bands == ["light"] * 3 + ["medium"] * 3 + ["dark"] * 4
    for tone in (0, 11, -1):
        with pytest.raises(InvalidInput, match=f"skin_tone: {tone} is outside 1–10"):
            taxonomy.tone_band(tone)


@pytest.mark.parametrize("first", range(9))
def test_an_age_falls_into_the_bin_that_it_names(first: int) -> None:
    low, high = [(0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 120)][first]
    expected = ATTRIBUTES["age"][first]
    assert expected == ("70_plus" if low == 70 else f"{low}_{high}")
    assert taxonomy.age_bin(low) == taxonomy.age_bin(high) == taxonomy.age_bin(high + 0.99) == expected


@pytest.mark.parametrize("age", [-0.1, float("nan"), float("-inf")])
def test_what_is_no_age_is_refused(age: float) -> None:
    with pytest.raises(InvalidInput, match=r"age: .* is not an age"):
        taxonomy.age_bin(age)


@given(terms)
def test_a_cell_comes_back_from_its_text(cell: dict[str, str]) -> None:
    text = taxonomy.format_cell(cell)
    assert taxonomy.parse_cell(text) == cell
    attributes = [part.split("=")[0] for part in text.split(",") if part]
    assert attributes == sorted(attributes)


@given(terms.filter(lambda cell: len(cell) > 1))
def test_the_order_of_terms_does_not_matter_to_the_text_and_only_one_text_is_read(
    cell: dict[str, str],
) -> None:
    backwards = dict(reversed(list(cell.items())))
    assert taxonomy.format_cell(backwards) == taxonomy.format_cell(cell)
    unsorted = ",".join(reversed(taxonomy.format_cell(cell).split(",")))
    with pytest.raises(InvalidInput, match="canonical order"):
        taxonomy.parse_cell(unsorted)


def test_the_text_form_of_the_design() -> None:
    assert (
        taxonomy.format_cell({"skin_tone_band": "dark", "gender": "female"})
        == "gender=female,skin_tone_band=dark"
    )
    assert taxonomy.format_cell({}) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gender", "not attribute=value"),
        ("gender=", "not attribute=value"),
        ("gender=female,", "not attribute=value"),
        ("gender=female, race=white", "not attribute=value"),
        ("gender=female\n", "not attribute=value"),
        ("Gender=female", "not attribute=value"),
        ("gender=woman", "gender=woman is not known; gender has female, male"),
        ("height=tall", "attribute 'height' is not known"),
        ("gender=female,gender=male", "stands twice"),
        ("skin_tone_band=7", "has light, medium, dark"),
    ],
)
def test_what_is_no_cell_is_refused_with_the_field_and_what_is_allowed(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        taxonomy.parse_cell(text, "quotas[2].cell")
    assert caught.value.violations[0].field == "quotas[2].cell"
    assert reason in caught.value.violations[0].description


def test_cells_are_the_product_in_canonical_order() -> None:
    assert taxonomy.cells(["skin_tone_band", "gender"]) == [
        "gender=female,skin_tone_band=light",
        "gender=female,skin_tone_band=medium",
        "gender=female,skin_tone_band=dark",
        "gender=male,skin_tone_band=light",
        "gender=male,skin_tone_band=medium",
        "gender=male,skin_tone_band=dark",
    ]
    assert taxonomy.cells([]) == [""]


@settings(deadline=None)
@given(st.sets(st.sampled_from(sorted(ATTRIBUTES)), max_size=3))
def test_every_cell_is_there_once_and_can_be_read(attributes: set[str]) -> None:
    found = taxonomy.cells(sorted(attributes))
    size = 1
    for attribute in attributes:
        size *= len(ATTRIBUTES[attribute])
    assert len(found) == len(set(found)) == size
    assert all(set(taxonomy.parse_cell(cell)) == attributes for cell in found)


def test_cells_of_wrong_attributes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'height' is not known"):
        taxonomy.cells(["height"])
    with pytest.raises(InvalidInput, match="twice"):
        taxonomy.cells(["gender", "gender"])
