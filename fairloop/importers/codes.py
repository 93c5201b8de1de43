"""From a source's words and codes to canonical values: only what a vocabulary names, nothing by guessing."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from fairloop import taxonomy
from fairloop.importers.source import UnusableFileError
from fairloop.standalone.table import listed, shown


@functools.cache
def words_of(source: str, attribute: str) -> Mapping[str, str]:
    """Spelling → canonical value, of one source's vocabulary with its further spellings."""
    found = taxonomy.vocabulary(source, attribute)
    return dict(zip(found.labels, found.values, strict=True)) | dict(found.aliases or {})


@functools.cache
def numbered(source: str, attribute: str) -> Mapping[str, str]:
    """Index as text → canonical value: what an integer column in that source's order means."""
    return {str(index): value for index, value in enumerate(taxonomy.vocabulary(source, attribute).values)}


def meant(words: Mapping[str, str], text: str, column: str) -> str:
    """What a text of this column means; `UnusableFileError` that lists the known ones for another."""
    value = words.get(text)
    if value is None:
        raise UnusableFileError(f"column {column}: {shown(text)} is not one of {listed(list(words))}")
    return value


def with_canonical(attribute: str, value: str) -> dict[str, str]:
    """A source's own label (`race_rfw`) and the canonical ones (`race`, `race4`) where it has one."""
    labels = {attribute: value}
    for meanings in (taxonomy.CANONICAL, taxonomy.COARSE):
        named, values = meanings.get(attribute, ("", {}))
        if value in values:
            labels[named] = values[value]
    return labels


def counted(text: str) -> int | None:
    """A number of files or lines, 0 or more, as plain digits; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def whole(text: str) -> str:
    """A code as its writer meant it: pandas writes `1.0` where a column has gaps."""
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdecimal() else text


def is_code(text: str) -> bool:
    """Whether a text is a whole number."""
    return whole(text).lstrip("-").isdecimal()
