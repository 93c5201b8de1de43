"""Settings of a server, from FAIRLOOP_* variables."""

from __future__ import annotations

import ipaddress
import os
import socket
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fairloop.errors import InvalidInput


class ServerSettings(BaseSettings):
    """How one server listens, computes and keeps time. Every field is a FAIRLOOP_ variable."""

    model_config = SettingsConfigDict(env_prefix="FAIRLOOP_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to bind; one other than loopback needs a token.")
    port: int = Field(0, ge=0, le=65535, description="Port to bind; 0 takes a free one and prints it.")
    peers: str = Field(
        "", description="host:port of every replica, by comma, or dns:name:port of a headless service."
    )
    token_file: Path | None = Field(
        None, description="File with the bearer tokens that callers may send: one, or a JSON object a line."
    )
    internal_token_file: Path | None = Field(
        None, description="File with the token of calls between services (scope internal)."
    )
    tls_cert_file: Path | None = Field(None, description="Certificate chain of this server, PEM; TLS is on.")
    tls_key_file: Path | None = Field(None, description="Private key of that certificate, PEM.")
    tls_client_ca_file: Path | None = Field(
        None, description="Authorities of which callers must show a certificate (mutual TLS)."
    )
    tls_ca_file: Path | None = Field(
        None, description="Authorities that vouch for the servers that this one calls; turns TLS on there."
    )
    tls_client_cert_file: Path | None = Field(
        None, description="Certificate that this server shows to those it calls."
    )
    tls_client_key_file: Path | None = Field(None, description="Private key of that certificate.")
    tls_peer_name: str = Field(
        "", description="Name in the replicas' certificates; default: that in FAIRLOOP_PEERS, or the address."
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of /metrics (Prometheus); 0 for none.")
    metrics_host: str = Field("", description="Address of /metrics; default: FAIRLOOP_HOST.")
    individual_labels: bool | None = Field(
        None, description="Return perceived labels of single images; default: only on loopback."
    )
    threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=256,
        description="Threads of the compute libraries.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where torch computes; auto takes CUDA where there is one."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Numbers of diffusion models; auto is float32 on a CPU and float16 on CUDA."
    )
    io_threads: int = Field(
        16, ge=1, le=256, description="Threads for store reads and writes and for encoding."
    )
    heartbeat_seconds: float = Field(
        5.0, gt=0, le=60, description="An owner signs its operations this often."
    )
    silent_seconds: float = Field(
        30.0, gt=0, le=600, description="An owner is gone after so long without a sign."
    )
    sweep_seconds: float = Field(
        10.0, gt=0, le=600, description="How often to look for operations left behind."
    )
    lease_seconds: float = Field(
        120.0, gt=0, le=86_400, description="An operation is suspended unless waited for."
    )
    drain_seconds: float = Field(
        20.0, gt=0, le=600, description="How long quick calls may take after SIGTERM."
    )
    training: Literal["spawn", "external"] = Field(
        "spawn",
        description="Who trains: a process of this server, or one that is started elsewhere, such as a Job.",
    )
    operations: int = Field(
        16, ge=1, le=1_000, description="Operations that are worked on at once; trainings are counted apart."
    )
    caller_calls: int = Field(
        256, ge=0, le=100_000, description="Quick calls of one token's holder in flight at once; 0: no limit."
    )
    caller_operations: int = Field(
        200, ge=0, le=100_000, description="Unfinished operations of one token's holder; 0: no limit."
    )
    policy: Literal["research", "internal", "commercial", "publish"] = Field(
        "research", description="What the terms must allow where a request names no policy."
    )
    annotators: str = Field(
        "", description="Annotators to load, by comma; default: those that need no extra package."
    )
    detector: Literal["dlib_hog", "dlib_mmod", "scrfd", "scrfd_106"] = Field(
        "dlib_hog", description="Detector of the annotator: dlib's HOG or CNN, or InsightFace's SCRFD."
    )
    annotator_address: str = Field(
        "127.0.0.1:9312", description="The annotator, for accepting what is generated."
    )

    @cached_property
    def loopback(self) -> bool:
        """True when the bound address cannot be reached from another machine; asked once."""
        try:
            found = {info[4][0] for info in socket.getaddrinfo(self.host, None)}
        except socket.gaierror as error:
            raise InvalidInput("FAIRLOOP_HOST", f"{self.host!r} cannot be resolved ({error})") from error
        return all(ipaddress.ip_address(str(address)).is_loopback for address in found)

    def address(self, port: int) -> str:
        """host:port that gRPC binds; IPv6 in brackets."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    @property
    def own_host(self) -> str:
        """The address at which this server reaches itself."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - what it is compared with

    def own_address(self, port: int) -> str:
        """host:port at which this server reaches itself."""
        host = self.own_host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def shows_labels(self) -> bool:
        """Whether perceived labels of single images are given to every caller."""
        return self.loopback if self.individual_labels is None else self.individual_labels

    def check_bind(self) -> None:
        """Refuses to listen beyond loopback without a token."""
        if not self.loopback and self.token_file is None:
            raise InvalidInput(
                "FAIRLOOP_TOKEN_FILE",
                f"binding {self.host} makes this server reachable from other machines, which needs a token: "
                "set FAIRLOOP_TOKEN_FILE to a file that holds one, or bind 127.0.0.1",
            )


def read_settings() -> ServerSettings:
    """Settings from the environment; a wrong one is named with what is allowed."""
    try:
        return ServerSettings()  # type: ignore[call-arg]
    except ValidationError as error:
        first = error.errors()[0]
        name = "FAIRLOOP_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidInput(name, f"{first['msg']} (it is {first['input']!r})") from None
