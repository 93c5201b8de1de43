"""Messages whose bytes are none: an error of the request; gRPC would answer UNKNOWN with a traceback."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from fairloop.errors import InvalidInput

Deserializer = Callable[[bytes], Any]


@dataclass(frozen=True)
class Undecodable:
    """Stands for a message of so many bytes that cannot be decoded."""

    size: int


def tolerant(deserializer: Deserializer | None) -> Deserializer | None:
    """The deserializer, with `Undecodable` for what it cannot read."""
    if deserializer is None:
        return None

    def read(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError:
            return Undecodable(len(data))

    return read


def decoded(request: Any) -> Any:
    """The request, or the stream of requests, of a tolerant deserializer.

    Raises `InvalidInput` for a message that was none; a stream raises it where that message comes.
    """
    if isinstance(request, Undecodable):
        raise InvalidInput("request", f"{request.size} bytes that are no message of this method")
    return _each(request) if isinstance(request, AsyncIterable) else request


async def _each(requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield decoded(request)
