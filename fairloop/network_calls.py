"""What the annotator's client asks of the inside of networks; a part of `fairloop.client.AnnotatorClient`."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from fairloop.operation import Operation
from fairloop.v1 import annotator_pb2

R = TypeVar("R", bound=Message)


class _Annotator(Protocol):
    stub: Any

    def call(self, method: Any, request: Message, timeout: float = ...) -> Any: ...

    def start(self, method: Any, request: Any, result: type[R]) -> Operation[R]: ...


LOADING_SECONDS = 120.0
"""A network is loaded when it is first asked for: half a gigabyte from a store and a disk."""


class InsideNetworks:
    """Layers, their activations, masks on their units; networks of one's own."""

    def list_layers(self: _Annotator, network: str) -> annotator_pb2.ListLayersResponse:
        """All layers of a network, of all pages, with the network's version and input shape."""
        request = annotator_pb2.ListLayersRequest(network=network, page_size=1_000)
        found: annotator_pb2.ListLayersResponse = self.call(self.stub.ListLayers, request, LOADING_SECONDS)
        while found.next_page_token:
            request.page_token = found.next_page_token
            page = self.call(self.stub.ListLayers, request, LOADING_SECONDS)
            found.layers.extend(page.layers)
            found.next_page_token = page.next_page_token
        return found

    def extract_activations(
        self: _Annotator, request: annotator_pb2.ExtractActivationsRequest
    ) -> Operation[annotator_pb2.ExtractActivationsResult]:
        """What the units of layers answer to every image of a dataset."""
        return self.start(self.stub.ExtractActivations, request, annotator_pb2.ExtractActivationsResult)

    def train_classifier(
        self: _Annotator, request: annotator_pb2.TrainClassifierRequest
    ) -> Operation[annotator_pb2.TrainClassifierResult]:
        """Trains a classifier of one attribute, which is an annotator under its name."""
        return self.start(self.stub.TrainClassifier, request, annotator_pb2.TrainClassifierResult)
