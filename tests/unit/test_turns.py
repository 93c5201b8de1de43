"""Places of one server: bounded by kind, given in order of arrival."""

from __future__ import annotations

from fairloop.serving.turns import Turns


def test_beyond_the_most_of_a_kind_operations_wait_and_come_in_order() -> None:
    turns = Turns(2)
    assert [turns.begin(name, "work") for name in "abc"] == [True, True, False]
    assert turns.begin("a", "work"), "one that has its place keeps it"
    turns.wait("c", "work")
    turns.wait("d", "work")
    turns.wait("c", "work")
    assert turns.next() is None, "no place is free"
    turns.end("b")
    assert turns.next() == "c"
    assert not turns.waits("c")
    assert turns.waits("d")


def test_trainings_that_wait_keep_no_work_from_its_turn() -> None:
    turns = Turns(1)
    assert turns.begin("long", "training")
    assert not turns.begin("next", "training")
    turns.wait("next", "training")
    assert turns.begin("short", "work")
    assert not turns.begin("other", "work")
    turns.wait("other", "work")
    turns.end("short")
    assert turns.next() == "other"
    assert turns.next() is None


def test_one_that_is_forgotten_or_began_is_not_told_again() -> None:
    turns = Turns(2)
    for name in "abcd":
        turns.wait(name, "work")
    turns.forget("a")
    assert turns.begin("b", "work")
    assert turns.next() == "c"
    assert turns.next() is None, "b and c have the two places"
    turns.end("b")
    turns.wait("a", "work")
    assert turns.next() == "d"
    turns.end("c")
    assert turns.next() == "a"
