"""Models in the store: `models/{name}/versions/{version}`, their weights and what they were made from."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fairloop import manifest, models, names
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import Clock, Manifest, Terms, utc_now
from fairloop.store import ObjectStore

logger = logging.getLogger(__name__)

T = TypeVar("T")

SCHEMA = "fairloop.model/1"


def version_of(files: Mapping[str, bytes]) -> str:
    """First 16 hex of the sha256 of the weights; of several files, of the ordered list of their hashes."""
    hashes = [hashlib.sha256(data).hexdigest() for data in files.values()]
    if len(hashes) == 1:
        return hashes[0][:16]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def publish(
    store: ObjectStore,
    name: str,
    files: Mapping[str, bytes],
    *,
    service: str,
    kind: str,
    description: str,
    parents: Sequence[str] = (),
    terms: Sequence[Terms] = (),
    details: Mapping[str, Any] | None = None,
    libraries: Sequence[str] = (),
    beside: Iterable[tuple[str, bytes]] = (),
    clock: Clock = utc_now,
) -> Manifest:
    """Stores a model version: its files first, its manifest last. The same weights give the same name.

    `beside` are parts that tell of the training, such as samples: named in the
    manifest behind the files, and not part of the version. One is in memory at a time.
    """
    names.check("model", name, "target_model")
    resource = f"{name}/versions/{version_of(files)}"
    parts = tuple(
        manifest.put_part(store, f"{resource}/{file}", data)
        for file, data in itertools.chain(files.items(), beside)
    )
    return manifest.commit(
        store,
        Manifest(
            schema=SCHEMA,
            name=resource,
            parts=parts,
            parents=tuple(parents),
            terms=tuple(terms),
            details={"service": service, "kind": kind, "description": description, **(details or {})},
            producer=manifest.producer(*libraries),
        ),
        clock,
    )


def weights_terms(entries: Iterable[str]) -> tuple[Terms, ...]:
    """The terms of catalogue entries, each once, as a manifest carries them.

    Of an entry that this catalogue lacks nothing is known.
    """
    found: dict[Terms, None] = {}
    for name in entries:
        entry = models.catalogue().get(name)
        t = entry.terms if entry else None
        known = Terms(t.licence, t.commercial, t.derivatives, t.redistribution, t.consent) if t else Terms()
        found[known] = None
    return tuple(found)


def publish_catalogue(
    store: ObjectStore, entries: Sequence[str], *, service: str, kind: str, description: str, **details: Any
) -> Manifest:
    """Makes catalogue weights a model of the store, so that every row can name them.

    The first entry names the model. Nothing is written when it is there.
    """
    paths = [models.fetch(entry) for entry in entries]
    files = {path.name: path.read_bytes() for path in paths}
    resource = f"models/{entries[0]}/versions/{version_of(files)}"
    if store.size(f"{resource}/manifest.json") is not None:
        return manifest.load(store, resource, SCHEMA)
    return publish(
        store,
        f"models/{entries[0]}",
        files,
        service=service,
        kind=kind,
        description=description,
        terms=weights_terms(entries),
        details=details,
    )


def open_model(store: ObjectStore, name: str, service: str, field: str = "model") -> Manifest:
    """A model version's manifest; an error when it is another service's."""
    found = manifest.load(store, names.check("model version", name, field), SCHEMA)
    owner, kind = found.details.get("service"), found.details.get("kind")
    if not isinstance(owner, str) or not isinstance(kind, str) or not found.parts:
        raise DataLoss(f"{name}/manifest.json lacks a service, a kind or files", object=name)
    if owner != service:
        raise InvalidInput(field, f"{name} is a model of the {owner}, not of the {service}")
    return found


@dataclass(frozen=True)
class Listing(Generic[T]):
    """The models of one service, by name, and the names of those that nobody can read."""

    models: tuple[T, ...]
    unreadable: tuple[str, ...]


def list_models(store: ObjectStore, service: str, view: Callable[[Manifest], T]) -> Listing[T]:
    """What `view` makes of the manifest of each model of one service.

    A manifest that is damaged, of a newer schema, or lacks what `view` needs is
    left out, named and logged: one bad model must not hide the others. A store
    that does not answer raises `Unavailable` all the same.
    """
    found: list[T] = []
    unreadable: list[str] = []
    for key in sorted(key for key in store.list("models/") if key.endswith("/manifest.json")):
        name = key.removesuffix("/manifest.json")
        try:
            model = manifest.load(store, name, SCHEMA)
            if model.details["service"] == service:
                found.append(view(model))
        except NotFound:
            continue  # deleted since it was listed
        except (DataLoss, PreconditionFailed, KeyError, TypeError, ValueError, AttributeError) as error:
            unreadable.append(name)
            fields = {"model": name, "reason": f"{type(error).__name__}: {error}"}
            logger.warning("unreadable manifest", extra={"fields": fields})
    return Listing(tuple(found), tuple(unreadable))
