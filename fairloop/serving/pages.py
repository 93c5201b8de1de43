"""Pages of lists (AIP-158)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from fairloop.errors import InvalidInput

T = TypeVar("T")

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000


def page(items: Sequence[T], size: int, token: str, name: Callable[[T], str]) -> tuple[list[T], str]:
    """The page after `token` (the last name of the page before) and the token of the next, or ''.

    `items` are ordered by name.
    """
    if not 0 <= size <= LARGEST_PAGE:
        raise InvalidInput("page_size", f"{size} is outside 0–{LARGEST_PAGE}")
    rest = [item for item in items if name(item) > token]
    found = rest[: size or DEFAULT_PAGE]
    return found, name(found[-1]) if len(rest) > len(found) else ""
