"""What is remembered is bounded in number and in bytes."""

from __future__ import annotations

import pytest

from fairloop.remembered import Remembered


def remembered(most: int = 3, most_bytes: int = 100) -> tuple[Remembered[str], list[str]]:
    """A memory of texts by their length, and what had to be opened."""
    return Remembered(most, most_bytes, len), []


def ask(memory: Remembered[str], opened: list[str], *texts: str) -> None:
    for text in texts:
        assert memory.get(text, lambda text=text: opened.append(text) or text) == text  # type: ignore[misc]


def test_what_is_asked_for_again_is_not_opened_again() -> None:
    memory, opened = remembered()
    ask(memory, opened, "a", "b", "a", "b", "a")
    assert opened == ["a", "b"]


def test_the_least_lately_asked_for_goes_when_there_are_too_many() -> None:
    memory, opened = remembered(most=2)
    ask(memory, opened, "a", "b", "a", "c", "a", "b")
    assert opened == ["a", "b", "c", "b"]
    assert len(memory) == 2


def test_bytes_are_bounded_and_one_value_stays_whatever_its_size() -> None:
    memory, opened = remembered(most_bytes=10)
    ask(memory, opened, "aaaa", "bbbb")
    assert memory.bytes == 8
    ask(memory, opened, "cccc")
    assert (memory.bytes, len(memory)) == (8, 2)
    ask(memory, opened, "x" * 50, "x" * 50)
    assert (memory.bytes, len(memory)) == (50, 1)
    assert opened == ["aaaa", "bbbb", "cccc", "x" * 50]


def test_what_fails_to_open_is_not_remembered() -> None:
    memory, opened = remembered()

    def fails() -> str:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        memory.get("a", fails)
    ask(memory, opened, "a")
    assert opened == ["a"]
