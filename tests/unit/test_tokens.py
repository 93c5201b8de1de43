"""Tokens files: what they may hold, whom they let do what."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fairloop.errors import FairloopError, InvalidInput, PermissionDenied, Unauthenticated
from fairloop.serving import files
from fairloop.serving.files import Watched
from fairloop.serving.security import read_security
from fairloop.serving.settings import ServerSettings
from fairloop.serving.tokens import SCOPES, Tokens, needed_scope, read_plain, read_tokens
from fairloop.v1 import annotator_pb2_grpc, common_pb2_grpc, generator_pb2_grpc, metrics_pb2_grpc

VARIABLE = "FAIRLOOP_TOKEN_FILE"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SCHEMA = (annotator_pb2_grpc, common_pb2_grpc, generator_pb2_grpc, metrics_pb2_grpc)
"""Imported: scopes are read from what is registered."""

READS = [
    "/fairloop.v1.AnnotatorService/AnnotateImages",
    "/fairloop.v1.AnnotatorService/StreamAnnotate",
    "/fairloop.v1.GeneratorService/ListModels",
    "/fairloop.v1.MetricsService/ComputeSummary",
    "/google.longrunning.Operations/GetOperation",
    "/google.longrunning.Operations/ListOperations",
    "/google.longrunning.Operations/WaitOperation",
]
RUNS = [
    "/fairloop.v1.AnnotatorService/Annotate",
    "/fairloop.v1.GeneratorService/Generate",
    "/fairloop.v1.GeneratorService/FineTune",
    "/fairloop.v1.MetricsService/RenderReport",
    "/google.longrunning.Operations/CancelOperation",
    "/google.longrunning.Operations/DeleteOperation",
]
INTERNALS = ["/fairloop.v1.ShardService/RunShard", "/fairloop.v1.NoService/NoMethod", "nonsense", ""]


def entry(**changes: object) -> str:
    return json.dumps({"token": "t-1", "holder": "nightly", "scope": "run", **changes})


def tokens_of(path: Path, now: Callable[[], datetime] = lambda: NOON) -> Tokens:
    return Tokens([Watched("tokens", [path], lambda: read_tokens(path, VARIABLE))], now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_a_file_with_one_token_lets_its_holder_run(path: Path) -> None:
    path.write_text("plain-token\n")
    found = tokens_of(path).check("plain-token", RUNS[0])
    assert (found.holder, found.scope, found.expires) == ("caller", "run", None)


def test_each_line_is_a_token_of_its_own(path: Path) -> None:
    path.write_text(
        f"{entry()}\n\n{entry(token='t-2', holder='dashboard', scope='read')}\n"
        f"{entry(token='t-3', expires='2027-01-31T00:00:00Z')}\n"
    )
    tokens = tokens_of(path)
    assert tokens.check("t-1", RUNS[0]).holder == "nightly"
    assert tokens.check("t-2", READS[0]).holder == "dashboard"
    # While one token replaces another, both are the same holder's: operation ids stay.
    assert tokens.check("t-3", RUNS[0]).holder == "nightly"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_allows_its_own_methods_and_those_of_the_lesser_scopes(scope: str, path: Path) -> None:
    path.write_text(entry(scope=scope))
    tokens = tokens_of(path)
    for needed, methods in zip(SCOPES, (READS, RUNS, INTERNALS), strict=True):
        for method in methods:
            assert needed_scope(method) == needed
            if SCOPES.index(scope) >= SCOPES.index(needed):
                assert tokens.check("t-1", method).scope == scope
                continue
            with pytest.raises(PermissionDenied, match=f"needs a token of scope {needed}") as caught:
                tokens.check("t-1", method)
            assert caught.value.metadata == {"required_scope": needed, "scope": scope, "holder": "nightly"}


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ("", "send a bearer token of scope run"),
        ("wrong", "does not know the bearer token"),
        ("t-", "does not know the bearer token"),
        ("t-11", "does not know the bearer token"),
        ("T-1", "does not know the bearer token"),
        ("\u2603", "does not know the bearer token"),
        ("x" * 100_000, "does not know the bearer token"),
        ("t-old", "the token of nightly expired at 2026-11-22T12:00:00Z"),
    ],
)
def test_a_token_that_is_missing_wrong_or_expired_is_refused_with_the_scope_needed(
    sent: str, says: str, path: Path
) -> None:
    path.write_text(f"{entry()}\n{entry(token='t-old', expires='2026-11-22T13:00:00+01:00')}")
    with pytest.raises(Unauthenticated, match=says) as caught:
        tokens_of(path).check(sent, RUNS[0])
    assert caught.value.metadata["required_scope"] == "run"
    assert not sent or sent not in str(caught.value)


def test_a_token_is_good_until_it_expires(path: Path) -> None:
    path.write_text(entry(expires="2026-11-22T12:00:01Z"))
    assert tokens_of(path).check("t-1", RUNS[0]).holder == "nightly"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("secret-1 secret-2", "one line of printable ASCII"),
        ("secret-1\nsecret-2", "one line of printable ASCII"),
        ("secret-ß", "one line of printable ASCII"),
        ('{"token": "secret-1"', "line 1 is not a JSON object"),
        (f"{entry()}\nsecret-2", "line 2 is not a JSON object"),
        (f"{entry()}\n[1]", "line 2 is not a JSON object"),
        (entry(scope="admin"), "line 1: scope is not one of read, run, internal"),
        (entry(scope=1), "line 1: scope is not text"),
        (entry(token=""), "line 1: a token is one line"),
        (entry(token="secret 1"), "line 1: a token is one line"),
        (entry(holder="a\nb"), "line 1: a holder is up to 64"),
        (entry(holder="x" * 65), "line 1: a holder is up to 64"),
        (entry(expires="tomorrow"), "line 1: expires is not a time with zone"),
        (entry(expires="2027-01-31T00:00:00"), "line 1: expires is not a time with zone"),
        (entry(expire="2027-01-31T00:00:00Z"), "line 1: the keys are token, holder, scope"),
        ('{"token": "secret-1", "scope": "run"}', "line 1: the keys are token, holder, scope"),
        (f"{entry()}\n{entry(holder='other')}", "line 2: the token of other is there twice"),
        ('{"a":' * 100_000, "line 1 is not a JSON object"),
        ("", "is empty"),
    ],
)
def test_a_wrong_tokens_file_is_named_with_the_line_and_never_quoted(
    content: str, says: str, path: Path
) -> None:
    path.write_text(content)
    with pytest.raises(InvalidInput) as caught:
        read_tokens(path, VARIABLE)
    violation = caught.value.violations[0]
    assert violation.field == VARIABLE
    assert str(path) in violation.description
    assert says in violation.description
    assert "secret" not in violation.description
    assert "t-1" not in violation.description.removeprefix(str(path))


def test_a_token_is_not_shown_by_what_holds_it(path: Path) -> None:
    path.write_text(entry(token="hunter2-hunter2"))
    assert "hunter2" not in repr(read_tokens(path, VARIABLE))


def test_what_is_sent_is_one_plain_token(path: Path) -> None:
    path.write_text("plain-token\n")
    assert read_plain(path, VARIABLE) == "plain-token"
    path.write_text(entry())
    with pytest.raises(InvalidInput, match="is a list of tokens for servers"):
        read_plain(path, VARIABLE)


def test_a_file_that_changes_is_read_again_and_one_that_breaks_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.0)
    path.write_text(entry())
    tokens = tokens_of(path)

    def refuses(token: str) -> bool:
        try:
            tokens.check(token, RUNS[0])
        except FairloopError:
            return True
        return False

    for content, good, bad in (
        (entry(token="t-2"), "t-2", "t-1"),
        ("{broken", "t-2", "t-1"),
        (entry(token="t-3", holder="a"), "t-3", "t-2"),
    ):
        path.with_suffix(".new").write_text(content)
        os.replace(path.with_suffix(".new"), path)
        assert not refuses(good)
        assert refuses(bad)
    path.unlink()
    assert not refuses("t-3")


def test_replicas_that_ask_for_tokens_need_one_to_call_each_other(path: Path, tmp_path: Path) -> None:
    path.write_text("plain-token")
    with pytest.raises(InvalidInput, match="FAIRLOOP_INTERNAL_TOKEN_FILE: is not set, while FAIRLOOP_PEERS"):
        read_security(ServerSettings(token_file=path, peers="10.0.0.1:9312"))  # type: ignore[call-arg]
    internal = tmp_path / "internal"
    internal.write_text("internal-token")
    settings = ServerSettings(token_file=path, internal_token_file=internal, peers="10.0.0.1:9312")  # type: ignore[call-arg]
    security = read_security(settings)
    assert security.tokens is not None
    assert security.internal_token() == "internal-token"
    assert security.tokens.check("internal-token", INTERNALS[0]).holder == "internal"


def test_a_server_alone_calls_itself_with_a_token_that_nobody_else_has(path: Path) -> None:
    path.write_text("plain-token")
    first, second = (read_security(ServerSettings(token_file=path)) for _ in range(2))  # type: ignore[call-arg]
    assert first.tokens is not None
    assert first.tokens.check(first.internal_token(), INTERNALS[0]).scope == "internal"
    with pytest.raises(PermissionDenied):
        first.tokens.check("plain-token", INTERNALS[0])
    with pytest.raises(Unauthenticated):
        first.tokens.check(second.internal_token(), INTERNALS[0])


def test_callers_do_not_hold_the_token_of_the_services(path: Path, tmp_path: Path) -> None:
    path.write_text("one-token")
    settings = ServerSettings(token_file=path, internal_token_file=tmp_path / "internal")  # type: ignore[call-arg]
    (tmp_path / "internal").write_text("one-token")
    with pytest.raises(InvalidInput, match="callers get their own"):
        read_security(settings)
    # While the token of the services is being replaced, the old and the new one are in the list.
    path.write_text(f"{entry(token='one-token', scope='internal')}\n{entry(token='two', scope='internal')}")
    tokens = read_security(settings).tokens
    assert tokens is not None
    assert {tokens.check(sent, INTERNALS[0]).scope for sent in ("one-token", "two")} == {"internal"}
