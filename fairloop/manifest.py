"""The rule for every resource: parts first, `manifest.json` last; no manifest, no resource."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fairloop.documents import read_document
from fairloop.errors import DataLoss, NotFound, PreconditionFailed
from fairloop.store import ObjectStore, is_key

Clock = Callable[[], datetime]

USE: ContextVar[Mapping[str, Any] | None] = ContextVar("use", default=None)
"""Under which policy the work at hand is done, what was acknowledged for it and why (`terms.Use.to_json`).

Set for the length of an operation; `commit` writes it into every manifest made meanwhile, so no
operation can forget to.
"""


def utc_now() -> datetime:
    """The wall clock; only ever displayed, never compared and never hashed."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """`2026-11-22T10:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


LARGEST = 2**53
"""Of a count, and of an object in bytes: what every reader of JSON holds exactly."""


@dataclass(frozen=True)
class Part:
    """One object of a resource."""

    key: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Terms:
    """What may be done with data or weights; inherited over the whole ancestry."""

    licence: str = "unknown"
    commercial: str = "unknown"
    derivatives: str = "unknown"
    redistribution: str = "unknown"
    consent: str = "unknown"
    purpose: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a resource consists of and where it came from.

    `schema` is `fairloop.{kind}/{number}`; `details` is what only this kind has.
    """

    schema: str
    name: str
    parts: tuple[Part, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    terms: tuple[Terms, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    producer: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def part(self, suffix: str) -> Part:
        """The part whose key ends with this suffix."""
        for part in self.parts:
            if part.key.endswith(suffix):
                return part
        raise DataLoss(f"{self.name} has no part {suffix}", resource=self.name)


def producer(*libraries: str) -> dict[str, str]:
    """Versions of Python, the machine type, fairloop and the named libraries."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for library in ("fairloop", *libraries):
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions


def put_part(store: ObjectStore, key: str, data: bytes, sha256: str = "") -> Part:
    """Writes one part; again even when it exists, which renews its age. `sha256` where it is known."""
    store.put(key, data)
    return Part(key, sha256 or hashlib.sha256(data).hexdigest(), len(data))


def read_part(store: ObjectStore, part: Part) -> bytes:
    """A part's bytes; `DataLoss` naming the object when they are not what the manifest says."""
    data = store.get(part.key, most=part.size)
    found = hashlib.sha256(data).hexdigest()
    if found != part.sha256:
        raise _another(part, found, len(data))
    return data


def read_part_file(store: ObjectStore, part: Part, path: Path) -> None:
    """Writes a part to a file without holding it in memory; `DataLoss` as of `read_part`."""
    store.get_file(part.key, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != part.sha256:
        raise _another(part, found, path.stat().st_size)


def _another(part: Part, found: str, size: int) -> DataLoss:
    return DataLoss(
        f"{part.key} has sha256 {found[:16]}… and {size} bytes; "
        f"its manifest says {part.sha256[:16]}… and {part.size}",
        object=part.key,
    )


def download(store: ObjectStore, manifest: Manifest, folder: Path) -> list[Path]:
    """Writes a resource's files into a folder, their sha256 checked; paths in the manifest's order."""
    paths = []
    for part in manifest.parts:
        path = folder / part.key.rsplit("/", 1)[1]
        path.write_bytes(read_part(store, part))
        paths.append(path)
    return paths


def commit(store: ObjectStore, manifest: Manifest, clock: Clock = utc_now) -> Manifest:
    """Makes the resource exist: writes its manifest, after all its parts, with the use it was made for."""
    use = USE.get()
    details = manifest.details if use is None else {**manifest.details, "use": dict(use)}
    dated = Manifest(**{**manifest.__dict__, "details": details, "created": rfc3339(clock())})
    store.put_json(f"{manifest.name}/manifest.json", asdict(dated))
    return dated


def standing(store: ObjectStore, name: str, schema: str, ours: Part) -> Manifest | None:
    """The manifest that stands under this name with other bytes in the place of our part, if it is sound.

    Names come from logical contents, of which there can be several encodings (another library
    version, other row groups). A sound one must not be written over: until its manifest is
    replaced too, and for ever after a kill in between, readers would find a wrong sha256.
    None where there is nothing to spare: no resource, the same bytes, or corrupt ones.
    """
    try:
        found = load(store, name, schema)
        if "erasures" in found.details:
            return found  # what was erased of it is not brought back by making it again
        there = next((part for part in found.parts if part.key == ours.key), ours)
        if there.sha256 == ours.sha256:
            return None
        read_part(store, there)
    except (NotFound, DataLoss):
        return None
    return found


def keeping_promises(store: ObjectStore, name: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """The details of a resource that is made again; the earlier of the two last days of keeping it stays."""
    raw = store.find_json(f"{name}/manifest.json")
    before = raw.get("details") if isinstance(raw, dict) else None
    days = [found["retain_until"] for found in (before, details) if found and found.get("retain_until")]
    return {**details, "retain_until": min(days)} if days else dict(details)


def load(store: ObjectStore, name: str, schema: str) -> Manifest:
    """A resource's manifest.

    `schema` is the newest that the caller reads (`fairloop.dataset/1`). A newer
    number is refused by name, another kind too.
    """
    try:
        raw = store.get_json(f"{name}/manifest.json")
    except NotFound:
        raise NotFound(f"{name} does not exist (there is no manifest)", resource=name) from None
    where = f"{name}/manifest.json"
    if isinstance(raw, dict):
        check_schema(str(raw.get("schema", "")), schema, name)
    found = read_document(Manifest, raw, where)
    if found.name != name:
        raise DataLoss(f"{where} is the manifest of {found.name!r}", object=where)
    for part in found.parts:
        if not 0 <= part.size <= LARGEST or not is_key(part.key) or "/" not in part.key:
            raise DataLoss(f"{where}: {part.key!r} of {part.size} bytes is no part", object=where)
    for what, count in found.counts.items():
        if not 0 <= count <= LARGEST:
            raise DataLoss(f"{where}: {count} is no count of {what!r}", object=where)
    return found


def check_schema(found: str, newest: str, where: str) -> None:
    """Accepts every number up to the newest of the same kind."""
    kind, number = newest.rsplit("/", 1)
    found_kind, _, found_number = found.rpartition("/")
    if found_kind != kind or not re.fullmatch("[1-9][0-9]{0,8}", found_number):
        raise PreconditionFailed(f"{where} has schema {found!r}; expected {newest} or older", resource=where)
    if int(found_number) > int(number):
        raise PreconditionFailed(
            f"{where} was written in schema {found}; this version reads {newest} and older: update fairloop",
            resource=where,
        )


def inherited_terms(manifests: Sequence[Manifest], own: Sequence[Terms] = ()) -> tuple[Terms, ...]:
    """The terms of all ancestors and one's own, each once, in order."""
    seen: dict[Terms, None] = {}
    for manifest in manifests:
        seen.update(dict.fromkeys(manifest.terms))
    seen.update(dict.fromkeys(own))
    return tuple(seen)
