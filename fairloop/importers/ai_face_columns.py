"""The columns of an AI-Face CSV under all the names they go by, and which of its two age maps it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairloop.errors import InvalidInput
from fairloop.importers.codes import whole, words_of
from fairloop.standalone.table import Header, Table, listed

ALIASES: Mapping[str, tuple[str, ...]] = {
    "path": ("Image Path", "ImagePath", "image_path", "Path", "path", "img_path"),
    "gender": ("Gender", "gender", "Gender Label", "gender_label", "Predicted Gender", "Ground Truth Gender"),
    "age": ("Age", "age", "Age Group", "age_group", "Predicted Age", "Ground Truth Age"),
    "tone": (
        "Skin Tone", "SkinTone", "skin_tone", "Skin_Tone", "Predicted Skin Tone", "Ground Truth Skin Tone",
    ),
    "race": ("Ground Truth Race", "Predicted Race", "Race", "race"),
    "intersection": ("Intersection", "Intersection Label", "intersection", "intersec_label"),
    "target": ("Target", "target", "Label", "label"),
}  # fmt: skip
"""What a column says → the names it was published or read under (releases 1 and 2, their loaders, S1)."""
KEPT: Mapping[str, tuple[str, ...]] = {
    "specific": ("Specific",),
    "uncertainty_gender": ("Uncertainty Score Gender", "Reliability Score Gender"),
    "uncertainty_age": ("Uncertainty Score Age", "Reliability Score Age"),
    "uncertainty_race": ("Uncertainty Score Race", "Reliability Score Race"),
}
"""Kept as text: the number of the forgery method, and how sure release 1 is of its labels."""
AGE_MAPS: Mapping[str, str] = {"code": "ai_face", "readme": "ai_face_readme"}
"""Name of a published meaning of release 2's ages → its vocabulary."""


@dataclass(frozen=True)
class Columns:
    """The names that the columns have in one file; None for one that it has not."""

    release: int
    path: str
    target: str
    gender: str | None
    age: str | None
    tone: str | None
    race: str | None
    intersection: str | None
    kept: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that are read."""
        named = (
            self.path, self.target, self.gender, self.age, self.tone, self.race, self.intersection,
            *self.kept.values(),
        )  # fmt: skip
        return tuple(dict.fromkeys(name for name in named if name is not None))


def columns_of(header: Header) -> Columns:
    """The columns of a file and its release.

    Raises `InvalidInput` for a file without paths or targets, for one with two
    names of one thing, and for one that is neither release: that of another set.
    """
    found: dict[str, str] = {}
    for meaning, names in (*ALIASES.items(), *KEPT.items()):
        there = [name for name in header.names if name in names]
        if len(there) > 1:
            raise InvalidInput(header.path.name, f"has {' and '.join(there)}, which say the same; leave one")
        if there:
            found[meaning] = there[0]
    for meaning in ("path", "target"):
        if meaning not in found:
            raise InvalidInput(
                header.path.name,
                f"has no column {' or '.join(ALIASES[meaning][:3])}; it has {listed(header.names)}",
            )
    if "tone" in found and "race" in found:
        raise InvalidInput(
            header.path.name, f"has {found['tone']} of release 2 and {found['race']} of release 1"
        )
    if "tone" not in found and "race" not in found:
        raise InvalidInput(
            header.path.name,
            f"has neither skin tones (release 2) nor races (release 1); it has {listed(header.names)}",
        )
    named = set(found.values())
    return Columns(
        release=2 if "tone" in found else 1,
        path=found["path"],
        target=found["target"],
        **{name: found.get(name) for name in ("gender", "age", "tone", "race", "intersection")},
        kept={name: found[name] for name in KEPT if name in found},
        unknown=tuple(name or "(without a name)" for name in header.names if name not in named),
    )


def age_map(table: Table, columns: Columns, given: str) -> tuple[Mapping[str, str], list[str]]:
    """Code → age, and what a person should know of how that was decided.

    2 is only in the map of the loaders (`code`), 5 only in that of the README.
    Raises `InvalidInput` when the codes contradict the map that is given, or each other.
    """
    if given and given not in AGE_MAPS:
        raise InvalidInput("ages", f"{given!r} is not one of {', '.join(AGE_MAPS)}")
    if columns.release == 1:
        if given:
            raise InvalidInput("ages", "is for release 2; release 1 has one map of ages")
        return words_of("ai_face_v1", "age_ai_face"), []
    if columns.age is None:
        return {}, []
    codes = {whole(text) for text in set(table.columns[columns.age]) if text is not None}
    evidence = {name for name, code in (("code", "2"), ("readme", "5")) if code in codes}
    if len(evidence) == 2:
        raise InvalidInput(
            "ages",
            f"column {columns.age} has 2 and 5; no published map has both (code: 0–4; readme: 0, 1, 3–5)",
        )
    told = next(iter(evidence), "")
    if given and told and given != told:
        raise InvalidInput("ages", f"{given} is given, and column {columns.age} has codes of {told} only")
    chosen = given or told or "code"
    notes = []
    if not given:
        why = f"it has {'2' if told == 'code' else '5'}" if told else "its codes are in both maps"
        notes.append(f"column {columns.age}: read by the map `{chosen}`, since {why}; --ages names another")
    return words_of(AGE_MAPS[chosen], "age_ai_face"), notes
