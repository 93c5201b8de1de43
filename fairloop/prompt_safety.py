"""Prompts that no model sees: those that pair minors with sexual content; and which prompts are of minors.

A list of English words (`prompt_safety.toml`), several spellings of each, ages in
figures and words, and the ages of the cell that is asked for. A word list errs on
both sides: it refuses some harmless prompts and misses what it does not know,
other languages among it. It is the first of two guards; the second looks at the
images.
"""

from __future__ import annotations

import functools
import re
import tomllib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from fairloop import taxonomy
from fairloop.errors import InvalidInput

ADULT = 18
YOUNG_BINS = frozenset({"0_2", "3_9", "10_19", "4_6", "8_12", "15_20"})
"""Age bins that hold somebody under 18, of both vocabularies."""

_UNDER = re.compile(
    r"(?:\b(?:under|below|sub|not yet|younger than|less than)[\s-]+|<\s*)"
    r"(?:the )?(?:age of )?(?:1[0-8]|[1-9])\b"
)
"""`under 18`, `<18`; also `under 5 trees`, which then is only not drawn without the safety checker."""
_UNIT = (
    r"\s*-?\s*(?:years?|yrs?|y\.?/?o|months?|weeks?|days?)(?:olds?)?\b"
    r"(?!\s+(?:ago|later|of (?!age)|experience))"
)
_AGE = re.compile(rf"\b(?:age[ds]?|ages? of)[\s:=-]+(\d{{1,3}})\b(?!s)|\b(\d{{1,3}}){_UNIT}")
_RANGE = re.compile(rf"\b(\d{{1,3}})\s*(?:[-–—/&]|to|or|and|\s)\s*\d{{1,3}}{_UNIT}")
"""The first age of `13-19 years old`; a cell's `10_19` is `10 19` by then."""


@dataclass(frozen=True)
class Words:
    """The lists of `prompt_safety.toml`."""

    minors: re.Pattern[str]
    sexual: re.Pattern[str]
    covering: re.Pattern[str]
    numbers: tuple[str, ...]
    letters: dict[int, str]
    alike: dict[int, str]


def check_prompt(prompt: str, cell: str = "", field: str = "prompt", negative: str = "") -> None:
    """`InvalidInput` on `field` for a prompt that pairs minors with sexual content.

    `negative` is what goes with it as the negative prompt: clothes there are such content.
    `cell` is the cell that the prompt asks for: its age counts as if the prompt
    said it. The message does not say which words were found.
    """
    if pairs_minors(prompt, cell) or (_found(words().covering, negative) and names_minor(prompt, cell)):
        raise InvalidInput(
            field,
            "pairs people under 18 with sexual content; such prompts are not drawn "
            "(the words are in fairloop/prompt_safety.toml)",
        )


def pairs_minors(prompt: str, cell: str = "") -> bool:
    """Whether a prompt, with the cell it asks for, pairs people under 18 with sexual content."""
    return _found(words().sexual, prompt) and names_minor(prompt, cell)


def names_minor(prompt: str, cell: str = "") -> bool:
    """Whether a prompt, or the cell it asks for, is of somebody under 18, or may be: 10–19 counts."""
    if cell:
        terms = taxonomy.parse_cell(cell)
        if any(terms.get(attribute) in YOUNG_BINS for attribute in ("age", "age_adience")):
            return True
    return _found(words().minors, prompt) or any(age < ADULT for age in _ages(prompt))


@functools.cache
def words() -> Words:
    """The lists, read once."""
    found = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return Words(
        _pattern(found["minors"]),
        _pattern(found["sexual"]),
        _pattern(found["covering"]),
        tuple(found["numbers"]),
        {ord(sign): letter for sign, letter in found["letters"].items()},
        {ord(sign): letter for sign, letter in found["alike"].items()},
    )


def _pattern(listed: list[str]) -> re.Pattern[str]:
    endings = (re.escape(word.removesuffix("*")) + (r"\w*" if word.endswith("*") else "") for word in listed)
    return re.compile(rf"(?<![a-z])(?:{'|'.join(endings)})(?![a-z])")


def _found(pattern: re.Pattern[str], prompt: str) -> bool:
    return any(pattern.search(form) for form in _forms(prompt))


def _forms(prompt: str) -> list[str]:
    """The ways to read a prompt: as it stands, with signs read as letters, with spaced letters joined."""
    plain = _plain(prompt)
    signs = plain.translate(words().letters)
    return [plain, signs, _joined(plain), _joined(signs)]


def _plain(prompt: str) -> str:
    """Lower case, without accents, invisible characters and underscores; look-alike letters made one."""
    split = unicodedata.normalize("NFKD", prompt).casefold()
    kept = "".join(c for c in split if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    return re.sub(r"\s+", " ", kept.translate(words().alike).replace("_", " "))


def _joined(text: str) -> str:
    """`n u d e`, `n-u-d-e` and `n.u.d.e` as `nude`: three single letters or more with signs between.

    A word may stand before them that is one letter itself (`a n u d e`), so all ends of the row count.
    """

    def ends(found: re.Match[str]) -> str:
        letters = re.sub(r"[^a-z]", "", found[0])
        return " ".join(letters[start:] for start in range(len(letters) - 2))

    return re.sub(r"(?<![a-z])[a-z](?:[\s.\-*|/,]+[a-z](?![a-z])){2,}", ends, text)


def _ages(prompt: str) -> list[int]:
    text = _plain(prompt)
    for number, word in enumerate(words().numbers, 1):
        text = re.sub(rf"(?<![a-z]){word}(?![a-z])", str(number), text)
    months = [0 for _ in re.finditer(r"\b\d+\s*-?\s*(?:months?|weeks?|days?)\s*-?\s*old\b", text)]
    under = [0 for _ in _UNDER.finditer(text)]
    ranges = [int(first) for first in _RANGE.findall(text)]
    return months + under + ranges + [int(a or b) for a, b in _AGE.findall(text)]
