"""Resource names: what is one, and what a wrong one is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop import names
from fairloop.errors import InvalidInput
from fairloop.store import check_key

VERSION = "0123456789abcdef"
GOOD = {
    "dataset": ["datasets/x", "datasets/fairface-0.25", "datasets/a_b.c-d", "datasets/" + "a" * 63],
    "dataset version": [f"datasets/x/versions/{VERSION}"],
    "model": ["models/dcgan-faces", "models/face-api-age-gender.json"],
    "model version": [f"models/dcgan-faces/versions/{VERSION}"],
    "annotations": [f"annotations/{VERSION}"],
    "embeddings": [f"embeddings/{VERSION}"],
    "predictions": [f"predictions/{VERSION}"],
    "report": [f"reports/{VERSION}"],
    "calibration": [f"calibrations/{VERSION}"],
    "operation": ["operations/generator-" + "a2" * 13],
}
ARTICLES = {"operation": "an ", "annotations": "", "embeddings": "", "predictions": ""}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, found in GOOD.items() for name in found])
def test_a_name_is_returned_as_it_is_and_is_a_key_prefix(kind: str, name: str) -> None:
    assert names.check(kind, name, "f") == name
    assert check_key(f"{name}/manifest.json")


@pytest.mark.parametrize("kind", sorted(GOOD))
@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "/",
        "..",
        "{}/",
        "/{}",
        "{}\n",
        " {}",
        "{}/..",
        "../{}",
        "{}/../../models/x",
        "s3://bucket/{}",
        "file:///{}",
        "{}\x00",
        "{}é",
        "{}/versions/",
        "{}//x",
        "./{}",
    ],
)
def test_what_is_not_a_name_is_refused_with_the_field(kind: str, wrong: str) -> None:
    name = wrong.format(GOOD[kind][0])
    with pytest.raises(InvalidInput) as caught:
        names.check(kind, name, "the_field")
    (violation,) = caught.value.violations
    assert violation.field == "the_field"
    assert repr(name) in violation.description
    assert f"is not the name of {ARTICLES.get(kind, 'a ')}{kind}: " in violation.description


@pytest.mark.parametrize(
    "name",
    [
        "datasets/A",
        "datasets/-a",
        "datasets/a-",
        "datasets/.a",
        "datasets/a..b",
        "datasets/" + "a" * 64,
        "datasets/a/b",
        "datasets/ä",
    ],
)
def test_segments_are_short_and_lower_case_and_never_climb(name: str) -> None:
    with pytest.raises(InvalidInput):
        names.check("dataset", name, "dataset")


@pytest.mark.parametrize(
    "version", ["0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "latest", ""]
)
def test_a_version_is_sixteen_hex_digits(version: str) -> None:
    with pytest.raises(InvalidInput, match="16 hex"):
        names.check("model version", f"models/x/versions/{version}", "model")


def test_a_name_without_version_is_told_what_it_lacks() -> None:
    with pytest.raises(InvalidInput, match="lacks its version"):
        names.check("model version", "models/dcgan-faces", "model")
    with pytest.raises(InvalidInput) as caught:
        names.check("model version", "datasets/x", "model")
    assert "lacks" not in str(caught.value)


@given(st.text("a0.._-/Aé\n", max_size=8))
def test_whatever_passes_as_a_name_is_a_safe_key(segment: str) -> None:
    name = f"datasets/{segment}"
    try:
        names.check("dataset", name, "f")
    except InvalidInput:
        return
    assert check_key(name)
    assert ".." not in name


def test_the_collection_of_a_version_is_its_name_without_it() -> None:
    assert names.collection(f"models/x/versions/{VERSION}") == "models/x"
    assert names.collection("models/x") == "models/x"
