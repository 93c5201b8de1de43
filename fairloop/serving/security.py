"""Who may call a server, and how it calls others: what the security settings amount to."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from fairloop.errors import InvalidInput
from fairloop.serving.files import Watched
from fairloop.serving.settings import ServerSettings
from fairloop.serving.tls import ServerTls, rehearse, server_tls
from fairloop.serving.tokens import INTERNAL, Token, Tokens, digest, read_plain, read_tokens
from fairloop.tls import ChannelTls, channel_tls

TOKEN_FILE = "FAIRLOOP_TOKEN_FILE"  # noqa: S105 - a variable's name
INTERNAL_TOKEN_FILE = "FAIRLOOP_INTERNAL_TOKEN_FILE"  # noqa: S105 - a variable's name


@dataclass(frozen=True)
class Security:
    """Tokens and TLS of one server. `tokens` is None where everybody may call."""

    tokens: Tokens | None
    internal_token: Callable[[], str]
    tls: ServerTls | None
    peer_tls: ChannelTls | None
    """Of channels to other services; to replicas of its own, see `replica_tls`."""
    replica_tls: ChannelTls | None


def read_security(settings: ServerSettings) -> Security:
    """The settings' files, read and checked; `InvalidInput` names the variable and what is wrong."""
    settings.check_bind()
    tls = server_tls(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    peer = peer_tls(settings)
    tokens, internal = _tokens(settings)
    return Security(tokens, internal, tls, peer, _replica_tls(settings, tls, peer))


def peer_tls(settings: ServerSettings) -> ChannelTls | None:
    """How this server calls other services; None: without TLS."""
    return channel_tls(settings.tls_ca_file, settings.tls_client_cert_file, settings.tls_client_key_file)


def sent_token(settings: ServerSettings) -> str:
    """The token that this server sends to other services; empty where none is set."""
    path = settings.internal_token_file
    return read_plain(path, INTERNAL_TOKEN_FILE) if path is not None else ""


def _tokens(settings: ServerSettings) -> tuple[Tokens | None, Callable[[], str]]:
    callers, internal = settings.token_file, settings.internal_token_file
    if callers is None and internal is None:
        return None, str
    files: list[Watched[list[Token]]] = []
    if callers is not None:
        path = callers
        files.append(Watched("tokens", [path], lambda: read_tokens(path, TOKEN_FILE)))
    if internal is not None:
        own = internal
        sent = Watched("internal token", [own], lambda: read_plain(own, INTERNAL_TOKEN_FILE))
        known = [token for watched in files for token in watched.value() if token.scope != INTERNAL]
        if any(token.digest == digest(sent.value()) for token in known):
            raise InvalidInput(
                INTERNAL_TOKEN_FILE,
                f"{own} holds a token that {TOKEN_FILE} holds, too; callers get their own",
            )
        files.append(
            Watched("tokens", [own], lambda: read_tokens(own, INTERNAL_TOKEN_FILE, INTERNAL, INTERNAL))
        )
        return Tokens(files), sent.value
    if settings.peers:
        raise InvalidInput(
            INTERNAL_TOKEN_FILE,
            f"is not set, while FAIRLOOP_PEERS names replicas and {TOKEN_FILE} is set; "
            "replicas send each other the token in it",
        )
    # Alone it calls nobody but itself, and nobody else need know with what.
    made = secrets.token_urlsafe(32)
    alone = Token(INTERNAL, INTERNAL, None, digest(made))
    files.append(Watched("tokens", [], lambda: [alone]))
    return Tokens(files), lambda: made


def _replica_tls(
    settings: ServerSettings, tls: ServerTls | None, peer: ChannelTls | None
) -> ChannelTls | None:
    if tls is None:
        return None
    if peer is None:
        raise InvalidInput(
            "FAIRLOOP_TLS_CA_FILE",
            "is not set while FAIRLOOP_TLS_CERT_FILE is; replicas call each other, one alone calls itself: "
            "name the file with the authorities that vouch for the certificate",
        )
    headless = settings.peers.split(":")[1] if settings.peers.startswith("dns:") else ""
    name = settings.tls_peer_name or headless
    found = ChannelTls(peer.ca_file, peer.cert_file, peer.key_file, name)
    own = "" if settings.peers else settings.own_host
    rehearse(tls, found, name or own)
    return found
