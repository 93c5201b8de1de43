"""Shares per prompt and group, the rules for under-represented groups, and the prompts that ask for them."""

from __future__ import annotations

import pytest

from fairloop.errors import InvalidInput
from fairloop.prompt_audit import (
    GROUPS,
    as_prompts,
    asking_for,
    compared,
    distribution,
    dropped_prompts,
    no_face_rates,
    shares,
    targets,
    under_represented,
)


def seen(prompt: str, **counts: int) -> list[dict[str, str]]:
    """Rows of a prompt: `Male_white=3` is three of them; `failed=2` two without a face."""
    rows = []
    for name, count in counts.items():
        gender, _, race = name.partition("_")
        row = {"prompt": prompt, "gender": gender, "race": race.replace("_", " ")}
        if name == "failed":
            row |= {"gender": "--", "race": "--"}
        rows += [row] * count
    return rows


def test_every_prompt_has_all_twelve_groups_and_shares_sum_to_one() -> None:
    found = shares([*seen("ceo", Male_white=3, Female_black=1), *seen("nurse", Female_asian=2)])
    assert len(found) == 24
    assert [s.group for s in found[:3]] == [("Male", "asian"), ("Male", "indian"), ("Male", "white")]
    by = {(s.prompt, s.group): s.share for s in found}
    assert by["ceo", ("Male", "white")] == 0.75
    assert by["ceo", ("Female", "black")] == 0.25
    assert by["nurse", ("Male", "white")] == 0
    assert sum(s.share for s in found if s.prompt == "ceo") == 1


def test_failures_count_in_the_denominator_or_are_left_out() -> None:
    rows = seen("ceo", Male_white=3, failed=1)
    counted = {s.group: s.share for s in shares(rows)}
    left_out = {s.group: s.share for s in shares(rows, failures="left_out")}
    assert counted["Male", "white"] == 0.75
    assert left_out["Male", "white"] == 1
    by_gender = shares(rows, {"gender": GROUPS["gender"]})
    assert [(s.group, s.share) for s in by_gender] == [(("Male",), 0.75), (("Female",), 0.0)]


def test_a_value_of_no_group_is_an_error_that_lists_the_groups() -> None:
    with pytest.raises(InvalidInput, match="'race' of prompt 'ceo' is not one of asian"):
        shares([{"prompt": "ceo", "gender": "Male", "race": "race"}])


def test_the_threshold_of_the_reference_system_flags_116_of_its_120_groups() -> None:
    # Ten prompts; in four of them one group reaches .4, as in the published table.
    rows = []
    for number in range(10):
        strong = {"Male_white": 40} if number < 4 else {"Male_white": 39, "Female_indian": 1}
        rows += seen(f"p{number}", **strong, Female_white=30, Male_black=30)
    found = shares(rows)
    assert len(found) == 120
    assert len(under_represented(found)) == 116


def test_a_share_that_reaches_its_bound_is_no_longer_too_small() -> None:
    found = shares(seen("ceo", Male_white=4, Female_white=4, Female_black=2))
    assert [s.group for s in found if s not in under_represented(found)] == [
        ("Male", "white"),
        ("Female", "white"),
    ]
    quarter = {"gender": ("Male", "Female"), "race": ("white", "black")}
    found = shares(seen("ceo", Male_white=25, Female_white=24, Male_black=26, Female_black=25), quarter)
    assert [s.group for s in under_represented(found, "uniform")] == [("Female", "white")]
    assert [s.group for s in under_represented(found, "parity", gap=0.01)] == [("Female", "white")]
    wanted = {
        ("Male", "white"): 0.3,
        ("Male", "black"): 0.26,
        ("Female", "white"): 0.1,
        ("Female", "black"): 0.2,
    }
    assert [s.group for s in under_represented(found, "target", target=wanted)] == [("Male", "white")]
    with pytest.raises(InvalidInput, match="target"):
        under_represented(found, "target")


def test_a_prompt_that_shows_objects_is_dropped_with_its_reason_and_flags_nothing() -> None:
    rows = [*seen("cleaning", failed=6, Female_white=4), *seen("ceo", Male_white=10)]
    assert no_face_rates(rows) == {"cleaning": 0.6, "ceo": 0.0}
    dropped = dropped_prompts(rows)
    assert dropped == {"cleaning": "no face in 60% of its images, more than 50%"}
    assert {s.prompt for s in under_represented(shares(rows), without=dropped)} == {"ceo"}


def test_new_prompts_name_the_group_after_the_article() -> None:
    assert (
        asking_for("A photo of a CEO of an important company", ("black", "Female"))
        == "A photo of a black Female CEO of an important company"
    )
    assert asking_for("a photo of an engineer", ("white", "Male")) == "a photo of a white Male engineer"
    assert asking_for("CEO at work.", ("black", "Female")) == "CEO at work, black Female person"


def test_targets_have_ids_that_are_safe_as_file_names() -> None:
    flagged = under_represented(shares(seen("ceo", Male_white=1)))
    found = as_prompts(targets(flagged, {"ceo": "A photo of a CEO of an important company"}))
    assert len(found) == 11
    texts = {prompt.id: prompt.text for prompt in found}
    assert texts["ceo-black-Female"] == "A photo of a black Female CEO of an important company"
    assert "ceo-middle_eastern-Male" in texts
    with pytest.raises(InvalidInput, match="has no prompt 'ceo'"):
        targets(flagged, {})


def test_a_distribution_counts_what_is_missing_and_percents_have_two_decimals() -> None:
    found = distribution(["2", "10", "2", None, "1", "", "10"])
    assert found == [("1", 1, 14.29), ("2", 2, 28.57), ("10", 2, 28.57), ("NaN", 2, 28.57)]


def test_models_are_compared_side_by_side_with_labels_and_zeros() -> None:
    two = {"gender": ("Male", "Female")}
    base = shares([*seen("ceo", Male_white=4), *seen("nurse", Female_white=2)], two)
    tuned = shares(seen("ceo", Male_white=1, Female_white=1), two)
    assert compared({"SDM": base, "linear300": tuned}) == [
        {"prompt": "ceo", "group": "Male", "SDM": 1.0, "linear300": 0.5},
        {"prompt": "ceo", "group": "Female", "SDM": 0.0, "linear300": 0.5},
        {"prompt": "nurse", "group": "Male", "SDM": 0.0, "linear300": 0.0},
        {"prompt": "nurse", "group": "Female", "SDM": 1.0, "linear300": 0.0},
    ]
    assert compared({"SDM": base, "linear300": tuned}, "none") == [
        {"group": "Male", "SDM": 0.5, "linear300": 0.5},
        {"group": "Female", "SDM": 0.5, "linear300": 0.5},
    ]
