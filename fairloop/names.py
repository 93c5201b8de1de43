"""Resource names (AIP-122). A name is also the key prefix of what it names."""

from __future__ import annotations

import re

from fairloop.errors import InvalidInput

SEGMENT = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
HEX16 = r"[0-9a-f]{16}"

_PATTERNS = {
    "dataset": (rf"datasets/{SEGMENT}", "datasets/{name}"),
    "dataset version": (rf"datasets/{SEGMENT}/versions/{HEX16}", "datasets/{name}/versions/{16 hex}"),
    "model": (rf"models/{SEGMENT}", "models/{name}"),
    "model version": (rf"models/{SEGMENT}/versions/{HEX16}", "models/{name}/versions/{16 hex}"),
    "annotations": (rf"annotations/{HEX16}", "annotations/{16 hex}"),
    "embeddings": (rf"embeddings/{HEX16}", "embeddings/{16 hex}"),
    "predictions": (rf"predictions/{HEX16}", "predictions/{16 hex}"),
    "activations": (rf"activations/{HEX16}", "activations/{16 hex}"),
    "report": (rf"reports/{HEX16}", "reports/{16 hex}"),
    "calibration": (rf"calibrations/{HEX16}", "calibrations/{16 hex}"),
    "operation": (r"operations/[a-z]+-[a-z2-7]{26}", "operations/{service}-{26 base32}"),
}
_COMPILED = {kind: (re.compile(pattern), form) for kind, (pattern, form) in _PATTERNS.items()}


def check(kind: str, name: str, field: str) -> str:
    """The name itself, when it is one of this kind; `InvalidInput` naming the field otherwise.

    Kinds: dataset, dataset version, model, model version, annotations,
    embeddings, predictions, activations, report, calibration, operation.
    """
    pattern, form = _COMPILED[kind]
    if ".." in name or not pattern.fullmatch(name):
        hint = ""
        if kind.endswith(" version") and _COMPILED[kind.removesuffix(" version")][0].fullmatch(name):
            hint = "; it lacks its version: a client resolves a name without version once, before it asks"
        article = "" if kind.endswith("s") else "an " if kind[0] in "aeiou" else "a "
        raise InvalidInput(
            field, f"{name!r} is not the name of {article}{kind}: {form} in a–z, 0–9, '.', '_' and '-'{hint}"
        )
    return name


STORED = (
    "dataset version",
    "model version",
    "annotations",
    "embeddings",
    "predictions",
    "activations",
    "report",
    "calibration",
)
"""Kinds of what has a manifest."""


def kind_of(name: str) -> str | None:
    """The kind of a resource that has a manifest; None when the text is the name of none."""
    if ".." in name:
        return None
    return next((kind for kind in STORED if _COMPILED[kind][0].fullmatch(name)), None)


def collection(name: str) -> str:
    """`datasets/x` of `datasets/x/versions/y`."""
    return name.rsplit("/versions/", 1)[0]
