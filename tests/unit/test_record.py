"""Which attempt of an operation counts, and what makes two requests the same."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from fairloop import names
from fairloop.serving.operation_store import read_record
from fairloop.serving.record import (
    CANCELLED,
    FAILED,
    FINAL,
    PENDING,
    RUNNING,
    SUCCEEDED,
    SUSPENDED,
    Progress,
    Record,
    canonical_request,
    first_difference,
    next_attempt,
    operation_id,
    winner,
)
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.common_pb2 import LabelSource, OperationState
from fairloop.v1.generator_pb2 import (
    Acceptance,
    FineTuneGeneratorRequest,
    GenerateRequest,
    LatentSampler,
    Quota,
)
from fairloop.v1.recognizer_pb2 import FineTuneRecognizerRequest, TrainingOptions

STATES = [PENDING, RUNNING, SUSPENDED, SUCCEEDED, FAILED, CANCELLED]

# One record per (attempt, owner), as in the store.
stored = st.lists(
    st.builds(Record, st.integers(1, 4), st.sampled_from("abc"), st.sampled_from(STATES)),
    max_size=5,
    unique_by=lambda record: (record.attempt, record.owner),
)


def by_the_design(records: list[Record]) -> Record | None:
    """SUCCEEDED beats all, then CANCELLED, then the highest attempt; ties: the smaller owner."""
    for state in (SUCCEEDED, CANCELLED):
        if any(record.state == state for record in records):
            records = [record for record in records if record.state == state]
    if not records:
        return None
    highest = max(record.attempt for record in records)
    return min((r for r in records if r.attempt == highest), key=lambda record: record.owner)


@given(stored)
def test_the_same_record_wins_in_whatever_order_they_are_listed(records: list[Record]) -> None:
    expected = by_the_design(records)
    assert all(winner(order) == expected for order in itertools.permutations(records))


def test_the_winner_in_the_words_of_the_design() -> None:
    old = Record(1, "b", SUCCEEDED)
    stopped = Record(2, "a", CANCELLED)
    failed = Record(4, "a", FAILED)
    running = Record(5, "b", RUNNING)
    twin = Record(5, "a", RUNNING)
    assert winner([]) is None
    assert winner([running, failed, stopped, old]) is old
    assert winner([running, failed, stopped]) is stopped
    assert winner([failed, running]) is running
    assert winner([running, twin]) is twin
    assert winner([Record(1, "b", CANCELLED), stopped]) is stopped


def test_final_states_are_those_that_the_api_calls_final() -> None:
    assert frozenset({SUCCEEDED, FAILED, CANCELLED}) == FINAL
    assert {f"OPERATION_STATE_{s}" for s in STATES} | {"OPERATION_STATE_UNSPECIFIED"} == set(
        OperationState.keys()
    )
    assert [Record(1, "a", state).final for state in STATES] == [False, False, False, True, True, True]


def test_the_third_silence_fails_the_operation() -> None:
    record = Record(1, "a", RUNNING, beat=9, progress=Progress("training", 3, 10, "steps"))
    second = next_attempt(record, "b", fell_silent=True)
    third = next_attempt(second, "c", fell_silent=True)
    last = next_attempt(third, "d", fell_silent=True)
    assert [(r.attempt, r.owner, r.state) for r in (second, third, last)] == [
        (2, "b", PENDING),
        (3, "c", PENDING),
        (4, "d", FAILED),
    ]
    assert last.progress == record.progress, "it says where the attempts fell silent"
    assert (second.beat, second.created) == (0, record.created)


@given(st.lists(st.booleans(), max_size=8))
def test_only_silence_counts_against_an_operation(silences: list[bool]) -> None:
    record = Record(1, "o", RUNNING)
    for number, silent in enumerate(silences, start=2):
        record = next_attempt(record, "o", fell_silent=silent)
        assert record.attempt == number
        assert (record.state == FAILED) == (sum(silences[: number - 1]) >= 3)


def test_a_taken_over_attempt_is_not_released() -> None:
    taken = next_attempt(Record(1, "a", RUNNING, released=True), "b", fell_silent=False)
    assert (taken.released, taken.state, taken.silent) == (False, PENDING, 0)
    resumed = next_attempt(Record(2, "a", SUSPENDED, silent=1), "b", fell_silent=False)
    assert (resumed.attempt, resumed.state, resumed.silent) == (3, PENDING, 1)


def test_every_sign_of_life_changes_the_fingerprint() -> None:
    record = Record(1, "a", RUNNING, beat=4)
    others = [
        Record(2, "a", RUNNING, beat=4),
        Record(1, "b", RUNNING, beat=4),
        Record(1, "a", RUNNING, beat=5),
        Record(1, "a", RUNNING, beat=4, released=True),
    ]
    assert record.fingerprint not in {other.fingerprint for other in others}
    later = Record(1, "a", RUNNING, beat=4, updated="2026-11-22T10:00:00Z")
    assert later.fingerprint == record.fingerprint, "the writer's clock is no sign of life"


@given(
    st.builds(
        Record,
        attempt=st.integers(1, 9),
        owner=st.text("ab-0", min_size=1),
        state=st.sampled_from(STATES),
        beat=st.integers(0, 10**6),
        silent=st.integers(0, 3),
        released=st.booleans(),
        progress=st.builds(
            Progress,
            stage=st.text(max_size=5),
            done=st.integers(0, 9),
            total=st.integers(0, 9),
            measures=st.dictionaries(st.sampled_from(["loss", "tmr"]), st.floats(allow_nan=False)),
        ),
        result=st.text("ab=", max_size=5),
    )
)
def test_a_record_survives_the_store(record: Record) -> None:
    raw = json.loads(json.dumps(record.to_json()))
    assert raw["schema"] == "fairloop.operation/1"
    assert read_record(raw, "attempt") == record


@pytest.mark.parametrize(
    ("service", "caller", "method", "request_id"),
    [
        ("annotator", "anonymous", "AnnotatorService.Annotate", "r"),
        ("generator", "caller", "GeneratorService.Generate", "é" * 50),
    ],
)
def test_an_operation_id_is_26_base32_digits_of_the_hash(
    service: str, caller: str, method: str, request_id: str
) -> None:
    digest = hashlib.sha256(f"{caller}\0{method}\0{request_id}".encode()).digest()
    # RFC 4648's alphabet, five bits at a time from the top.
    bits = int.from_bytes(digest, "big")
    expected = "".join("abcdefghijklmnopqrstuvwxyz234567"[bits >> (251 - 5 * i) & 31] for i in range(26))
    found = operation_id(service, caller, method, request_id)
    assert found == f"{service}-{expected}"
    assert base64.b32encode(digest).decode().lower().startswith(expected)
    assert names.check("operation", f"operations/{found}", "name")


@given(st.lists(st.tuples(*[st.text("ab", max_size=3)] * 3), min_size=2, max_size=2, unique=True))
def test_another_caller_method_or_request_id_is_another_operation(
    asked: list[tuple[str, str, str]],
) -> None:
    first, second = (operation_id("metrics", *parts) for parts in asked)
    assert first != second
    assert re.fullmatch("metrics-[a-z2-7]{26}", first)


def test_request_id_and_detached_are_not_part_of_what_is_asked() -> None:
    plain = AnnotateRequest(dataset="d", annotators=["a"])
    marked = AnnotateRequest(dataset="d", annotators=["a"], request_id="r", detached=True)
    assert canonical_request(plain) == canonical_request(marked)
    assert first_difference(plain, marked) == ""
    assert marked.request_id == "r", "the caller's request is left alone"


def test_maps_are_canonical_whatever_their_order() -> None:
    cells = [f"c{i}" for i in range(20)]
    requests = [
        FineTuneGeneratorRequest(latent_sampler=LatentSampler(target=dict.fromkeys(order, 0.05)))
        for order in (cells, cells[::-1])
    ]
    assert canonical_request(requests[0]) == canonical_request(requests[1])


GENERATE = GenerateRequest(model="m", quotas=[Quota(cell="", subjects=3)], seed=7)


@pytest.mark.parametrize(
    ("ours", "theirs", "field"),
    [
        (AnnotateRequest(dataset="d"), AnnotateRequest(dataset="e"), "dataset"),
        (AnnotateRequest(annotators=["a", "b"]), AnnotateRequest(annotators=["b", "a"]), "annotators"),
        (AnnotateRequest(dataset="d", annotators=["a"]), AnnotateRequest(dataset="e"), "dataset"),
        (GENERATE, GenerateRequest(model="m", quotas=[Quota(cell="", subjects=4)], seed=7), "quotas"),
        (GENERATE, GenerateRequest(model="m", quotas=GENERATE.quotas, seed=8), "seed"),
        (
            GenerateRequest(acceptance=Acceptance(sources=[LabelSource(attribute="gender")])),
            GenerateRequest(acceptance=Acceptance(sources=[LabelSource(attribute="race")])),
            "acceptance",
        ),
        (GenerateRequest(), GenerateRequest(acceptance=Acceptance()), "acceptance"),
        (
            FineTuneRecognizerRequest(options=TrainingOptions()),
            FineTuneRecognizerRequest(options=TrainingOptions(margin=0)),
            "options",
        ),
        (TrainingOptions(), TrainingOptions(margin=0), "margin"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_field_that_differs_is_named(ours: Message, theirs: Message, field: str) -> None:
    assert canonical_request(ours) != canonical_request(theirs)
    assert first_difference(ours, theirs) == first_difference(theirs, ours) == field
    assert first_difference(ours, ours) == ""
