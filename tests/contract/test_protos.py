"""What a client author can rely on: comments, operation types, standard fields, and what servers answer."""

from __future__ import annotations

import importlib
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from fairloop.client import AnnotatorClient, progress_of
from fairloop.errors import Cancelled, InvalidInput, NotFound, from_rpc, from_status
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1.annotator_pb2 import AnnotateRequest, AnnotateResult
from tests.support.processes import Process, start_service
from tests.support.progress import state_is, wait_until

PROTOS = Path(__file__).parents[2] / "protos"
FILES = sorted(path.stem for path in (PROTOS / "fairloop" / "v1").glob("*.proto"))
MODULES = [importlib.import_module(f"fairloop.v1.{name}_pb2") for name in FILES]

_SCOPE = re.compile(r"(service|message|enum|oneof)\s+(\w+)\s*\{")
_RPC = re.compile(r"rpc\s+(\w+)\s*\(")
_FIELD = re.compile(r"(?:repeated\s+|optional\s+)?(?:map<[^>]+>|[\w.]+)\s+(\w+)\s*=\s*\d+\s*[;\[]")
_VALUE = re.compile(r"([A-Z][A-Z0-9_]*)\s*=\s*\d+\s*[;\[]")


def declared(text: str) -> dict[str, bool]:
    """Full name of everything that a proto file declares, and whether a comment stands above it."""
    found: dict[str, bool] = {}
    scopes: list[tuple[str, str]] = []
    comment = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("//"):
            comment = len(line.removeprefix("//").strip()) > 0
            continue
        scope = _SCOPE.match(line)
        inside = scopes[-1][0] if scopes else ""
        pattern = {"service": _RPC, "enum": _VALUE, "message": _FIELD, "oneof": _FIELD}.get(inside)
        member = pattern.match(line) if pattern else None
        # A oneof is no scope of names: its fields are the message's.
        path = [name for kind, name in scopes if kind not in ("oneof", "block")]
        if scope:
            found[".".join([*path, scope[2]])] = comment
            scopes.append((scope[1], scope[2]))
        else:
            if member:
                found[".".join([*path, member[1]])] = comment
            scopes += [("block", "")] * line.count("{")
        for _ in range(line.count("}")):
            scopes.pop()
        if line:
            comment = False
    assert scopes == [], "every brace is closed"
    return found


def described(file: FileDescriptor) -> set[str]:
    """The same names as the stubs know them."""
    names: set[str] = set()

    def message(found: Descriptor, prefix: str) -> None:
        if found.GetOptions().map_entry:
            return
        name = prefix + found.name
        names.add(name)
        names.update(f"{name}.{field.name}" for field in found.fields)
        # `optional` makes a oneof of its own behind the scenes.
        names.update(f"{name}.{one.name}" for one in found.oneofs if not one.name.startswith("_"))
        for inner in found.nested_types:
            message(inner, f"{name}.")

    for found in file.message_types_by_name.values():
        message(found, "")
    for enum in file.enum_types_by_name.values():
        names.update([enum.name, *(f"{enum.name}.{value.name}" for value in enum.values)])
    for service in file.services_by_name.values():
        names.update([service.name, *(f"{service.name}.{method.name}" for method in service.methods)])
    return names


def methods() -> list[MethodDescriptor]:
    return [
        method
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def starts() -> list[MethodDescriptor]:
    return [m for m in methods() if m.output_type.full_name == "google.longrunning.Operation"]


@pytest.mark.parametrize("name", FILES)
def test_everything_that_is_declared_has_a_comment(name: str) -> None:
    found = declared((PROTOS / "fairloop" / "v1" / f"{name}.proto").read_text())
    module = MODULES[FILES.index(name)]
    assert found.keys() == described(module.DESCRIPTOR), "the stubs are of these protos"
    assert [member for member, commented in found.items() if not commented] == []


@pytest.mark.parametrize("name", FILES)
def test_stubs_import_and_lie_where_their_package_says(name: str) -> None:
    grpc_stubs = importlib.import_module(f"fairloop.v1.{name}_pb2_grpc")
    module = MODULES[FILES.index(name)]
    assert module.DESCRIPTOR.package == "fairloop.v1"
    assert module.DESCRIPTOR.name == f"fairloop/v1/{name}.proto"
    for service in module.DESCRIPTOR.services_by_name:
        assert hasattr(grpc_stubs, f"{service}Stub")
        assert hasattr(grpc_stubs, f"add_{service}Servicer_to_server")


def test_there_are_operations_in_every_service_of_the_design() -> None:
    assert {m.containing_service.name for m in starts()} == {
        "GeneratorService",
        "AnnotatorService",
        "RecognizerService",
        "MetricsService",
    }


@pytest.mark.parametrize("method", starts(), ids=lambda m: m.full_name)
def test_a_start_names_its_result_and_its_metadata(method: MethodDescriptor) -> None:
    info = method.GetOptions().Extensions[operations_pb2.operation_info]
    types = method.containing_service.file.message_types_by_name
    assert info.response_type in types
    assert info.metadata_type == "OperationMetadata"
    assert "OperationMetadata" in importlib.import_module("fairloop.v1.common_pb2").__dict__


@pytest.mark.parametrize("method", starts(), ids=lambda m: m.full_name)
def test_a_start_can_be_repeated_and_detached(method: MethodDescriptor) -> None:
    fields = method.input_type.fields_by_name
    assert fields["request_id"].type == FieldDescriptor.TYPE_STRING
    assert fields["detached"].type == FieldDescriptor.TYPE_BOOL


@pytest.mark.parametrize(
    "method", [m for m in methods() if m.name == "ListModels"], ids=lambda m: m.full_name
)
def test_lists_that_grow_have_pages(method: MethodDescriptor) -> None:
    assert method.input_type.fields_by_name["page_size"].type == FieldDescriptor.TYPE_INT32
    assert method.input_type.fields_by_name["page_token"].type == FieldDescriptor.TYPE_STRING
    assert method.output_type.fields_by_name["next_page_token"].type == FieldDescriptor.TYPE_STRING


def test_enums_begin_with_unspecified_and_carry_their_name() -> None:
    enums = [enum for module in MODULES for enum in module.DESCRIPTOR.enum_types_by_name.values()]
    assert {enum.name for enum in enums} >= {"FaceStatus", "OperationState"}
    for enum in enums:
        prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper()
        assert enum.values_by_number[0].name == f"{prefix}_UNSPECIFIED"
        assert all(value.name.startswith(f"{prefix}_") for value in enum.values)


# A server answers to what the protos promise.


@pytest.fixture(scope="module")
def server(
    s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Process, AnnotatorClient]]:
    bucket = f"contract-{uuid.uuid4().hex[:12]}"
    ObjectStore(
        StoreSettings(
            s3["FAIRLOOP_S3_ENDPOINT"], s3["FAIRLOOP_S3_ACCESS_KEY"], s3["FAIRLOOP_S3_SECRET_KEY"], bucket
        )
    ).ensure_bucket()
    process, address = start_service(
        "tests.support.counting_server",
        tmp_path_factory.mktemp("contract"),
        {**s3, "FAIRLOOP_S3_BUCKET": bucket},
    )
    yield process, AnnotatorClient("annotator", address)
    process.stop()


@pytest.fixture(scope="module")
def client(server: tuple[Process, AnnotatorClient]) -> AnnotatorClient:
    return server[1]


@pytest.fixture(scope="module")
def operations(client: AnnotatorClient) -> Any:
    return operations_pb2_grpc.OperationsStub(client.channel)


def request(count: int, request_id: str, *, detached: bool = False) -> AnnotateRequest:
    return AnnotateRequest(
        dataset="datasets/none/versions/0123456789abcdef",
        annotators=[f"a{i}" for i in range(count)],
        request_id=request_id,
        detached=detached,
    )


def error_of(call: Any, message: Any) -> Exception:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=30)
    return from_rpc(caught.value)


def test_reflection_lists_the_services_and_describes_them(client: AnnotatorClient) -> None:
    found = ProtoReflectionDescriptorDatabase(client.channel)
    assert set(found.get_services()) == {
        "fairloop.v1.AnnotatorService",
        "google.longrunning.Operations",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    file = found.FindFileContainingSymbol("fairloop.v1.AnnotatorService")
    assert file.name == "fairloop/v1/annotator.proto"
    assert found.FindFileByName("google/longrunning/operations.proto").package == "google.longrunning"


def test_health_says_serving_for_the_server_and_for_its_service(client: AnnotatorClient) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "fairloop.v1.AnnotatorService"):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_streams_that_their_callers_leave_do_not_end_the_server(
    server: tuple[Process, AnnotatorClient],
) -> None:
    """A stream is closed after gRPC gave its call back: what is logged then must not ask the call."""
    process, client = server
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    for _ in range(300):
        call = stub.ServerReflectionInfo(iter([asked]))
        assert next(call).list_services_response.service
        call.cancel()
    stub_of_health = health_pb2_grpc.HealthStub(client.channel)
    reply = stub_of_health.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    assert process.alive()


def test_get_and_wait_tell_the_same_of_a_finished_operation(client: AnnotatorClient, operations: Any) -> None:
    operation = client.annotate(request(3, "get-and-wait"))
    result = operation.result(60)
    got = operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name), timeout=30)
    waited = operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name), timeout=30)
    assert got == waited
    assert got.done
    unpacked = AnnotateResult()
    assert got.response.Unpack(unpacked)
    assert unpacked == result
    progress = progress_of(got)
    assert (progress.state, progress.attempt, progress.done, progress.total) == ("SUCCEEDED", 1, 3, 3)


def test_wait_returns_when_its_time_is_over(client: AnnotatorClient, operations: Any) -> None:
    operation = client.annotate(request(200, "wait-returns", detached=True))
    wait = operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(nanos=10_000_000))
    assert not operations.WaitOperation(wait, timeout=30).done
    operation.cancel()
    with pytest.raises(Cancelled):
        operation.result(60)


def test_cancel_ends_a_running_operation_and_is_fine_with_one_that_has_ended(
    client: AnnotatorClient, operations: Any
) -> None:
    operation = client.annotate(request(200, "cancel"))
    wait_until(operation, state_is("RUNNING"))
    cancel = operations_pb2.CancelOperationRequest(name=operation.name)
    operations.CancelOperation(cancel, timeout=30)
    ended = operations.WaitOperation(
        operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=30)), timeout=60
    )
    assert ended.done
    assert isinstance(from_status(ended.error), Cancelled)
    operations.CancelOperation(cancel, timeout=30)
    again = operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name), timeout=30)
    assert again == ended


def test_list_has_pages_that_together_are_every_operation_once(
    client: AnnotatorClient, operations: Any
) -> None:
    started = {client.annotate(request(1, f"list-{i}")).name for i in range(5)}
    names: list[str] = []
    sizes: list[int] = []
    token = ""
    while True:
        page = operations.ListOperations(
            operations_pb2.ListOperationsRequest(name="operations", page_size=2, page_token=token), timeout=30
        )
        names += [operation.name for operation in page.operations]
        sizes.append(len(page.operations))
        token = page.next_page_token
        if not token:
            break
    assert names == sorted(set(names))
    assert started <= set(names)
    assert set(sizes[:-1]) == {2}
    everything = operations.ListOperations(operations_pb2.ListOperationsRequest(), timeout=30)
    assert [operation.name for operation in everything.operations] == names


@pytest.mark.parametrize("name", ["operations/x", "operations/../x", "", "reports/0123456789abcdef"])
def test_what_is_no_operation_is_refused_by_each_call_with_the_field(operations: Any, name: str) -> None:
    for call, message in (
        (operations.GetOperation, operations_pb2.GetOperationRequest(name=name)),
        (operations.CancelOperation, operations_pb2.CancelOperationRequest(name=name)),
        (operations.WaitOperation, operations_pb2.WaitOperationRequest(name=name)),
    ):
        error = error_of(call, message)
        assert isinstance(error, InvalidInput)
        assert error.violations[0].field == "name"
        assert repr(name) in error.violations[0].description


def test_an_operation_that_was_never_started_is_not_found(operations: Any) -> None:
    name = "operations/annotator-" + "a" * 26
    error = error_of(operations.GetOperation, operations_pb2.GetOperationRequest(name=name))
    assert isinstance(error, NotFound)
    assert error.metadata == {"operation": name}


def test_another_services_operation_is_left_to_that_service(operations: Any) -> None:
    name = "operations/generator-" + "a" * 26
    error = error_of(operations.WaitOperation, operations_pb2.WaitOperationRequest(name=name))
    assert isinstance(error, InvalidInput)
    assert f"{name} is an operation of the generator, not of the annotator" in str(error)


def test_a_wrong_page_or_filter_is_refused(operations: Any) -> None:
    for message, field in (
        (operations_pb2.ListOperationsRequest(page_size=1_001), "page_size"),
        (operations_pb2.ListOperationsRequest(page_size=-1), "page_size"),
        (operations_pb2.ListOperationsRequest(filter="done=true"), "filter"),
    ):
        error = error_of(operations.ListOperations, message)
        assert isinstance(error, InvalidInput)
        assert error.violations[0].field == field
