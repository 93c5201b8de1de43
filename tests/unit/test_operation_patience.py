"""How long a handle waits for a server that is away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from fairloop import operation
from fairloop.errors import Unavailable
from fairloop.operation import Operation
from fairloop.v1.annotator_pb2 import AnnotateResult


class Away:
    """A service whose server is away for so long; every call takes a hundred seconds of the clock."""

    operations = SimpleNamespace(WaitOperation=None)

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self._seconds = seconds

    def monotonic(self) -> float:
        return self.now

    def call(self, method: Any, request: Message, timeout: float = 30.0) -> Any:
        if self.now < self._seconds:
            self.now += 100
            raise Unavailable("nobody answers")
        done = operations_pb2.Operation(name="operations/annotator-a", done=True)
        done.response.Pack(AnnotateResult(annotations="annotations/0123456789abcdef"))
        return done


def test_a_server_that_is_away_as_long_as_operations_outlast_an_outage_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Away(290)
    monkeypatch.setattr(operation, "time", service)
    handle = Operation("operations/annotator-a", service, AnnotateResult)
    assert handle.result().annotations == "annotations/0123456789abcdef"


def test_one_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Away(3600)
    monkeypatch.setattr(operation, "time", service)
    with pytest.raises(Unavailable, match="nobody answers"):
        Operation("operations/annotator-a", service, AnnotateResult).result()
    assert 300 < service.now <= 500
