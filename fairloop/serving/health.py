"""Asks the server on this machine how it is: `python -m fairloop.serving.health`.

For container engines, and for Kubernetes under TLS, whose own gRPC probes speak none. Reads the variables
that the server reads; exit status 0 when it says SERVING, else 1 with a sentence on standard error.
"""

from __future__ import annotations

import argparse
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairloop.errors import FairloopError, InvalidInput
from fairloop.serving.security import peer_tls
from fairloop.serving.settings import ServerSettings, read_settings
from fairloop.tls import ChannelTls

SECONDS = 3.0


def complaint(settings: ServerSettings, seconds: float = SECONDS) -> str:
    """Why the server of these settings does not count as healthy; the empty text when it does.

    Raises `InvalidInput` when no port is set, or when a file that the settings name cannot be used.
    """
    if not settings.port:
        raise InvalidInput("FAIRLOOP_PORT", "is not set; with 0 the server's port is known to nobody else")
    target = settings.own_address(settings.port)
    with _channel(target, settings) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=seconds, wait_for_ready=True
            )
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return f"{target} does not answer within {seconds:g} s ({code.name.lower()})"
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        return f"{target} answers {health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)}"
    return ""


def _channel(target: str, settings: ServerSettings) -> grpc.Channel:
    """A channel to the server itself, by TLS where it has a certificate."""
    peer = peer_tls(settings)
    direct = [("grpc.enable_http_proxy", 0)]
    if settings.tls_cert_file is None or peer is None:
        return grpc.insecure_channel(target, direct)
    headless = settings.peers.split(":")[1] if settings.peers.startswith("dns:") else ""
    own = ChannelTls(peer.ca_file, peer.cert_file, peer.key_file, settings.tls_peer_name or headless)
    return grpc.secure_channel(target, own.credentials(), [*direct, *own.options()])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m fairloop.serving.health", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="longest wait [%(default)s]")
    try:
        wrong = complaint(read_settings(), parser.parse_args().seconds)
    except FairloopError as error:
        wrong = str(error)
    if wrong:
        sys.exit(wrong)


if __name__ == "__main__":
    main()
