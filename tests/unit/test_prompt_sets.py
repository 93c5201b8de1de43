"""The sets of prompts of the reference systems: exact texts and names of files."""

from __future__ import annotations

from collections import Counter

import pytest

from fairloop.errors import InvalidInput
from fairloop.prompt_sets import playground, profiles, races, sweep, table
from fairloop.prompts import Prompt


def test_the_set_per_race_has_the_seven_prompts_to_the_letter_and_its_file_names() -> None:
    items = races(750)
    assert [item.text for item in items] == [
        "detailed face of East Asian person",
        "detailed face of Indian person",
        "detailed face of Black person",
        "detailed face of White person",
        "detailed face of Middle Eastern person",
        "detailed face of Latino_Hispanic person",
        "detailed face of Southeast Asian person",
    ]
    assert [str(item.path(0)) for item in items[:2]] == ["east_asian/east_asian_0.jpg", "indian/indian_0.jpg"]
    assert str(items[5].path(749)) == "latino_hispanic/latino_hispanic_749.jpg"
    assert [item.cell for item in items][-2:] == ["race=latino_hispanic", "race=southeast_asian"]
    assert {item.images for item in items} == {750}


def test_the_sweep_tries_five_qualities_on_every_race() -> None:
    items = sweep(3)
    assert len(items) == len({item.id for item in items}) == 35
    assert Counter(item.text.split(" face ")[0] for item in items) == {
        "high resolution": 7,
        "high quality": 7,
        "realistic": 7,
        "highly detailed symmetric": 7,
        "detailed": 7,
    }
    assert str(items[3].path(2)) == "east_asian/highly_detailed_symmetric/2.png"


def test_a_table_of_prompts_names_files_by_id() -> None:
    (item,) = table([Prompt("ceo", "A photo of a CEO of an important company")], 100)
    assert item.text == "A photo of a CEO of an important company"
    assert [str(item.path(n)) for n in (0, 99)] == ["ceo_0.png", "ceo_99.png"]
    (tuned,) = profiles([Prompt("ceo", "A photo of a CEO of an important company")], 100)
    assert (tuned.text, tuned.images) == (item.text, 100)
    assert [str(tuned.path(n)) for n in (0, 99)] == ["ceo/profile_0.png", "ceo/profile_99.png"]


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/etc/x", "..", "", ".hidden", "a\\b", "x\0y", "{n}", "a" * 101]
)
def test_a_name_that_is_a_path_is_refused_by_the_playground(name: str) -> None:
    with pytest.raises(InvalidInput, match="is no plain name of a file"):
        playground("a photo of a person", name, 1)


def test_the_playground_numbers_its_files() -> None:
    assert str(playground("a photo", "my face", 2).path(1)) == "my face_1.jpg"
