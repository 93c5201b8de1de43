"""Names of images, files and people as they stand in files: whole, and however a format writes them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator

AT_ONCE = 400
"""Words of one regular expression."""


def search_patterns(words: Iterable[str]) -> list[re.Pattern[bytes]]:
    """What finds these words in a file: whole, as they are, and as JSON and HTML write them."""
    spelt = {
        form
        for word in words
        for form in (
            word,
            json.dumps(word)[1:-1],
            json.dumps(word, ensure_ascii=False)[1:-1],
            html.escape(word),
        )
    }
    return [_pattern(piece) for piece in _pieces(sorted(spelt))]


def _pattern(words: list[bytes]) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![A-Za-z0-9_])(?:" + b"|".join(map(re.escape, words)) + rb")(?![A-Za-z0-9_])")


def _pieces(words: list[str]) -> Iterator[list[bytes]]:
    for start in range(0, len(words), AT_ONCE):
        yield [word.encode() for word in words[start : start + AT_ONCE]]
