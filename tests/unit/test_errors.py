"""Exceptions travel as `google.rpc.Status` and come back as what was raised."""

from __future__ import annotations

import pickle
import re
from typing import Self

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from fairloop import errors
from fairloop.errors import FairloopError, InvalidInput, Violation, from_rpc, from_status, to_status

CODES = {
    "InvalidInput": grpc.StatusCode.INVALID_ARGUMENT,
    "NotFound": grpc.StatusCode.NOT_FOUND,
    "AlreadyExists": grpc.StatusCode.ALREADY_EXISTS,
    "PreconditionFailed": grpc.StatusCode.FAILED_PRECONDITION,
    "Unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "PermissionDenied": grpc.StatusCode.PERMISSION_DENIED,
    "Exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "Cancelled": grpc.StatusCode.CANCELLED,
    "DeadlineExceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "Unavailable": grpc.StatusCode.UNAVAILABLE,
    "DataLoss": grpc.StatusCode.DATA_LOSS,
    "Internal": grpc.StatusCode.INTERNAL,
}
SIMPLE = sorted(CODES.keys() - {"InvalidInput"})

# What is not printable comes back as escapes.
texts = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=40)


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def test_every_exception_of_the_tree_is_in_the_table_of_its_docstring_and_has_its_code() -> None:
    kinds = {kind.__name__: kind for kind in FairloopError.__subclasses__()}
    assert kinds.keys() == CODES.keys()
    drawn = dict(re.findall(r"[├└]── (\w+) +([A-Z_]+)", errors.__doc__ or ""))
    assert drawn == {name: code.name for name, code in CODES.items()}
    assert {name: kind.code for name, kind in kinds.items()} == {n: c.value[0] for n, c in CODES.items()}


@pytest.mark.parametrize("name", SIMPLE)
@given(message=texts, metadata=st.dictionaries(st.sampled_from(["resource", "shard", "step"]), texts))
def test_an_exception_comes_back_as_what_it_was(name: str, message: str, metadata: dict[str, str]) -> None:
    kind: type[FairloopError] = getattr(errors, name)
    back = from_status(to_status(kind(message, **metadata)))
    assert type(back) is kind
    assert (back.message, str(back), back.metadata) == (message, message, metadata)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_every_violation_of_an_invalid_input_comes_back_in_order(pairs: list[tuple[str, str]]) -> None:
    (field, description), *rest = pairs
    error = InvalidInput(field, description, *(Violation(*pair) for pair in rest), cell="gender=female")
    back = from_status(to_status(error))
    assert isinstance(back, InvalidInput)
    assert back.violations == tuple(Violation(*pair) for pair in pairs)
    assert back.metadata == {"cell": "gender=female"}
    assert str(back) == "; ".join(f"{f}: {d}" for f, d in pairs)


def test_a_status_carries_error_info_and_bad_request_as_aip_193_asks() -> None:
    status = to_status(InvalidInput("seed", "-1 is not in 0–9223372036854775807", step="3"))
    assert status.code == code_pb2.INVALID_ARGUMENT
    info = info_of(status)
    assert (info.reason, info.domain, dict(info.metadata)) == ("INVALID_ARGUMENT", "fairloop", {"step": "3"})
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("seed", "-1 is not in 0–9223372036854775807")
    ]


@pytest.mark.parametrize(
    "foreign",
    [
        ValueError("/srv/secrets/token holds hunter2"),
        KeyError("hunter2"),
        FileNotFoundError(2, "No such file", "/srv/hunter2"),
        KeyboardInterrupt("hunter2"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_foreign_exception_becomes_internal_without_its_text(foreign: BaseException) -> None:
    status = to_status(foreign)
    assert status.code == code_pb2.INTERNAL
    assert b"hunter2" not in status.SerializeToString()
    assert b"/srv" not in status.SerializeToString()
    assert type(foreign).__name__ in status.message
    assert isinstance(from_status(status), errors.Internal)


def test_a_code_that_we_never_raise_is_kept_on_the_root_exception() -> None:
    back = from_status(status_pb2.Status(code=code_pb2.OUT_OF_RANGE, message="past the end"))
    assert type(back) is FairloopError
    assert (back.code, str(back)) == (code_pb2.OUT_OF_RANGE, "past the end")
    assert to_status(back).code == code_pb2.OUT_OF_RANGE


def test_an_invalid_argument_of_another_server_becomes_an_invalid_input_on_the_request() -> None:
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="bad page token")
    stranger = any_pb2.Any()
    stranger.Pack(error_details_pb2.RetryInfo())
    status.details.append(stranger)
    back = from_status(status)
    assert isinstance(back, InvalidInput)
    assert back.violations == (Violation("request", "bad page token"),)


@pytest.mark.parametrize("name", sorted(CODES))
def test_exceptions_pickle(name: str) -> None:
    kind = getattr(errors, name)
    error = kind("seed", "is negative", shard="3") if kind is InvalidInput else kind("gone", shard="3")
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.metadata) == (kind, str(error), {"shard": "3"})


class Answer(grpc.RpcError):
    """A failed call as gRPC hands it to the caller."""

    def __init__(
        self, code: grpc.StatusCode, details: str | None, trailing: tuple[tuple[str, str | bytes], ...] | None
    ) -> None:
        self._code, self._details, self._trailing = code, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        return self._trailing


def test_a_failed_call_without_our_status_is_translated_by_its_code() -> None:
    back = from_rpc(Answer(grpc.StatusCode.UNAVAILABLE, "connection refused", None))
    assert isinstance(back, errors.Unavailable)
    assert str(back) == "connection refused"
    assert isinstance(from_rpc(Answer(grpc.StatusCode.DEADLINE_EXCEEDED, None, ())), errors.DeadlineExceeded)


def test_a_failed_call_whose_status_is_not_ours_is_translated_by_its_code() -> None:
    trailing = (("grpc-status-details-bin", b"\xff\xff not a status"),)
    back = from_rpc(Answer(grpc.StatusCode.PERMISSION_DENIED, "the proxy says no", trailing))
    assert isinstance(back, errors.PermissionDenied)
    assert str(back) == "the proxy says no"


class Failing:
    """A real server whose only method fails with what it was told."""

    def __init__(self) -> None:
        self.error: BaseException = Exception()
        self.server = aio.server()

    async def _fail(self, request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.abort_with_status(rpc_status.to_status(to_status(self.error)))
        return b""

    async def __aenter__(self) -> Self:
        handler = grpc.unary_unary_rpc_method_handler(self._fail)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Failing", {"Fail": handler}),)
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop(None)

    async def raised(self, error: BaseException) -> FairloopError:
        self.error = error
        async with aio.insecure_channel(self.address) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary("/test.Failing/Fail")(b"")
        return from_rpc(caught.value)


async def test_a_client_gets_what_the_server_raised() -> None:
    async with Failing() as server:
        missing = await server.raised(errors.NotFound("models/x does not exist", model="models/x"))
        wrong = await server.raised(InvalidInput("guidance", "400 is outside 1–30", Violation("seed", "-1")))
    assert isinstance(missing, errors.NotFound)
    assert missing.metadata == {"model": "models/x"}
    assert isinstance(wrong, InvalidInput)
    assert wrong.violations == (Violation("guidance", "400 is outside 1–30"), Violation("seed", "-1"))


async def test_an_error_that_quotes_a_long_input_still_arrives_as_itself() -> None:
    """gRPC takes 8 KiB of trailing metadata; what is longer arrives as RESOURCE_EXHAUSTED."""
    quoted = InvalidInput(
        "name",
        "'" + "語" * 50_000 + "' is not the name of a dataset",
        *[Violation("field " * 100, "é" * 5_000)] * 20,
        resource="r" * 9_000,
    )
    async with Failing() as server:
        back = await server.raised(quoted)
    assert isinstance(back, InvalidInput)
    assert back.violations[0].field == "name"
    assert back.violations[0].description.startswith("'語")
    assert back.violations[0].description.endswith("is not the name of a dataset")
