"""Where the servers are: options, the environment, and what a local stack wrote down, in this order."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fairloop.errors import (
    DeadlineExceeded,
    FairloopError,
    InvalidInput,
    Unauthenticated,
    Unavailable,
)

STATE = Path(".fairloop")
SERVICES = ("generator", "annotator", "recognizer", "metrics")

_TAKEN = ("FAIRLOOP_", "no_proxy", "NO_PROXY")
"""Of the file; a stack also writes what Prefect needs."""

_GRPC_NOISE = re.compile(r": connections to all backends failing; .*?([^: ][^:]*)$")
"""The address is said once already."""


def stack_environment(state: Path) -> dict[str, str]:
    """What a running local stack wrote for its clients; empty when there is none.

    Raises `InvalidInput` when the file is there and cannot be read.
    """
    path = state / "environment"
    try:
        words = shlex.split(path.read_text(), comments=True)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(
            "--state", f"{path} cannot be read ({error}); `make down up` writes it anew"
        ) from None
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    return {key: value for key, value in pairs.items() if key.startswith(_TAKEN)}


def parse_addresses(texts: Sequence[str]) -> dict[str, str]:
    """Variables of `service=host:port` options; `InvalidInput` says what is allowed."""
    found = {}
    for text in texts:
        service, _, address = text.partition("=")
        _, colon, port = address.rpartition(":")
        if service not in SERVICES or not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise InvalidInput(
                "--address",
                f"{text!r} is not SERVICE=HOST:PORT with SERVICE one of {', '.join(SERVICES)}, "
                "for example metrics=127.0.0.1:9314",
            )
        found[f"FAIRLOOP_{service.upper()}_ADDRESS"] = address
    return found


@contextlib.contextmanager
def surroundings(state: Path, addresses: Sequence[str] = ()) -> Iterator[Mapping[str, str]]:
    """The environment with the running stack's addresses where it names none, and the options' over both.

    Gives what the stack wrote. The environment is as before afterwards.
    """
    given = parse_addresses(addresses)
    written = stack_environment(state)
    before = dict(os.environ)
    os.environ.update({**written, **before, **given})
    try:
        yield written
    finally:
        for key in set(written) | set(given):
            if key in before:
                os.environ[key] = before[key]
            else:
                os.environ.pop(key, None)


def advice(error: FairloopError, service: str) -> str:
    """What to do about an error of a service; empty where its message says it, or nothing is known."""
    if isinstance(error, Unavailable):
        return (
            f"start it with `make up` in a checkout (or python -m services.{service}), "
            f"or say where it is: --address {service}=HOST:PORT"
        )
    if isinstance(error, DeadlineExceeded):
        return f"the {service} is there but does not answer: look at its log (a local stack's: {STATE}/logs)"
    if isinstance(error, Unauthenticated):
        return "set FAIRLOOP_TOKEN_FILE to the file that holds the server's token"
    return ""


def plain(error: FairloopError) -> str:
    """The error's message without gRPC's own account of how it tried."""
    return _GRPC_NOISE.sub(r" (\1)", str(error))


def advised(error: FairloopError, service: str) -> FairloopError:
    """The error with what to do about it."""
    error.message = "; ".join(filter(None, (plain(error), advice(error, service))))
    return error


def printable(text: str) -> str:
    """The text on one line, without characters that would move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
