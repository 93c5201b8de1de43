"""What the API's description promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.longrunning import operations_pb2
from google.protobuf import symbol_database
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor

from fairloop.v1 import annotator_pb2, common_pb2, generator_pb2, metrics_pb2, recognizer_pb2

FILES = [
    module.DESCRIPTOR for module in (annotator_pb2, common_pb2, generator_pb2, metrics_pb2, recognizer_pb2)
]
PROTOS = Path(__file__).resolve().parents[2] / "protos" / "fairloop" / "v1"
NAMED = re.compile(
    r"^\s*(service|rpc|message|enum|oneof|repeated|optional|map<|[\w.]+ \w+ = \d+;|[A-Z_0-9]+ = \d+;)"
)


@pytest.mark.parametrize("path", sorted(PROTOS.glob("*.proto")), ids=lambda path: path.name)
def test_everything_that_has_a_name_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    bare = [
        f"{path.name}:{number + 1}: {line.strip()}"
        for number, line in enumerate(lines)
        if NAMED.match(line)
        and not line.lstrip().startswith("//")
        and not lines[number - 1].strip().startswith("//")
    ]
    assert bare == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_operation_names_types_that_exist_and_its_start_takes_a_request_id(
    file: FileDescriptor,
) -> None:
    for service in file.services_by_name.values():
        for method in service.methods:
            if method.output_type.full_name != "google.longrunning.Operation":
                continue
            info = method.GetOptions().Extensions[operations_pb2.operation_info]
            known = symbol_database.Default().GetSymbol
            assert known(f"fairloop.v1.{info.response_type}")
            assert info.metadata_type == "OperationMetadata"
            fields = method.input_type.fields_by_name
            assert fields["request_id"].type == FieldDescriptor.TYPE_STRING
            assert fields["detached"].type == FieldDescriptor.TYPE_BOOL


def test_every_enum_begins_with_what_is_unspecified() -> None:
    for file in FILES:
        for enum in file.enum_types_by_name.values():
            assert enum.values[0].number == 0
            assert enum.values[0].name.endswith("_UNSPECIFIED")
