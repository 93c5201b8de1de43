"""TLS of a server, from mounted files that may be replaced while it runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from fairloop.errors import InvalidInput
from fairloop.serving.files import Watched
from fairloop.tls import CA_FILE, CLIENT_CERT_FILE, ChannelTls, read_authorities, read_pair, reason

CERT_FILE = "FAIRLOOP_TLS_CERT_FILE"
KEY_FILE = "FAIRLOOP_TLS_KEY_FILE"
CLIENT_CA_FILE = "FAIRLOOP_TLS_CLIENT_CA_FILE"
PEER_NAME = "FAIRLOOP_TLS_PEER_NAME"


@dataclass(frozen=True)
class ServerTls:
    """What a server shows, and whom it asks for a certificate of an authority (mutual TLS)."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """The files as they are now; `InvalidInput` names the variable of a bad one."""
        chain, key = read_pair(self.cert_file, self.key_file, CERT_FILE, KEY_FILE)
        roots = read_authorities(self.client_ca_file, CLIENT_CA_FILE) if self.client_ca_file else None
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that look at the files again before each handshake."""
        paths = [self.cert_file, self.key_file, *([self.client_ca_file] if self.client_ca_file else [])]
        watched = Watched("certificates", paths, self.configuration)
        shown = [watched.value()]

        def changed() -> grpc.ServerCertificateConfiguration | None:
            found = watched.value()
            if found is shown[0]:
                return None
            shown[0] = found
            return found

        asks = self.client_ca_file is not None
        return grpc.dynamic_ssl_server_credentials(shown[0], changed, asks)  # type: ignore[arg-type]  # None: no change


def server_tls(
    cert_file: Path | None, key_file: Path | None, client_ca_file: Path | None
) -> ServerTls | None:
    """TLS of a server from the files that the variables name; None when none is named."""
    if cert_file is None and key_file is None:
        if client_ca_file is not None:
            raise InvalidInput(CERT_FILE, f"is not set while {CLIENT_CA_FILE} is; mutual TLS is TLS first")
        return None
    if cert_file is None or key_file is None:
        missing, present = (KEY_FILE, CERT_FILE) if key_file is None else (CERT_FILE, KEY_FILE)
        raise InvalidInput(missing, f"is not set while {present} is; a certificate goes with its key")
    return ServerTls(cert_file, key_file, client_ca_file)


def rehearse(server: ServerTls, peer: ChannelTls, host: str) -> None:
    """Shakes hands with oneself in memory: replicas call each other, and a server alone calls itself.

    `host` is the name by which a replica is called; empty when it cannot be known. Raises
    `InvalidInput` that says why the handshake would fail, at the start and not with the first shard.
    """
    server.configuration()
    peer.credentials()
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(server.cert_file, server.key_file)
    if server.client_ca_file is not None:
        accepting.verify_mode = ssl.CERT_REQUIRED
        accepting.load_verify_locations(server.client_ca_file)
    calling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    calling.load_verify_locations(peer.ca_file)
    if peer.cert_file is not None:
        calling.load_cert_chain(peer.cert_file, peer.key_file)
    if not host:
        calling.check_hostname = False
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        (calling.wrap_bio(back, there, server_hostname=host or None), _refused_by_caller(server, peer, host)),
        (accepting.wrap_bio(there, back, server_side=True), _refused_by_server(server, peer)),
    )
    done = 0
    while done < len(ends):
        done = 0
        for end, (variable, refusal) in ends:
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                raise InvalidInput(variable, f"{refusal}: {reason(error)}") from None


def _refused_by_caller(server: ServerTls, peer: ChannelTls, host: str) -> tuple[str, str]:
    where = f" as {host} ({PEER_NAME} sets the name to expect)" if host else ""
    return CERT_FILE, (
        f"replicas call each other by TLS, and {server.cert_file} does not hold against "
        f"{peer.ca_file} ({CA_FILE}){where}"
    )


def _refused_by_server(server: ServerTls, peer: ChannelTls) -> tuple[str, str]:
    shown = f"{peer.cert_file} does" if peer.cert_file else "no certificate is named, which does"
    return CLIENT_CERT_FILE, (
        f"replicas call each other by mutual TLS, and {shown} not hold against "
        f"{server.client_ca_file} ({CLIENT_CA_FILE})"
    )
