"""Releases on a package index, found and opened as pip would (PEP 503, 691), without running pip's builds.

Where to look and which certificates to trust comes from pip's own
configuration, so a machine that can install packages can fetch weights.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import functools
import http.client
import json
import netrc
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


class ReleaseNotFoundError(Exception):
    """No configured index has the release, or none could be reached; says which were asked."""


@dataclass(frozen=True)
class Release:
    """An open archive of one package version."""

    filename: str
    stream: IO[bytes]
    size: int | None


@contextlib.contextmanager
def open_release(package: str, version: str) -> Iterator[Release]:
    """Opens the archive of a release: a wheel for any platform, else the first other wheel, else the sdist.

    Raises `ReleaseNotFoundError` when no index has it, OSError when the transfer fails.
    """
    asked: list[str] = []
    for place, is_index in _places():
        page = f"{place.rstrip('/')}/{canonicalize_name(package)}/" if is_index else place
        try:
            links = _links(page, place)
        except (OSError, http.client.HTTPException, ValueError) as error:
            asked.append(f"{_public(page)}: {_reason(error)}")
            continue
        found = sorted(
            (rank, name, url) for name, url in links if (rank := _rank(name, package, version)) is not None
        )
        if not found:
            asked.append(f"{_public(page)}: no archive of {package}=={version}")
            continue
        _, name, url = found[0]
        try:
            response = _open(url, place)
        except (OSError, http.client.HTTPException, ValueError) as error:
            asked.append(f"{_public(url)}: {_reason(error)}")
            continue
        with response:
            length = response.headers.get("Content-Length")
            yield Release(name, response, int(length) if length else None)
        return
    raise ReleaseNotFoundError("; ".join(asked) or "pip is configured with no-index and no find-links")


def pip_options() -> dict[str, list[str]]:
    """pip's settings (config files and PIP_* variables) that say where and how to download.

    Each value is a list, as pip splits it on white space. Without pip in this
    environment only the variables count.
    """
    # pip's own order: files, then its download command's section, then the environment.
    merged = dict(_pip_files())
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            merged[name.removeprefix("PIP_").lower().replace("_", "-")] = value.split()
    return merged


def pips_default() -> list[str]:
    """The index that pip uses where none is configured, as the installed pip knows it; none without pip."""
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        return []
    return [str(PyPI.simple_url)]


@functools.cache
def _pip_files() -> dict[str, list[str]]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    sections: dict[str, dict[str, list[str]]] = {"global": {}, "download": {}}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in sections:
            sections[section][option] = str(ast.literal_eval(value)).split()
    return {**sections["global"], **sections["download"]}


def _places() -> Iterator[tuple[str, bool]]:
    """(URL, is an index) in the order of asking; what lies on this machine first."""
    options = pip_options()
    for place in options.get("find-links", []):
        yield (place if "://" in place else Path(place).expanduser().resolve().as_uri()), False
    if options.get("no-index", ["false"])[0].lower() not in ("1", "true", "yes", "on"):
        for index in options.get("index-url", pips_default()) + options.get("extra-index-url", []):
            yield index, True


def _rank(filename: str, package: str, version: str) -> int | None:
    """Lower is better; None when the file is no archive of this release."""
    try:
        if filename.endswith(".whl"):
            name, found, _, tags = parse_wheel_filename(filename)
            rank = 0 if all(tag.platform == "any" for tag in tags) else 1
        elif filename.endswith((".tar.gz", ".zip")):
            name, found = parse_sdist_filename(filename)
            rank = 2
        else:
            return None
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    return rank if name == canonicalize_name(package) and found == Version(version) else None


def _links(page: str, place: str) -> list[tuple[str, str]]:
    """(file name, URL) of everything a page of an index, or a local folder, offers."""
    if page.startswith("file:"):
        folder = Path(unquote(urlsplit(page).path))
        if folder.is_dir():
            listing = folder / "index.html"
            if not listing.is_file():
                return [(file.name, file.as_uri()) for file in sorted(folder.iterdir()) if file.is_file()]
            page = listing.as_uri()
    with _open(page, place, accept=ACCEPT) as response:
        body, kind, base = response.read(), response.headers.get("Content-Type", ""), response.url
    if "json" in kind:
        return [(file["filename"], urljoin(base, file["url"])) for file in json.loads(body)["files"]]
    parser = _Anchors()
    parser.feed(body.decode("utf-8", "replace"))
    links = [urljoin(base, href) for href in parser.hrefs]
    return [(unquote(urlsplit(link).path).rpartition("/")[2], link) for link in links]


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _open(url: str, place: str, accept: str = "*/*") -> http.client.HTTPResponse:
    """Opens `url`, which the configured `place` led to: its user and password are for its host only."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http", "file"):
        raise ValueError(f"{parts.scheme}:// is not a scheme of a package index")
    options = pip_options()
    request = urllib.request.Request(_public(url), headers={"Accept": accept, "User-Agent": "fairloop"})  # noqa: S310 - the scheme is one of three
    if credentials := _credentials(url, place):
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.HTTPSHandler(context=_tls(parts.hostname or ""))
    ]
    if proxy := options.get("proxy"):
        handlers.append(urllib.request.ProxyHandler({"http": proxy[0], "https": proxy[0]}))
    timeout = float(options.get("timeout", options.get("default-timeout", ["60"]))[0])
    response: http.client.HTTPResponse = urllib.request.build_opener(*handlers).open(request, timeout=timeout)
    return response


def _tls(host: str) -> ssl.SSLContext:
    options = pip_options()
    certificates = options.get("cert", [None])[0]
    context = ssl.create_default_context(cafile=certificates)
    if client := options.get("client-cert"):
        context.load_cert_chain(client[0])
    if host in {trusted.partition(":")[0] for trusted in options.get("trusted-host", [])}:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _credentials(url: str, place: str) -> str | None:
    """Base64 of user:password from the place that pip is configured with, else from the user's netrc."""
    parts, configured = urlsplit(url), urlsplit(place)
    if configured.username and _public(place).split("/")[:3] == _public(url).split("/")[:3]:
        pair = f"{unquote(configured.username)}:{unquote(configured.password or '')}"
    else:
        try:
            known = netrc.netrc().authenticators(parts.hostname or "")
        except (OSError, netrc.NetrcParseError):
            known = None
        if known is None:
            return None
        pair = f"{known[0]}:{known[2]}"
    return base64.b64encode(pair.encode()).decode()


def _public(url: str) -> str:
    """A URL without user and password: fit for messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
