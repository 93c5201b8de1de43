"""Two replicas behind mutual TLS and tokens: who gets in, what for, and that nothing secret gets out."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairloop.client import AnnotatorClient, Client, Operation
from fairloop.errors import (
    FairloopError,
    InvalidInput,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    from_rpc,
)
from fairloop.serving.security import read_security
from fairloop.serving.settings import ServerSettings
from fairloop.store import ObjectStore, StoreSettings
from fairloop.tls import ChannelTls
from fairloop.v1 import common_pb2, common_pb2_grpc
from fairloop.v1.annotator_pb2 import AnnotateRequest, AnnotateResult
from tests.support.certificates import Authority, Pair
from tests.support.processes import Process, free_port, select_pause, wait_serving

MODULE = "tests.support.counting_server"
DATASET = "datasets/none/versions/0123456789abcdef"
READER, RUNNER, SECOND, OTHER, OLD, INTERNAL = (
    f"secret-{name}-7c1f9a" for name in ("reader", "runner", "second", "other", "old", "internal")
)
OPERATION = "operations/annotator-" + "a" * 26


def write_tokens(path: Path, *, runner: str = RUNNER) -> None:
    """Replaces the file as a mount does: at once."""
    expired = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    entries = [
        {"token": READER, "holder": "dashboard", "scope": "read"},
        {"token": runner, "holder": "nightly", "scope": "run"},
        {"token": SECOND, "holder": "nightly", "scope": "run", "expires": "2100-01-01T00:00:00Z"},
        {"token": OTHER, "holder": "somebody", "scope": "run"},
        {"token": OLD, "holder": "nightly", "scope": "run", "expires": expired},
    ]
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(json.dumps(entry) for entry in entries))
    os.replace(fresh, path)


@dataclass
class World:
    """Two replicas that know each other, and the files they mount."""

    folder: Path
    environment: dict[str, str]
    authority: Authority
    clients: Authority
    server: Pair
    caller: Pair
    addresses: list[str]
    processes: list[Process]

    @property
    def tls(self) -> ChannelTls:
        return ChannelTls(self.authority.file, self.caller.cert, self.caller.key)

    def client(self, token: str = RUNNER, tls: ChannelTls | None = None, replica: int = 0) -> AnnotatorClient:
        return AnnotatorClient("annotator", self.addresses[replica], token, tls or self.tls)

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(
            StoreSettings(
                self.environment["FAIRLOOP_S3_ENDPOINT"],
                self.environment["FAIRLOOP_S3_ACCESS_KEY"],
                self.environment["FAIRLOOP_S3_SECRET_KEY"],
                self.environment["FAIRLOOP_S3_BUCKET"],
            )
        )


@pytest.fixture(scope="module")
def world(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("security")
    authority, clients = Authority(folder, "authority"), Authority(folder, "client-authority")
    server, caller = authority.issue("server"), clients.issue("caller", host="nobody.example")
    write_tokens(folder / "tokens")
    (folder / "internal").write_text(INTERNAL)
    ports = [free_port(), free_port()]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    environment = {
        **s3,
        "FAIRLOOP_S3_BUCKET": "test-security",
        "FAIRLOOP_SWEEP_SECONDS": "0.5",
        "FAIRLOOP_TOKEN_FILE": str(folder / "tokens"),
        "FAIRLOOP_INTERNAL_TOKEN_FILE": str(folder / "internal"),
        "FAIRLOOP_TLS_CERT_FILE": str(server.cert),
        "FAIRLOOP_TLS_KEY_FILE": str(server.key),
        "FAIRLOOP_TLS_CLIENT_CA_FILE": str(clients.file),
        "FAIRLOOP_TLS_CA_FILE": str(authority.file),
        "FAIRLOOP_TLS_CLIENT_CERT_FILE": str(caller.cert),
        "FAIRLOOP_TLS_CLIENT_KEY_FILE": str(caller.key),
        "FAIRLOOP_PEERS": ",".join(addresses),
    }
    tls = ChannelTls(authority.file, caller.cert, caller.key)
    made = World(folder, environment, authority, clients, server, caller, addresses, [])
    made.store.ensure_bucket()
    try:
        for number, port in enumerate(ports):
            own = {**environment, "FAIRLOOP_HOST": "127.0.0.1", "FAIRLOOP_PORT": str(port)}
            log = folder / f"replica-{number}.log"
            made.processes.append(Process([sys.executable, "-m", MODULE], own, log))
        for address, process in zip(addresses, made.processes, strict=True):
            wait_serving(address, process, tls=tls)
        yield made
    finally:
        for process in made.processes:
            process.stop()


def request(count: int, request_id: str) -> AnnotateRequest:
    return AnnotateRequest(dataset=DATASET, annotators=[f"a{i}" for i in range(count)], request_id=request_id)


def run_shard(world: World, token: str) -> FairloopError:
    """What `RunShard` of an operation that is not there answers."""
    with grpc.secure_channel(world.addresses[0], world.tls.credentials()) as channel:
        message = common_pb2.RunShardRequest(operation=OPERATION, attempt=1, index=0, spec="{}")
        metadata = [("authorization", f"Bearer {token}")] if token else []
        with pytest.raises(grpc.RpcError) as caught:
            common_pb2_grpc.ShardServiceStub(channel).RunShard(message, timeout=20, metadata=metadata)
        return from_rpc(caught.value)


def test_replicas_share_an_operation_by_mutual_tls(world: World) -> None:
    assert world.client().annotate(request(8, "shared")).result(60).images == 8
    for process in world.processes:
        assert process.events("shard finished")


def test_the_client_takes_its_files_from_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(RUNNER)
    for name in ("CA_FILE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE"):
        monkeypatch.setenv(f"FAIRLOOP_TLS_{name}", world.environment[f"FAIRLOOP_TLS_{name}"])
    monkeypatch.setenv("FAIRLOOP_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("FAIRLOOP_ANNOTATOR_ADDRESS", world.addresses[0])
    with Client.from_environment() as client:
        assert client.annotator.annotate(request(1, "environment")).result(60).images == 1


def refusal(address: str, tls: ChannelTls | None) -> str:
    """Why a channel does not come about; one try, where the client would make four."""
    opened = (
        grpc.secure_channel(address, tls.credentials(), tls.options())
        if tls
        else grpc.insecure_channel(address)
    )
    with opened as channel:
        with pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        return str(caught.value.details())


def test_who_shows_no_certificate_or_a_strangers_is_not_let_in(world: World) -> None:
    address, trusted = world.addresses[0], world.authority.file
    stranger = Authority(world.folder, "stranger").issue("stranger-caller", host="nobody.example")
    assert refusal(address, None)
    assert refusal(address, ChannelTls(trusted))
    assert refusal(address, ChannelTls(trusted, stranger.cert, stranger.key))


def test_a_server_of_another_authority_or_name_is_not_trusted(world: World) -> None:
    address, caller = world.addresses[0], world.caller
    other = ChannelTls(world.clients.file, caller.cert, caller.key)
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(address, other)
    assert "Hostname Verification Check failed" in refusal(address, replace(world.tls, name="other.example"))


def test_a_start_needs_a_token_that_is_known_good_and_of_scope_run(world: World) -> None:
    for token, says in (("", "send a bearer token"), ("wrong", "does not know"), (OLD, "nightly expired at")):
        with pytest.raises(Unauthenticated, match=says) as caught:
            world.client(token).annotate(request(1, "refused"))
        assert caught.value.metadata["required_scope"] == "run"
    with pytest.raises(PermissionDenied, match="Annotate needs a token of scope run") as denied:
        world.client(READER).annotate(request(1, "refused"))
    assert denied.value.metadata == {"required_scope": "run", "scope": "read", "holder": "dashboard"}


def test_a_reader_sees_and_waits_and_does_not_cancel(world: World) -> None:
    operation = world.client().annotate(request(1, "seen"))
    reader = world.client(READER)
    assert Operation(operation.name, reader, AnnotateResult).result(60).images == 1
    listed = reader.call(reader.operations.ListOperations, operations_pb2.ListOperationsRequest())
    assert operation.name in [found.name for found in listed.operations]
    with pytest.raises(PermissionDenied, match="CancelOperation needs a token of scope run"):
        Operation(operation.name, reader, AnnotateResult).cancel()


def test_shards_are_computed_for_services_only(world: World) -> None:
    for token in (READER, RUNNER):
        denied = run_shard(world, token)
        assert isinstance(denied, PermissionDenied)
        assert denied.metadata["required_scope"] == "internal"
    assert isinstance(run_shard(world, ""), Unauthenticated)
    let_in = run_shard(world, INTERNAL)
    assert isinstance(let_in, Unavailable)
    assert f"{OPERATION} is not an operation" in str(let_in)


def test_an_operation_belongs_to_the_holder_and_not_to_the_token(world: World) -> None:
    names = {
        token: world.client(token).annotate(request(1, "whose")).name for token in (RUNNER, SECOND, OTHER)
    }
    assert names[RUNNER] == names[SECOND] != names[OTHER]
    assert world.store.get_json(f"{names[OTHER]}/request.json")["caller"] == "somebody"


def test_probes_need_no_token(world: World) -> None:
    with grpc.secure_channel(world.addresses[0], world.tls.credentials()) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "nothing changed"
        select_pause(0.1)


def lets_in(client: AnnotatorClient, request_id: str) -> bool:
    try:
        client.annotate(request(1, request_id))
    except (Unauthenticated, Unavailable):
        return False
    return True


def test_a_token_is_replaced_while_the_servers_run(world: World) -> None:
    fresh = "secret-fresh-7c1f9a"
    write_tokens(world.tokens, runner=fresh)
    eventually(lambda: lets_in(world.client(fresh), "fresh"))
    assert not lets_in(world.client(RUNNER), "stale")
    write_tokens(world.tokens)
    eventually(lambda: lets_in(world.client(), "back"))


def test_certificates_are_replaced_while_the_servers_run(world: World) -> None:
    """Also of the channels between them: an operation needs both replicas by the new authority."""
    renewed = Authority(world.folder, "renewed")
    pair = renewed.issue("renewed-server")
    for source, target in (
        (pair.cert, world.server.cert),
        (pair.key, world.server.key),
        (renewed.file, world.authority.file),
    ):
        shutil.copy(source, target.with_suffix(".new"))
        os.replace(target.with_suffix(".new"), target)
    for number in range(2):
        eventually(lambda n=number: lets_in(world.client(replica=n), "renewed"))  # type: ignore[misc]
    before = [len(process.events("shard finished")) for process in world.processes]
    assert world.client().annotate(request(8, "after")).result(60).images == 8
    after = [len(process.events("shard finished")) for process in world.processes]
    assert all(more > fewer for more, fewer in zip(after, before, strict=True))


def test_nothing_secret_is_in_logs_errors_or_the_store(world: World) -> None:
    store = world.store
    stored = [store.get(key) for key in store.list("")]
    logs = [process.log.read_bytes() for process in world.processes]
    assert len(stored) > 20
    calls = [call for process in world.processes for call in process.events("call")]
    assert {call["caller"] for call in calls} >= {"nightly", "somebody", "dashboard", "internal", "anonymous"}
    key = world.server.key.read_bytes().splitlines()[1]
    for data in (*stored, *logs):
        assert b"secret-" not in data
        assert b"7c1f9a" not in data
        assert b"PRIVATE KEY" not in data
        assert key not in data


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files, good and bad, by name."""
    folder = tmp_path_factory.mktemp("pem")
    authority, other = Authority(folder, "ca"), Authority(folder, "other-ca")
    server, second = authority.issue("server"), authority.issue("second", host="second.example")
    found = {"ca": authority.file, "other-ca": other.file, "missing": folder / "missing"}
    for name, pair in (
        ("server", server),
        ("second", second),
        ("expired", authority.issue("expired", valid=timedelta(days=-1))),
    ):
        found |= {f"{name}.crt": pair.cert, f"{name}.key": pair.key}
    texts = {
        "text": "not a certificate",
        "torn.crt": server.cert.read_text()[:200],
        "torn.key": server.key.read_text()[:80],
        "locked.key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n-----END ENCRYPTED PRIVATE KEY-----\n",
    }
    for name, text in texts.items():
        found[name] = folder / f"x-{name}"
        found[name].write_text(text)
    return found


GOOD = {"tls_cert_file": "server.crt", "tls_key_file": "server.key", "tls_ca_file": "ca"}


@pytest.mark.parametrize(
    ("changes", "variable", "says"),
    [
        ({"tls_key_file": None}, "TLS_KEY_FILE", "is not set while FAIRLOOP_TLS_CERT_FILE is"),
        ({"tls_cert_file": None}, "TLS_CERT_FILE", "is not set while FAIRLOOP_TLS_KEY_FILE is"),
        ({"tls_ca_file": None}, "TLS_CA_FILE", "name the file with the authorities"),
        ({"tls_cert_file": "missing"}, "TLS_CERT_FILE", "missing cannot be read (FileNotFoundError)"),
        ({"tls_cert_file": "text"}, "TLS_CERT_FILE", "holds no certificate in PEM form"),
        ({"tls_cert_file": "torn.crt"}, "TLS_CERT_FILE", "cannot be used together"),
        ({"tls_key_file": "text"}, "TLS_KEY_FILE", "holds no private key in PEM form"),
        ({"tls_key_file": "torn.key"}, "TLS_CERT_FILE", "cannot be used together"),
        ({"tls_key_file": "locked.key"}, "TLS_KEY_FILE", "is encrypted"),
        ({"tls_key_file": "second.key"}, "TLS_KEY_FILE", "is not the key of the certificate in"),
        ({"tls_client_ca_file": "text"}, "TLS_CLIENT_CA_FILE", "holds no certificate"),
        ({"tls_client_ca_file": "torn.crt"}, "TLS_CLIENT_CA_FILE", "cannot be read"),
        ({"tls_ca_file": "missing"}, "TLS_CA_FILE", "cannot be read (FileNotFoundError)"),
        ({"tls_client_cert_file": "second.crt"}, "TLS_CLIENT_KEY_FILE", "is not set while"),
        (
            {"tls_cert_file": "expired.crt", "tls_key_file": "expired.key"},
            "TLS_CERT_FILE",
            "certificate has expired",
        ),
        (
            {"tls_cert_file": "second.crt", "tls_key_file": "second.key"},
            "TLS_CERT_FILE",
            "as 127.0.0.1 (FAIRLOOP_TLS_PEER_NAME sets the name to expect): IP address mismatch",
        ),
        ({"tls_peer_name": "wrong.example"}, "TLS_CERT_FILE", "Hostname mismatch"),
        ({"tls_ca_file": "other-ca"}, "TLS_CERT_FILE", "unable to get local issuer certificate"),
        (
            {"tls_client_ca_file": "ca"},
            "TLS_CLIENT_CERT_FILE",
            "no certificate is named, which does not hold",
        ),
        (
            {
                "tls_client_ca_file": "other-ca",
                "tls_client_cert_file": "second.crt",
                "tls_client_key_file": "second.key",
            },
            "TLS_CLIENT_CERT_FILE",
            "second.crt does not hold against",
        ),
    ],
)
def test_what_is_wrong_with_a_tls_file_is_said_at_the_start_with_its_variable(
    changes: dict[str, str | None], variable: str, says: str, pem: dict[str, Path]
) -> None:
    values = {
        field: str(pem[name]) if field.endswith("_file") else name
        for field, name in {**GOOD, **changes}.items()
        if name is not None
    }
    with pytest.raises(InvalidInput) as caught:
        read_security(ServerSettings(**values))  # type: ignore[arg-type]
    violation = caught.value.violations[0]
    assert violation.field == f"FAIRLOOP_{variable}"
    assert says in violation.description


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tls_cert_file": "second.crt", "tls_key_file": "second.key", "tls_peer_name": "second.example"},
        {"tls_cert_file": "second.crt", "tls_key_file": "second.key", "peers": "dns:second.example:9312"},
        {"tls_cert_file": "second.crt", "tls_key_file": "second.key", "peers": "10.0.0.1:9312,10.0.0.2:9312"},
        {
            "tls_client_ca_file": "ca",
            "tls_client_cert_file": "second.crt",
            "tls_client_key_file": "second.key",
        },
    ],
)
def test_sound_tls_files_are_taken(changes: dict[str, str], pem: dict[str, Path]) -> None:
    values = {
        field: str(pem[name]) if field.endswith("_file") else name
        for field, name in {**GOOD, **changes}.items()
    }
    security = read_security(ServerSettings(**values))  # type: ignore[arg-type]
    assert security.replica_tls is not None
    assert security.replica_tls.name == ("second.example" if "example" in str(changes) else "")
