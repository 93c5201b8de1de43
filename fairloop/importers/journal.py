"""The journal of an import: finished shards, so that a second try copies only what is missing.

It lies under `imports/{digest}/` until the dataset stands. `digest` names the
request (kind, source, options, dataset). An entry counts when the source still
says the same up to its place, and when its shard is still there.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.errors import DataLoss, NotFound
from fairloop.importers.record import Problem
from fairloop.manifest import Part, put_part, read_part
from fairloop.store import ObjectStore
from fairloop.tables import canonical_json

PREFIX = "imports/"
DELETES = 8
"""At once."""


@dataclass(frozen=True)
class Entry:
    """One finished shard: its place in the source (`done` items, their fingerprint) and what it holds."""

    done: int
    fingerprint: str
    member: str
    part: Part
    index: Part
    dropped: int
    problems: tuple[Problem, ...]
    """Of reading, up to here and after the entry before."""


class Journal:
    """The journal of one request."""

    def __init__(self, store: ObjectStore, request: dict[str, Any]) -> None:
        digest = hashlib.sha256(canonical_json(request)).hexdigest()[:32]
        self._store = store
        self._prefix = f"{PREFIX}{digest}/"
        self._count = 0

    def entries(self) -> list[Entry]:
        """What an earlier try finished, in order, as far as it can be read; none is the usual case."""
        found = []
        for number in range(10**6):
            try:
                raw = self._store.get_json(f"{self._prefix}{number:06}.json")
                found.append(
                    Entry(
                        done=int(raw["done"]),
                        fingerprint=str(raw["fingerprint"]),
                        member=str(raw["member"]),
                        part=Part(**raw["part"]),
                        index=Part(**raw["index"]),
                        dropped=int(raw["dropped"]),
                        problems=tuple(Problem(**problem) for problem in raw["problems"]),
                    )
                )
            except (NotFound, DataLoss, KeyError, TypeError, ValueError):
                break  # the end, or an entry that a crash cut: from here on the images are copied again
        return found

    def rows(self, entry: Entry) -> pa.Table | None:
        """The index rows of an entry; None when they or its shard are gone."""
        try:
            if self._store.size(entry.part.key) != entry.part.size:
                return None
            return pq.read_table(pa.BufferReader(read_part(self._store, entry.index)))
        except (NotFound, DataLoss, pa.ArrowException):
            return None

    def keep(self, entries: int) -> None:
        """The first `entries` stay; what follows is written over."""
        self._count = entries

    def add(
        self,
        member: str,
        place: tuple[int, str],
        dropped: int,
        problems: tuple[Problem, ...],
        part: Part,
        rows: pa.Table,
    ) -> None:
        """Notes a finished shard: where it ends, and the problems of reading since the one before."""
        key = f"{self._prefix}{self._count:06}"
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        index = put_part(self._store, f"{key}.parquet", sink.getvalue().to_pybytes())
        done, fingerprint = place
        entry = Entry(done, fingerprint, member, part, index, dropped, problems)
        self._store.put_json(f"{key}.json", asdict(entry))
        self._count += 1

    def remove(self) -> None:
        """Forgets the journal: the dataset stands."""
        keys = list(self._store.list(self._prefix))
        with ThreadPoolExecutor(DELETES) as pool:
            # In the caller's context, which says how patient the store is.
            gone = [pool.submit(copy_context().run, self._store.delete, key) for key in keys]
        for one in gone:
            one.result()
