"""Pages of lists (AIP-158)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop.errors import InvalidInput
from fairloop.serving.pages import DEFAULT_PAGE, LARGEST_PAGE, page


@given(st.sets(st.text("abc/-2", min_size=1), max_size=30), st.integers(1, 8))
def test_pages_together_are_the_whole_list_each_item_once(items: set[str], size: int) -> None:
    ordered = sorted(items)
    seen: list[str] = []
    token = ""
    while True:
        found, token = page(ordered, size, token, str)
        assert len(found) <= size
        seen += found
        if not token:
            break
        assert len(found) == size, "only the last page is short"
    assert seen == ordered


def test_what_is_added_or_removed_between_pages_moves_nothing_else() -> None:
    first, token = page(["b", "d", "f", "h"], 2, "", str)
    second, end = page(["a", "b", "e", "f", "h"], 2, token, str)  # d is gone; a and e are new
    assert (first, second) == (["b", "d"], ["e", "f"])
    assert page(["a", "b", "e", "f", "h"], 2, end, str) == (["h"], "")


def test_size_0_means_a_hundred_and_the_most_is_a_thousand() -> None:
    items = [f"{i:04d}" for i in range(1_500)]
    assert (DEFAULT_PAGE, LARGEST_PAGE) == (100, 1_000)
    assert len(page(items, 0, "", str)[0]) == 100
    assert len(page(items, 1_000, "", str)[0]) == 1_000
    for wrong in (-1, 1_001):
        with pytest.raises(InvalidInput, match=f"page_size: {wrong} is outside 0–1000"):
            page(items, wrong, "", str)


def test_a_page_that_ends_with_the_list_has_no_next_token() -> None:
    assert page(["a", "b"], 2, "", str) == (["a", "b"], "")
    assert page([], 2, "", str) == ([], "")
    assert page(["a"], 2, "z", str) == ([], "")
