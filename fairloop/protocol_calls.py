"""Protocols, thresholds per group, ages and worse pictures; parts of the clients in `fairloop.client`."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from fairloop.operation import Operation
from fairloop.v1 import metrics_pb2, recognizer_pb2

R = TypeVar("R", bound=Message)


class _Client(Protocol):
    stub: Any

    def start(self, method: Any, request: Any, result: type[R]) -> Operation[R]: ...


class CopyCalls:
    """What the recogniser's client asks of worse pictures."""

    def embed_copies(
        self: _Client, request: recognizer_pb2.EmbedCopiesRequest
    ) -> Operation[recognizer_pb2.EmbedCopiesResult]:
        """Embeds worse copies of a whole dataset: a table for each transform and level."""
        return self.start(self.stub.EmbedCopies, request, recognizer_pb2.EmbedCopiesResult)


class ProtocolCalls:
    """What the metrics' client asks beyond rates of all pairs."""

    def evaluate_protocol(
        self: _Client, request: metrics_pb2.EvaluateProtocolRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """RFW race by race, or BFW's subgroups."""
        return self.start(self.stub.EvaluateProtocol, request, metrics_pb2.ReportResult)

    def compare_thresholds(
        self: _Client, request: metrics_pb2.CompareThresholdsRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """Whether retraining does better than thresholds per group."""
        return self.start(self.stub.CompareThresholds, request, metrics_pb2.ReportResult)

    def evaluate_ages(
        self: _Client, request: metrics_pb2.EvaluateAgesRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """Likeness over the years, and error rates of age groups."""
        return self.start(self.stub.EvaluateAges, request, metrics_pb2.ReportResult)

    def evaluate_robustness(
        self: _Client, request: metrics_pb2.EvaluateRobustnessRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """Error rates per group on worse pictures."""
        return self.start(self.stub.EvaluateRobustness, request, metrics_pb2.ReportResult)
