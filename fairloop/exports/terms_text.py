"""The terms that go with exported images, in words, and what they were exported for."""

from __future__ import annotations

from collections.abc import Sequence

from fairloop.cards import Facts
from fairloop.provenance.terms import Use
from fairloop.selection import Selection

TERMS_FILE = "TERMS.md"
CARD_FILE = "CARD.md"
QUESTIONS = ("commercial", "derivatives", "redistribution", "consent")


def terms_text(facts: Facts, use: Use, selection: Selection, images: int, notes: Sequence[str]) -> str:
    """`TERMS.md`: every licence in the ancestry, what each allows, the policy and what was acknowledged."""
    found = facts.manifest
    part = ", ".join(text for text in (selection.cell, selection.split, selection.source) if text)
    lines = [
        "# Terms",
        "",
        f"{images:,} images of `{found.name}`" + (f", selected by {_plain(part)}." if part else "."),
        "They stay under the terms of everything that they were made from; whoever passes them on passes "
        "these on too.",
        "",
        f"| licence | {' | '.join(QUESTIONS)} |",
        "|---|---|---|---|---|",
    ]
    stated = list(dict.fromkeys(found.terms))
    for terms in stated:
        answers = " | ".join(_plain(str(getattr(terms, question))) for question in QUESTIONS)
        lines.append(f"| {_plain(terms.licence)} | {answers} |")
    if not stated:
        lines.append("| nothing is stated | unknown | unknown | unknown | unknown |")
    purposes = [terms.purpose for terms in stated if terms.purpose]
    lines += [f"\nPurpose: {_plain(purpose)}" for purpose in purposes]
    lines += ["", f"Exported under the policy **{use.policy}**."]
    if use.acknowledged:
        lines += [
            "",
            f"Acknowledged, with the reason: {_plain(use.acknowledged)}. What stood against it:",
            "",
        ]
        lines += [f"- {_plain(objection)}" for objection in use.objections]
    if use.warnings or notes:
        lines += ["", "Notes:", "", *(f"- {_plain(note)}" for note in (*use.warnings, *notes))]
    if found.details.get("retain_until"):
        lines += ["", f"Real images may be kept until {_plain(str(found.details['retain_until']))}."]
    lines += [
        "",
        "Images of real people: whoever asks to be forgotten must be forgotten in copies as well. Keep a "
        "list of who has one, and export anew after an erasure.",
    ]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text from outside on one line, without what Markdown or HTML would take for markup."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    for mark in ("\\", "|", "`", "*", "["):
        plain = plain.replace(mark, f"\\{mark}")
    return plain.replace("<", "&lt;")
