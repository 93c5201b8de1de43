"""The annotators there are: one file each, and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fairloop.errors import InvalidInput
from services.annotator.face import Annotator


@dataclass(frozen=True)
class Entry:
    """How an annotator is found and what it does.

    `source` is module:class; the module is imported when the annotator is
    loaded, and the class has a classmethod `load()` that fetches its own
    weights. `separable`: its `load` takes the attributes that are wanted, and
    leaves out the networks of the others. `weights` are the entries of the
    catalogue of models that it fetches: their terms are inherited.
    """

    attributes: tuple[str, ...]
    source: str
    description: str
    separable: bool = False
    weights: tuple[str, ...] = ()


DETECTOR_WEIGHTS = ("dlib-landmarks-5",)
"""Catalogue entries that every annotator depends on."""

ANNOTATORS: Mapping[str, Entry] = {
    "age_and_gender": Entry(
        ("gender", "age"),
        "services.annotator.age_gender:AgeAndGender",
        "Perceived gender and age by two small residual networks (dlib, Cydral; ONNX, CC0).",
        separable=True,
        weights=("age-onnx", "gender-onnx"),
    ),
    "skin_tone": Entry(
        ("skin_tone_band",),
        "services.annotator.skin_tone:ApparentSkinTone",
        "Apparent skin tone: how light skin pixels are after the estimated illumination is divided out.",
    ),
    "ita": Entry(
        ("skin_tone_band",),
        "services.annotator.ita:ItaTone",
        "Skin-tone band by the individual typology angle, a rule independent of skin_tone.",
    ),
    "face_api": Entry(
        ("gender",),
        "services.annotator.face_api:FaceApiGender",
        "Perceived gender by the MIT-licensed age-gender network of @vladmandic/face-api.",
        weights=("face-api-age-gender.json", "face-api-age-gender.bin"),
    ),
}
"""Every annotator by the name that requests, tables and label sources use."""


def entry(name: str) -> Entry:
    """The line of an annotator; `InvalidInput` names the ones there are."""
    try:
        return ANNOTATORS[name]
    except KeyError:
        raise InvalidInput(
            "annotators", f"{name!r} is not known; there are {', '.join(ANNOTATORS)}"
        ) from None


def weights(name: str) -> tuple[str, ...]:
    """Catalogue entries behind an annotator's answers, the detector's included."""
    line = ANNOTATORS.get(name)
    return tuple(dict.fromkeys((*DETECTOR_WEIGHTS, *(line.weights if line else ()))))


def load(names: Sequence[str], attributes: Collection[str] | None = None) -> list[Annotator]:
    """The annotators with these names, in order, their weights fetched and loaded.

    With `attributes`, separable annotators load only what these need; an
    annotator with none of them is an error.

    Raises `InvalidInput` for an unknown name, a name that stands twice, or an
    annotator without any of `attributes`, before anything is loaded; what
    `fairloop.models.fetch` raises passes through.
    """
    entries = [(name, entry(name)) for name in names]
    for name, line in entries:
        if names.count(name) > 1:
            raise InvalidInput("annotators", f"{name} stands twice in {', '.join(names)}")
        if attributes is not None and not set(attributes) & set(line.attributes):
            raise InvalidInput(
                "attributes",
                f"{name} has {', '.join(line.attributes)}, none of {', '.join(sorted(attributes))}",
            )
    return [_load(line, attributes) for _, line in entries]


def _load(line: Entry, attributes: Collection[str] | None) -> Annotator:
    module, _, name = line.source.partition(":")
    kind = getattr(importlib.import_module(module), name)
    if line.separable and attributes is not None:
        loaded: Annotator = kind.load([attribute for attribute in line.attributes if attribute in attributes])
    else:
        loaded = kind.load()
    return loaded
