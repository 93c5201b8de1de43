"""`docs/licences.md`, written from the two catalogues and from what installed packages say of themselves.

    python -m fairloop.provenance.licences            write it
    python -m fairloop.provenance.licences --check    fail when it is not what the catalogues give

Packages are those that `constraints.txt` pins. Of one that is not installed here
in its pinned version the licence that the page has is kept.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from fairloop import diffusion_catalogue, models
from fairloop.errors import NotFound
from fairloop.provenance import published

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = Path("docs/licences.md")
PINS = Path("constraints.txt")
NOT_INSTALLED = "not installed where this was written"
NOT_STATED = "not stated in its metadata"
QUESTIONS = ("licence", "commercial", "derivatives", "redistribution", "consent")
LONGEST = 60
"""Characters of a licence field; some packages put the whole text there."""

_ROW = re.compile(r"\| ([^|]+) \| ([^|]+) \| ([^|]+) \|")

INTRO = """# Licences

Written by `python -m fairloop.provenance.licences`; do not edit. It says what `models.toml`,
`fairloop/provenance/published.toml` and the packages' own metadata say, and is no legal advice: the terms of
the publisher count. `unknown` means that nobody stated it or that it could not be confirmed. How these terms
are enforced: [provenance and terms](provenance-and-terms.md).
"""


def page(pins: Mapping[str, str], before: Mapping[tuple[str, str], str]) -> str:
    """The page. `before` holds, by package and version, licences that are kept where one is not installed."""
    return "\n".join([INTRO, *_weights(), *_bases(), *_sets(), *_packages(pins, before)])


def read_pins(path: Path) -> dict[str, str]:
    """Package to version of a constraints file."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, found, version = line.partition("==")
        if found and not line.startswith("#"):
            pins[name.strip()] = version.strip()
    return pins


def read_packages(text: str) -> dict[tuple[str, str], str]:
    """Licences by package and version that a page holds."""
    _, _, rest = text.partition("## Packages")
    return {(m[1], m[2]): m[3] for line in rest.splitlines() if (m := _ROW.fullmatch(line))}


def package_licence(name: str, version: str) -> str | None:
    """What an installed package says of itself; None when it is not installed in this version."""
    try:
        found: Any = metadata.metadata(name)  # a Message, whose type does not say so
    except metadata.PackageNotFoundError:
        return None
    if found["Version"] != version:
        return None
    stated = found.get("License-Expression") or ""
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in found.get_all("Classifier") or ()
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    field = " ".join((found.get("License") or "").split())
    if not stated and field and len(field) <= LONGEST and field.upper() != "UNKNOWN":
        stated = field
    return _cell(stated or " or ".join(classifiers) or NOT_STATED)


def _weights() -> list[str]:
    rows = []
    for entry in models.catalogue().values():
        t = entry.terms
        rows.append(
            (
                entry.name,
                t.licence,
                t.commercial,
                t.derivatives,
                t.redistribution,
                t.consent,
                ", ".join(entry.trained_on) or "–",
                f"{entry.origin}{f'; {t.note}' if t.note else ''}",
            )
        )
    return ["## Weights", "", *_table(("weights", *QUESTIONS, "trained on", "origin"), rows), ""]


def _bases() -> list[str]:
    rows = []
    for one in diffusion_catalogue.bases().values():
        t = one.terms
        licence = (t.licence, t.commercial, t.derivatives, t.redistribution, t.consent)
        rows.append((one.name, *licence, f"{one.origin}{f'; {t.note}' if t.note else ''}"))
    return ["## Base models of diffusion", "", *_table(("model", *QUESTIONS, "origin"), rows), ""]


def _sets() -> list[str]:
    rows = []
    for one in published.catalogue().values():
        title = f"[{one.title}]({one.url})" if one.url else one.title
        rows.append(
            (
                one.name,
                title,
                one.licence,
                one.commercial,
                one.derivatives,
                one.redistribution,
                one.consent,
                "yes" if one.withdrawn else "no",
                one.note,
            )
        )
    return [
        "## Published data sets",
        "",
        "None of them comes with Fairloop or is fetched by it.",
        "",
        *_table(("name", "set", *QUESTIONS, "withdrawn", "note"), rows),
        "",
    ]


def _packages(pins: Mapping[str, str], before: Mapping[tuple[str, str], str]) -> list[str]:
    rows = []
    for name, version in sorted(pins.items(), key=lambda pin: pin[0].lower()):
        licence = package_licence(name, version) or before.get((name, version), NOT_INSTALLED)
        rows.append((name, version, licence))
    return [
        "## Packages",
        "",
        "What `make` installs, by the metadata of each package. Fairloop itself is under Apache-2.0.",
        "",
        *_table(("package", "version", "licence"), rows),
        "",
    ]


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    return [*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)]


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def main() -> None:
    """Writes the page, or compares it."""
    parser = argparse.ArgumentParser(description="Writes docs/licences.md from the catalogues and packages.")
    parser.add_argument("--check", action="store_true", help="compare with the page, write nothing")
    arguments = parser.parse_args()
    target = ROOT / PAGE
    if not (ROOT / PINS).is_file():
        raise NotFound(f"{ROOT / PINS} does not exist: this is for a checkout")
    before = target.read_text(encoding="utf-8") if target.is_file() else ""
    text = page(read_pins(ROOT / PINS), read_packages(before))
    if not arguments.check:
        target.write_text(text, encoding="utf-8")
    elif text != before:
        sys.exit(f"{PAGE} is not what the catalogues give; run `python -m fairloop.provenance.licences`")


if __name__ == "__main__":
    main()
