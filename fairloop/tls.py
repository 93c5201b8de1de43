"""TLS of channels: whom a client trusts and who it says it is, from mounted files (PEM).

Used by the client and by servers that call each other. What is wrong with a file is said with the
variable that named it, before a connection fails for it with less to say.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from fairloop.errors import InvalidInput

CA_FILE = "FAIRLOOP_TLS_CA_FILE"
CLIENT_CERT_FILE = "FAIRLOOP_TLS_CLIENT_CERT_FILE"
CLIENT_KEY_FILE = "FAIRLOOP_TLS_CLIENT_KEY_FILE"


@dataclass(frozen=True)
class ChannelTls:
    """How a channel checks its server, and shows who calls where the server asks for it.

    `name` is expected in the server's certificate in place of the address's host.
    """

    ca_file: Path
    cert_file: Path | None = None
    key_file: Path | None = None
    name: str = ""

    @classmethod
    def from_environment(cls) -> ChannelTls | None:
        """Reads FAIRLOOP_TLS_CA_FILE, _CLIENT_CERT_FILE and _CLIENT_KEY_FILE; None: no TLS."""
        authorities, certificate, key = (
            Path(os.environ[name]) if os.environ.get(name) else None
            for name in (CA_FILE, CLIENT_CERT_FILE, CLIENT_KEY_FILE)
        )
        return channel_tls(authorities, certificate, key)

    def paths(self) -> tuple[Path, ...]:
        """The files it is read from."""
        return tuple(path for path in (self.ca_file, self.cert_file, self.key_file) if path is not None)

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials from the files as they are now; `InvalidInput` names the variable of a bad one."""
        roots = read_authorities(self.ca_file, CA_FILE)
        if self.cert_file is None or self.key_file is None:
            return grpc.ssl_channel_credentials(roots)
        chain, key = read_pair(self.cert_file, self.key_file, CLIENT_CERT_FILE, CLIENT_KEY_FILE)
        return grpc.ssl_channel_credentials(roots, key, chain)

    def options(self) -> list[tuple[str, Any]]:
        """Channel options beside the credentials."""
        return [("grpc.ssl_target_name_override", self.name)] if self.name else []


def channel_tls(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None, name: str = ""
) -> ChannelTls | None:
    """TLS of channels from the files that the variables name; None without an authority to trust."""
    if (cert_file is None) != (key_file is None):
        missing, present = (
            (CLIENT_KEY_FILE, CLIENT_CERT_FILE) if key_file is None else (CLIENT_CERT_FILE, CLIENT_KEY_FILE)
        )
        raise InvalidInput(missing, f"is not set while {present} is; a certificate goes with its key")
    if ca_file is None:
        if cert_file is not None:
            raise InvalidInput(
                CA_FILE,
                f"is not set while {CLIENT_CERT_FILE} is; "
                "name the file with the authorities that vouch for the server",
            )
        return None
    return ChannelTls(ca_file, cert_file, key_file, name)


def read_authorities(path: Path, field: str) -> bytes:
    """The certificates of authorities in a PEM file; `InvalidInput` on `field` when there are none."""
    data = _read(path, field, b"-----BEGIN CERTIFICATE-----", "certificate")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise InvalidInput(field, f"{path} has a certificate that cannot be read ({reason(error)})") from None
    return data


def read_pair(cert_file: Path, key_file: Path, cert_field: str, key_field: str) -> tuple[bytes, bytes]:
    """Certificate chain and key; `InvalidInput` says which file is wrong, or that they do not match."""
    chain = _read(cert_file, cert_field, b"-----BEGIN CERTIFICATE-----", "certificate")
    key = _read(key_file, key_field, b"PRIVATE KEY-----", "private key")
    if b"ENCRYPTED" in key:
        raise InvalidInput(key_field, f"{key_file} is encrypted; a mounted key has no pass phrase")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert_file, key_file, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidInput(
                key_field, f"{key_file} is not the key of the certificate in {cert_file} ({cert_field})"
            ) from None
        raise InvalidInput(
            cert_field, f"{cert_file} and its key {key_file} cannot be used together ({reason(error)})"
        ) from None
    except OSError as error:
        raise InvalidInput(
            cert_field, f"{cert_file} or its key {key_file} cannot be read ({reason(error)})"
        ) from None
    return chain, key


def _read(path: Path, field: str, mark: bytes, what: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(field, f"{path} cannot be read ({type(error).__name__})") from None
    if mark not in data:
        raise InvalidInput(field, f"{path} holds no {what} in PEM form ({mark.decode()} is not in it)")
    return data


def reason(error: Exception) -> str:
    """What went wrong, without the library's source line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return type(error).__name__
