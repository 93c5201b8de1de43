"""Bearer tokens: who holds which, what it allows, until when.

A tokens file holds one token and nothing else (scope `run`, holder `caller`), or one JSON object a line:

    {"token": "…", "holder": "nightly", "scope": "run", "expires": "2027-01-31T00:00:00Z"}

`scope` is read (Get, List, Wait and quick calls), run (starts and cancels, too) or internal (calls
between services, too); `expires` may be left out. A holder may have several tokens: while one replaces
another, operation ids, which are made from the holder's name, stay the same.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool

from fairloop.errors import InvalidInput, PermissionDenied, Unauthenticated
from fairloop.manifest import Clock, rfc3339, utc_now
from fairloop.serving.files import Watched
from fairloop.store import read_secret

READ, RUN, INTERNAL = "read", "run", "internal"
SCOPES = (READ, RUN, INTERNAL)
"""Each allows what those before it do."""

PLAIN_HOLDER = "caller"
_TOKEN = re.compile(r"[\x21-\x7e]+")
_HOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEYS = {"token", "holder", "scope", "expires"}
_CHANGES = {"CancelOperation", "DeleteOperation"}
_OPERATION = operations_pb2.Operation.DESCRIPTOR.full_name
_OPERATIONS = "google.longrunning.Operations"
_SHARDS = "fairloop.v1.ShardService"


@dataclass(frozen=True)
class Token:
    """One token. What is kept of it is its sha256, except where a server has to send it."""

    holder: str
    scope: str
    expires: datetime | None = None
    digest: bytes = field(default=b"", repr=False)

    def expired(self, now: datetime) -> bool:
        return self.expires is not None and now >= self.expires


def digest(token: str) -> bytes:
    """What is kept of a token and compared."""
    return hashlib.sha256(token.encode()).digest()


def read_tokens(path: Path, variable: str, scope: str = RUN, holder: str = PLAIN_HOLDER) -> list[Token]:
    """The tokens of a file; a plain one-token file is of this scope and holder.

    `InvalidInput` names the variable, the file and the line, and never quotes what is in it.
    """
    text = read_secret(path, variable)
    if not text.startswith("{"):
        return [Token(holder, scope, None, digest(check_token(text, variable, str(path))))]
    found: list[Token] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        token = _entry(line, variable, f"{path} line {number}")
        if any(token.digest == other.digest for other in found):
            raise InvalidInput(variable, f"{path} line {number}: the token of {token.holder} is there twice")
        found.append(token)
    return found


def read_plain(path: Path, variable: str) -> str:
    """The one token of a file, to be sent; a list of several is no such file."""
    return check_token(read_secret(path, variable), variable, str(path))


def check_token(text: str, variable: str, where: str) -> str:
    """The token itself; `InvalidInput` when it cannot be sent as one."""
    if text.startswith("{"):
        raise InvalidInput(
            variable, f"{where} is a list of tokens for servers; what is sent is one plain token"
        )
    if not _TOKEN.fullmatch(text):
        raise InvalidInput(
            variable, f"{where}: a token is one line of printable ASCII characters without spaces"
        )
    return text


def _entry(line: str, variable: str, where: str) -> Token:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInput(variable, f"{where} is not a JSON object") from None
    if not isinstance(entry, dict):
        raise InvalidInput(variable, f"{where} is not a JSON object")
    if not set(entry) <= _KEYS or not {"token", "holder", "scope"} <= set(entry):
        raise InvalidInput(variable, f"{where}: the keys are token, holder, scope and, if wanted, expires")
    for key, value in entry.items():
        if not isinstance(value, str):
            raise InvalidInput(variable, f"{where}: {key} is not text")
    if not _HOLDER.fullmatch(entry["holder"]):
        raise InvalidInput(
            variable, f"{where}: a holder is up to 64 letters, digits and . _ @ -, a letter or digit first"
        )
    if entry["scope"] not in SCOPES:
        raise InvalidInput(variable, f"{where}: scope is not one of {', '.join(SCOPES)}")
    token = digest(check_token(entry["token"], variable, where))
    return Token(entry["holder"], entry["scope"], _time(entry.get("expires"), variable, where), token)


def _time(text: str | None, variable: str, where: str) -> datetime | None:
    if text is None:
        return None
    wrong = InvalidInput(variable, f"{where}: expires is not a time with zone such as 2027-01-31T00:00:00Z")
    try:
        expires = datetime.fromisoformat(text)
    except ValueError:
        raise wrong from None
    if expires.tzinfo is None:
        raise wrong
    return expires


class Tokens:
    """The tokens that a server takes, read again when their file changes."""

    def __init__(self, files: Sequence[Watched[list[Token]]], clock: Clock = utc_now) -> None:
        self._files = files
        self._clock = clock

    def check(self, sent: str, method: str) -> Token:
        """The token that was sent, if it allows the method.

        `Unauthenticated` for none, a wrong or an expired one; `PermissionDenied` for too little scope.
        Both say which scope is needed. Every token is compared whichever matches, by digests of one
        length, so that the time taken says nothing about the right ones.
        """
        needed = needed_scope(method)
        if not sent:
            raise Unauthenticated(
                f"send a bearer token of scope {needed} in the metadata key authorization",
                required_scope=needed,
            )
        offered = digest(sent)
        matching = [
            token
            for watched in self._files
            for token in watched.value()
            if hmac.compare_digest(token.digest, offered)
        ]
        if not matching:
            raise Unauthenticated("this server does not know the bearer token sent", required_scope=needed)
        token = matching[0]
        if token.expires is not None and token.expired(self._clock()):
            raise Unauthenticated(
                f"the token of {token.holder} expired at {rfc3339(token.expires)}",
                required_scope=needed,
                holder=token.holder,
            )
        if SCOPES.index(token.scope) < SCOPES.index(needed):
            raise PermissionDenied(
                f"{method.rpartition('/')[2]} needs a token of scope {needed}; "
                f"that of {token.holder} is of scope {token.scope}",
                required_scope=needed,
                scope=token.scope,
                holder=token.holder,
            )
        return token


@lru_cache(maxsize=256)
def needed_scope(method: str) -> str:
    """The scope that `/package.Service/Method` asks for; what is not known to the schema is for nobody else.

    What returns an operation starts one.
    """
    service, _, name = method.removeprefix("/").partition("/")
    try:
        found = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
    except KeyError:
        return INTERNAL
    if service == _SHARDS:
        return INTERNAL
    if service == _OPERATIONS:
        return RUN if name in _CHANGES else READ
    return RUN if found.output_type.full_name == _OPERATION else READ
