"""The catalogue of published sets: what it must hold, where sets come from, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairloop import models
from fairloop.errors import InvalidInput, NotFound
from fairloop.manifest import Terms
from fairloop.provenance import published

IMPORTED = (
    "fairface",
    "ai-face",
    "fg-net",
    "itwcc",
    "rfw",
    "bfw",
    "lfw",
    "calfw",
    "cplfw",
    "agedb",
    "cfp",
    "utkface",
)
"""The sets whose layouts are imported."""

ENTRY = """
[sets.{name}]
title = "A set"
licence = "CC BY 4.0"
commercial = "{commercial}"
derivatives = "yes"
redistribution = "yes"
consent = "unknown"
purpose = "a test"
url = "https://example.org/"
withdrawn = false
note = "made up"
"""


def write(folder: Path, text: str, schema: str = published.SCHEMA) -> Path:
    path = folder / "published.toml"
    path.write_text(f'schema = "{schema}"\n{text}')
    return path


def test_every_set_that_can_be_imported_is_in_the_catalogue_with_its_terms() -> None:
    assert set(IMPORTED) <= set(published.catalogue())
    assert published.entry("fairface").terms == Terms(
        "CC BY 4.0",
        "yes",
        "yes",
        "yes",
        "no",
        "measuring and mitigating bias in face attribute models",
    )
    ai_face = published.entry("ai-face")
    assert (ai_face.licence, ai_face.commercial, ai_face.derivatives) == ("CC BY-NC-ND 4.0", "no", "no")


def test_ms_celeb_1m_and_what_was_cleaned_out_of_it_are_withdrawn() -> None:
    kin = {n for n, one in published.catalogue().items() if "ms-celeb-1m" in published.origins([n])}
    assert {"ms-celeb-1m", "ms1mv2", "ms1mv3", "glint360k", "rfw"} <= kin
    assert all(published.entry(name).withdrawn for name in kin - {"rfw"})
    assert {"megaface", "diveface", "vggface2", "diversity-in-faces"} <= {
        name for name, one in published.catalogue().items() if one.withdrawn
    }


def test_what_a_set_comes_from_is_found_with_the_way_to_it() -> None:
    assert published.origins(["rfw"]) == {"rfw": ("rfw",), "ms-celeb-1m": ("rfw", "ms-celeb-1m")}
    with pytest.raises(NotFound, match="no-such-set"):
        published.origins(["no-such-set"])


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("rfw", "ms1mv3", "ms-celeb-1m"),
        ("ms1mv3", "rfw", "ms-celeb-1m"),
        ("calfw", "cplfw", "lfw"),
        ("calfw", "lfw", "lfw"),
        ("bfw", "vggface2", "vggface2"),
        ("rfw", "fairface", None),
        ("rfw", "casia-webface", None),
        ("fairface", "fairface", None),
    ],
)
def test_two_sets_overlap_when_they_share_an_origin_and_are_not_one_set(
    one: str, other: str, shared: str | None
) -> None:
    assert published.shared_origin(one, other) == shared


def test_the_double_labelled_subjects_of_rfw_are_found_by_name_and_by_their_labels() -> None:
    assert len(published.entry("rfw").double_labelled) == 12
    subjects = ["rfw:m.023915", "rfw:m.023915", "rfw:m.1", "rfw:m.2", "rfw:m.2", None, "rfw:m.3"]
    races = ["indian", "indian", "black", "white", "black", "white", None]
    assert published.double_labelled("rfw", subjects, races) == ("rfw:m.023915", "rfw:m.2")
    assert published.double_labelled("fairface", ["a:m.023915"], ["black"]) == ()


def test_what_weights_were_trained_on_is_in_the_catalogue() -> None:
    named = {one for entry in models.catalogue().values() for one in entry.trained_on}
    assert named
    assert named <= set(published.catalogue())


def test_a_file_is_read_and_a_wrong_one_is_refused_by_set_and_field(tmp_path: Path) -> None:
    good = published.read(write(tmp_path, ENTRY.format(name="a", commercial="yes")))
    assert good["a"].title == "A set"
    with pytest.raises(InvalidInput, match=r"sets\.a\.commercial.*'yes', 'no' or 'unknown'"):
        published.read(write(tmp_path, ENTRY.format(name="a", commercial="maybe")))
    with pytest.raises(InvalidInput, match=r"sets\.a\.colour"):
        published.read(write(tmp_path, ENTRY.format(name="a", commercial="yes") + 'colour = "red"\n'))
    with pytest.raises(InvalidInput, match=r"sets\.a\.derived_from: 'b' is no set"):
        published.read(write(tmp_path, ENTRY.format(name="a", commercial="yes") + 'derived_from = ["b"]\n'))
    with pytest.raises(InvalidInput, match=r"schema: is 'fairloop.published/9'"):
        published.read(write(tmp_path, "", "fairloop.published/9"))
    with pytest.raises(InvalidInput, match="is not TOML"):
        published.read(write(tmp_path, "[sets"))
