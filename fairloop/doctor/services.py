"""The four servers: health, version of the API, models, replicas, and the time of a test image."""

from __future__ import annotations

import functools
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fairloop.client import Client
from fairloop.commands.surroundings import advice, plain
from fairloop.doctor import metrics_page
from fairloop.doctor.finding import Finding, Outcome
from fairloop.doctor.picture import drawn_face
from fairloop.errors import FairloopError, Unavailable
from fairloop.v1 import annotator_pb2, generator_pb2, metrics_pb2, recognizer_pb2

TIMEOUT_SECONDS = 5.0
REPEATS = 5
API = {
    "generator": generator_pb2,
    "annotator": annotator_pb2,
    "recognizer": recognizer_pb2,
    "metrics": metrics_pb2,
}


def service(client: Client, name: str, required: bool) -> Finding:
    """How one service is. Without `required` one that does not answer is a warning."""
    away: Outcome = "fail" if required else "warn"
    caller: Any = getattr(client, name)
    where = caller.address
    facts: dict[str, Any] = {"address": where}
    try:
        started = time.perf_counter()
        status = caller.call(
            health_pb2_grpc.HealthStub(caller.channel).Check,
            health_pb2.HealthCheckRequest(),
            timeout=TIMEOUT_SECONDS,
        ).status
        facts["health_seconds"] = time.perf_counter() - started
    except FairloopError as error:
        return _complaint(name, error, away if isinstance(error, Unavailable) else "fail", facts)
    if status != health_pb2.HealthCheckResponse.SERVING:
        todo = "it is loading its models or going down: look again in a minute, then at its log"
        return Finding(name, away, f"{where} is up and does not serve yet", todo, facts)
    try:
        facts["models"] = loaded(client, name)
        facts["replicas"] = replicas(where)
        lacking, same = api_difference(caller.channel, name)
    except FairloopError as error:
        return _complaint(name, error, "fail", facts)
    facts |= {"same_api": same, "lacking_methods": lacking}
    count = f"{facts['replicas']} replica{'s' if facts['replicas'] != 1 else ''}"
    page = metrics_page.read(name)
    facts["version"] = page.version if page else ""
    told = [f"{where} serves", count, f"version {page.version}" if page else "", *facts["models"]]
    detail = ", ".join(filter(None, told))
    if lacking:
        todo = f"it is older than this command and lacks {', '.join(lacking)}: start it anew (make down up)"
        return Finding(name, "warn", detail, todo, facts)
    if not same:
        todo = "its API is of another version than this command's: update the older of the two"
        return Finding(name, "warn", detail, todo, facts)
    return Finding(name, "ok", detail, facts=facts)


def _complaint(name: str, error: FairloopError, outcome: Outcome, facts: Mapping[str, Any]) -> Finding:
    todo = advice(error, name) or f"look at the log of the {name}"
    return Finding(name, outcome, plain(error), todo, facts)


def loaded(client: Client, name: str) -> list[str]:
    """`name@version` of what a service has loaded or can load."""
    if name == "annotator":
        found = client.annotator.list_annotators()
        return [_short(a.name) if a.name.startswith("models/") else f"{a.name}@{a.version}" for a in found]
    if name == "generator":
        return _models(client.generator, generator_pb2.ListGeneratorModelsRequest())
    if name == "recognizer":
        return _models(client.recognizer, recognizer_pb2.ListRecognizerModelsRequest())
    return []


def _models(caller: Any, request: Any) -> list[str]:
    found = []
    while True:
        reply = caller.call(caller.stub.ListModels, request)
        found += [_short(m.name) for m in reply.models]
        if not reply.next_page_token:
            return found
        request.page_token = reply.next_page_token


def _short(name: str) -> str:
    """`name@version` of a model."""
    return name.removeprefix("models/").replace("/versions/", "@")


def replicas(address: str) -> int:
    """How many servers the address leads to: addresses of a headless name, 1 for any other."""
    host, _, port = address.rpartition(":///")[2].rpartition(":")
    try:
        return len(
            {info[4][0] for info in socket.getaddrinfo(host.strip("[]"), port, proto=socket.IPPROTO_TCP)}
        )
    except OSError:
        return 1  # it answered; the name is resolved by something else, such as a proxy


def api_difference(channel: grpc.Channel, name: str) -> tuple[list[str], bool]:
    """Methods that this command knows and the server does not, and whether the APIs are the same.

    Asked of the server's reflection, which needs no token.
    """
    ours = descriptor_pb2.FileDescriptorProto()
    API[name].DESCRIPTOR.CopyToProto(ours)
    request = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol=f"{ours.package}.{ours.service[0].name}"
    )
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    try:
        (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        raise FairloopError(f"its reflection does not answer ({error})") from error
    for data in reply.file_descriptor_response.file_descriptor_proto:
        theirs = descriptor_pb2.FileDescriptorProto.FromString(data)
        if theirs.name == ours.name:
            lacking = _methods(ours) - _methods(theirs)
            return sorted(lacking), theirs == ours
    return sorted(_methods(ours)), False


def _methods(file: descriptor_pb2.FileDescriptorProto) -> set[str]:
    return {f"{s.name}.{method.name}" for s in file.service for method in s.method}


def test_image(client: Client) -> Finding:
    """Times of a drawn test image at the annotator: medians, the first call apart, and stages where told."""
    image = drawn_face()
    annotators = [a.name for a in client.annotator.list_annotators(loaded_only=True)]

    def describe(*names: str) -> annotator_pb2.AnnotateImagesResponse:
        item = annotator_pb2.ImageItem(item_id="doctor", image=image)
        return client.annotator.annotate_images(
            annotator_pb2.AnnotateImagesRequest(images=[item], annotators=names)
        )

    started = time.perf_counter()
    face = describe().images[0].face
    first = time.perf_counter() - started
    before = metrics_page.read("annotator")
    seconds = {"all annotators": _median(describe), "first call": first}
    after = metrics_page.read("annotator")
    seconds["call without work"] = _median(
        functools.partial(client.annotator.list_annotators, loaded_only=True)
    )
    for name in annotators:
        seconds[name] = _median(functools.partial(describe, name))
    stages = after.since(before) if before and after else {}
    facts = {"seconds": seconds, "stage_seconds": stages, "repeats": REPEATS}
    detail = _milliseconds(seconds)
    if stages:
        detail += f"; stages: {_milliseconds(stages)}"
    if face.faces_found != 1:
        todo = "its detector does not find the drawn face: are its weights sound? fairloop models verify"
        return Finding("test image", "warn", detail, todo, facts)
    return Finding("test image", "ok", detail, facts=facts)


def _milliseconds(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{what} {value * 1e3:.3g} ms" for what, value in seconds.items())


def _median(call: Callable[[], Any]) -> float:
    def once() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return statistics.median(once() for _ in range(REPEATS))
