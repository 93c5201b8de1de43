"""Which attempt counts: pure rules, checked over all orders of the records."""

from __future__ import annotations

import base64
import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from fairloop.serving.record import (
    CANCELLED,
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    SUSPENDED,
    Record,
    canonical_request,
    first_difference,
    next_attempt,
    operation_id,
    winner,
)
from fairloop.v1.annotator_pb2 import AnnotateRequest

STATES = (PENDING, RUNNING, SUSPENDED, SUCCEEDED, FAILED, CANCELLED)

records = st.builds(
    Record, attempt=st.integers(1, 4), owner=st.sampled_from("abc"), state=st.sampled_from(STATES)
)


def test_nothing_has_no_winner() -> None:
    assert winner([]) is None


def test_a_success_beats_a_later_attempt_and_a_cancel_beats_all_but_a_success() -> None:
    done, cancelled, later = Record(1, "b", SUCCEEDED), Record(1, "c", CANCELLED), Record(3, "a", RUNNING)
    for order in itertools.permutations([done, cancelled, later]):
        assert winner(order) == done
    for order in itertools.permutations([cancelled, later]):
        assert winner(order) == cancelled


def test_of_equal_attempts_the_smaller_owner_counts() -> None:
    one, two = Record(2, "a", RUNNING), Record(2, "b", RUNNING)
    assert winner([one, two]) == winner([two, one]) == one


@given(st.lists(records, min_size=1, max_size=5))
def test_the_winner_does_not_depend_on_the_order_of_reading(found: list[Record]) -> None:
    first = winner(found)
    assert first is not None
    for order in itertools.permutations(found):
        again = winner(order)
        assert again is not None
        assert (again.attempt, again.owner) == (first.attempt, first.owner)


def test_the_third_silence_fails_and_a_release_is_no_silence() -> None:
    record = Record(1, "a", RUNNING)
    for attempt in (2, 3):
        record = next_attempt(record, "b", fell_silent=True)
        assert (record.attempt, record.state) == (attempt, PENDING)
    assert next_attempt(record, "b", fell_silent=False).state == PENDING
    assert next_attempt(record, "b", fell_silent=True).state == FAILED


def test_an_operations_id_is_26_base32_of_the_sha256_of_caller_method_and_request_id() -> None:
    digest = hashlib.sha256(b"me\0S.M\0r1").digest()
    expected = base64.b32encode(digest).decode()[:26].lower()
    assert operation_id("annotator", "me", "S.M", "r1") == f"annotator-{expected}"


def test_a_request_is_the_same_whatever_its_id_and_who_waits() -> None:
    one = AnnotateRequest(dataset="d", annotators=["a"], request_id="1", detached=True)
    two = AnnotateRequest(dataset="d", annotators=["a"], request_id="2")
    assert canonical_request(one) == canonical_request(two)
    assert first_difference(one, two) == ""
    assert first_difference(one, AnnotateRequest(dataset="d", annotators=["b"])) == "annotators"


def test_a_record_survives_json() -> None:
    record = Record(2, "a", RUNNING, beat=7, silent=1, released=True)
    assert Record.from_json(record.to_json()) == record
