"""Captions from labels by a template: `face of {race} person`.

Words stand in the template as `{attribute}`. Labels are written as people
write them (`East Asian`, `Latino Hispanic`); the compatibility mode writes the
strings of the first reference system to the letter, its double space included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.preparation.derived import Change

TEMPLATE = "face of {race} person"
_WORD = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_S0 = {"latino_hispanic": "Latino Hispanic "}
"""S0 replaces the underscore by a space and leaves a second one after it."""


def spoken(value: str) -> str:
    """A canonical value as a caption says it: `east_asian` → `East Asian`, `female` → `female`."""
    words = value.split("_")
    return (
        " ".join(word.capitalize() for word in words)
        if value in taxonomy.ATTRIBUTES["race"]
        else " ".join(words)
    )


def caption(template: str, labels: Mapping[str, str], compatible: bool = False) -> str:
    """The caption of one image; `InvalidInput` naming the label that it lacks."""

    def word(found: re.Match[str]) -> str:
        name = found[1]
        if name not in labels:
            raise InvalidInput("template", f"the image has no label {name}, which {template!r} names")
        value = labels[name]
        return _S0.get(value, spoken(value)) if compatible else spoken(value)

    return _WORD.sub(word, template)


def check_template(template: str) -> list[str]:
    """The labels that a template names; `InvalidInput` when it names none, or has a stray brace."""
    names = _WORD.findall(template)
    if not names or "{" in _WORD.sub("", template) or "}" in _WORD.sub("", template):
        raise InvalidInput("template", f"{template!r} names no label such as {{race}}, or has a stray brace")
    return names


def captioned(template: str = TEMPLATE, compatible: bool = False) -> Change:
    """A change that gives every image its caption, as the label `text`."""
    check_template(template)

    def change(row: Mapping[str, Any]) -> Mapping[str, Any]:
        labels = dict(row["labels"] or ())
        return {"labels": {**labels, "text": caption(template, labels, compatible)}}

    return change
