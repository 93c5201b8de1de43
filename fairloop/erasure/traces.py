"""What lies beside the resources: scratch of operations and journals of imports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fairloop.garbage import JOURNALS, SCRATCH
from fairloop.serving.operation_store import OperationStore
from fairloop.store import ObjectStore

SERVICES = ("generator", "annotator", "recognizer", "metrics")


def busy_operations(store: ObjectStore, resources: Sequence[str]) -> list[str]:
    """Unfinished operations, suspended ones too, whose request names one of these resources."""
    operations = OperationStore(store)
    found = []
    for service in SERVICES:
        for name in operations.active(service):
            record = operations.current(name)
            if (record is None or not record.final) and _names(operations, name, resources):
                found.append(name)
    return found


def scratch_keys(store: ObjectStore, resources: Sequence[str]) -> Iterator[str]:
    """Pieces, shard records and checkpoints of operations whose request names one of these resources."""
    operations = OperationStore(store)
    for service in SERVICES:
        for name in operations.names(service):
            if _names(operations, name, resources):
                for folder in SCRATCH:
                    yield from store.list(f"{name}/{folder}")


def journal_keys(store: ObjectStore) -> Iterator[str]:
    """Journals of unfinished imports: they hold rows of whoever was being imported."""
    yield from store.list(JOURNALS)


def _names(operations: OperationStore, name: str, resources: Sequence[str]) -> bool:
    request = operations.request(name)
    return request is not None and any(resource.encode() in request.body for resource in resources)
