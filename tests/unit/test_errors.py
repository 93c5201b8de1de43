"""Exceptions over the wire and back."""

from __future__ import annotations

import pickle

import pytest
from google.rpc import code_pb2

from fairloop import errors
from fairloop.errors import BY_CODE, FairloopError, InvalidInput, Violation, from_status, to_status


@pytest.mark.parametrize("kind", BY_CODE.values())
def test_every_exception_comes_back_as_itself(kind: type[FairloopError]) -> None:
    back = from_status(to_status(kind("what was wrong", resource="datasets/x")))
    assert type(back) is kind
    assert str(back) == "what was wrong"
    assert back.metadata == {"resource": "datasets/x"}


def test_wrong_input_keeps_every_field_and_what_is_allowed() -> None:
    sent = InvalidInput("seed", "-1 is outside 0–9", Violation("cell", "is unknown"))
    back = from_status(to_status(sent))
    assert isinstance(back, InvalidInput)
    assert back.violations == (Violation("seed", "-1 is outside 0–9"), Violation("cell", "is unknown"))


def test_an_error_that_is_not_ours_becomes_internal_without_its_text() -> None:
    status = to_status(ValueError("/secret/path"))
    assert status.code == code_pb2.INTERNAL
    assert "/secret/path" not in status.message
    assert "ValueError" in status.message


def test_errors_cross_process_pools() -> None:
    back = pickle.loads(pickle.dumps(InvalidInput("a", "is wrong", object="x")))
    assert isinstance(back, InvalidInput)
    assert (back.violations[0].field, back.metadata) == ("a", {"object": "x"})


def test_the_tree_in_the_docstring_is_the_table() -> None:
    for kind in (*BY_CODE.values(), InvalidInput):
        line = next(line for line in (errors.__doc__ or "").splitlines() if f"── {kind.__name__} " in line)
        assert code_pb2.Code.Name(kind.code) in line
