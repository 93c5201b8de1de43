"""`google.longrunning.Operations`: Get, List, Cancel, Wait. Every replica answers from the store."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Any

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2, timestamp_pb2
from google.protobuf.message import DecodeError
from grpc import aio

from fairloop import names
from fairloop.errors import DataLoss, InvalidInput, PreconditionFailed
from fairloop.serving.context import FLOW_RUN, current
from fairloop.serving.logs import log
from fairloop.serving.methods import Pools
from fairloop.serving.operation_store import StoredRequest, unpack_any, unpack_status
from fairloop.serving.pages import page
from fairloop.serving.record import SUCCEEDED, Record
from fairloop.serving.runner import Runner
from fairloop.v1 import common_pb2

logger = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 300.0


def timestamp(text: str) -> timestamp_pb2.Timestamp | None:
    """A protobuf timestamp of RFC 3339 text."""
    if not text:
        return None
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=None))
    return stamp


def to_operation(name: str, record: Record, request: StoredRequest | None) -> operations_pb2.Operation:
    """The wire form of the record that counts; `DataLoss` naming the operation when it has none."""
    try:
        return _to_operation(name, record, request)
    except (ValueError, TypeError, OverflowError, DecodeError) as error:
        # Times, numbers of the wire's range, messages in base64: what a JSON document cannot promise.
        raise DataLoss(
            f"{name}: its record cannot be read ({type(error).__name__})", operation=name
        ) from error


def _to_operation(name: str, record: Record, request: StoredRequest | None) -> operations_pb2.Operation:
    progress = record.progress
    metadata = common_pb2.OperationMetadata(
        method=request.method if request else "",
        state=f"OPERATION_STATE_{record.state}",
        attempt=record.attempt,
        owner=record.owner,
        stage=progress.stage,
        done=progress.done,
        total=progress.total,
        unit=progress.unit,
        rate=progress.rate,
        eta_seconds=progress.eta_seconds,
        create_time=timestamp(request.created if request else record.created),
        update_time=timestamp(record.updated),
        measures=dict(progress.measures),
        caller=request.caller if request else "",
        flow_run=request.origin.get(FLOW_RUN, "") if request else "",
    )
    operation = operations_pb2.Operation(name=name, done=record.final)
    operation.metadata.Pack(metadata)
    if record.state == SUCCEEDED:
        operation.response.CopyFrom(unpack_any(record.result))
    elif record.final:
        operation.error.CopyFrom(unpack_status(record.error))
    return operation


async def started(runner: Runner, method: str, request: Any) -> operations_pb2.Operation:
    """Starts the request on behalf of the caller; the reply of every long-running method."""
    name = await runner.start(method, request, current().caller)
    record = await runner.current(name)
    return to_operation(name, record, await runner.stored_request(name))


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]  # untyped package
    """gRPC in, plain calls out."""

    def __init__(self, runner: Runner, pools: Pools) -> None:
        self._runner = runner
        self._pools = pools

    def _checked(self, name: str) -> str:
        """A name of this service's operations: another service's are taken over by its own replicas."""
        service = names.check("operation", name, "name").removeprefix("operations/").partition("-")[0]
        if service != self._runner.service:
            raise InvalidInput(
                "name", f"{name} is an operation of the {service}, not of the {self._runner.service}"
            )
        return name

    async def _reply(self, name: str, record: Record) -> operations_pb2.Operation:
        return to_operation(name, record, await self._runner.stored_request(name))

    async def GetOperation(  # noqa: N802
        self, request: operations_pb2.GetOperationRequest, context: aio.ServicerContext[Any, Any]
    ) -> operations_pb2.Operation:
        name = self._checked(request.name)
        return await self._reply(name, await self._runner.current(name))

    async def ListOperations(  # noqa: N802
        self, request: operations_pb2.ListOperationsRequest, context: aio.ServicerContext[Any, Any]
    ) -> operations_pb2.ListOperationsResponse:
        if request.filter:
            raise InvalidInput("filter", f"{request.filter!r}: operations cannot be filtered; leave it empty")
        everything = await self._pools.io(lambda: sorted(self._runner.operations.names(self._runner.service)))
        found, token = page(everything, request.page_size, request.page_token, str)
        replies = await asyncio.gather(*(self._listed(name) for name in found))
        return operations_pb2.ListOperationsResponse(
            operations=[reply for reply in replies if reply is not None], next_page_token=token
        )

    async def _listed(self, name: str) -> operations_pb2.Operation | None:
        try:
            record = await self._pools.io(self._runner.operations.current, name)
            return None if record is None else await self._reply(name, record)
        except (DataLoss, PreconditionFailed) as error:
            # One record that nobody can read must not hide the others.
            log(logger, "unreadable operation", operation=name, reason=str(error))
            return None

    async def CancelOperation(  # noqa: N802
        self, request: operations_pb2.CancelOperationRequest, context: aio.ServicerContext[Any, Any]
    ) -> empty_pb2.Empty:
        await self._runner.cancel(self._checked(request.name))
        return empty_pb2.Empty()

    async def WaitOperation(  # noqa: N802
        self, request: operations_pb2.WaitOperationRequest, context: aio.ServicerContext[Any, Any]
    ) -> operations_pb2.Operation:
        name = self._checked(request.name)
        # Not as a timedelta: a duration may be longer than those can be.
        seconds = request.timeout.seconds if request.HasField("timeout") else 60.0
        seconds += request.timeout.nanos / 1e9
        record = await self._runner.wait(name, min(max(seconds, 0.0), LONGEST_WAIT_SECONDS))
        return await self._reply(name, record)
