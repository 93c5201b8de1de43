"""What nobody needs any more: parts that no manifest and no living operation names.

Parts come before their manifest, so a crash or a cancel leaves parts behind.
They are garbage once they are older than a day, and older than every operation
that is going on: one that takes days names its parts only at its end. A writer
that needs one puts it again, which renews its age.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fairloop.errors import DataLoss
from fairloop.manifest import Clock, utc_now
from fairloop.serving.operation_store import OperationStore
from fairloop.store import ObjectStore

DAY_SECONDS = 86_400.0
APART_SECONDS = 3_600.0
"""How far the clocks of the servers and of the store may be apart, generously."""
COLLECTIONS = (
    "datasets/",
    "annotations/",
    "embeddings/",
    "models/",
    "predictions/",
    "activations/",
    "reports/",
    "calibrations/",
)
JOURNALS = "imports/"
"""An import removes its journal when the dataset stands; what is left was abandoned."""
ACTIVE = "active/"
SCRATCH = ("parts/", "shards/", "checkpoints/")
"""What an operation needs only until it is final; its request and attempts stay, since they answer Get."""


@dataclass(frozen=True)
class Garbage:
    """One object to remove, and how old it is in seconds by the store's own times."""

    key: str
    age_seconds: float


def find_garbage(
    store: ObjectStore, older_than: float = DAY_SECONDS, clock: Clock = utc_now
) -> Iterator[Garbage]:
    """Objects older than `older_than` seconds that nothing names, in the store's order.

    A manifest that cannot be read stops the search: without it nothing is
    known to be garbage. Keys that are not Fairloop's are left alone.
    """
    named = _named_by_manifests(store)
    operations = OperationStore(store)
    final: dict[str, bool] = {}
    now = clock().timestamp()
    began = _earliest_start(store, operations)
    for prefix in (*COLLECTIONS, JOURNALS, "operations/"):
        for key, written in store.listing(prefix):
            age = now - written
            if age <= older_than or key in named:
                continue
            if prefix == "operations/":
                name, rest = _split(key)
                if not rest.startswith(SCRATCH):
                    continue
                if name not in final:
                    record = operations.current(name)
                    final[name] = record is None or record.final
                if not final[name]:
                    continue
            elif written > began - APART_SECONDS:
                continue
            yield Garbage(key, age)


def _earliest_start(store: ObjectStore, operations: OperationStore) -> float:
    """When the first of the operations began that are going on (seconds, Unix); infinity without one.

    A suspended one counts as well as any: what it put may be needed when it goes on.
    """
    earliest = float("inf")
    for key in store.list(ACTIVE):
        record = operations.current(f"operations/{key.rsplit('/', 1)[1]}")
        if record is not None and not record.final and record.created:
            earliest = min(earliest, datetime.fromisoformat(record.created).timestamp())
    return earliest


def _named_by_manifests(store: ObjectStore) -> set[str]:
    named: set[str] = set()
    for prefix in COLLECTIONS:
        for key in store.list(prefix):
            if not key.endswith("/manifest.json"):
                continue
            manifest = store.get_json(key)
            try:
                named.update(part["key"] for part in manifest["parts"])
            except (KeyError, TypeError) as error:
                raise DataLoss(f"{key} is no manifest; nothing is removed", object=key) from error
            named.add(key)
    return named


def _split(key: str) -> tuple[str, str]:
    """`operations/{id}` and the rest of an operation's key."""
    collection, identity, rest = key.split("/", 2)
    return f"{collection}/{identity}", rest
