"""What was erased stays known by hash alone, so that it cannot come back unnoticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairloop.errors import DataLoss
from fairloop.store import ObjectStore

PREFIX = "erasures/"
FILE = "tombstone.json"


@dataclass(frozen=True)
class Tombstones:
    """sha256 of erased image bytes and of erased subjects → the erasure that took them."""

    images: dict[bytes, str] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)

    def of_image(self, digest: bytes) -> str | None:
        """The erasure that took an image with this sha256."""
        return self.images.get(digest)

    def of_subject(self, subject: str | None) -> str | None:
        """The erasure that took this subject (`namespace:id`)."""
        # Without tombstones nothing is hashed: this is asked of every image of an import.
        return self.subjects.get(subject_digest(subject)) if subject and self.subjects else None

    def among(self, images: Mapping[bytes, str | None]) -> dict[bytes, str]:
        """Those of the images (sha256 → subject) that are erased, by bytes or subject → the erasure."""
        if not self.images and not self.subjects:
            return {}
        gone = {subject: self.of_subject(subject) for subject in set(images.values())}
        found = ((digest, self.of_image(digest) or gone[subject]) for digest, subject in images.items())
        return {digest: erasure for digest, erasure in found if erasure}


def subject_digest(subject: str) -> str:
    """A subject as a tombstone holds it: its name cannot be read from it, though it can be tried."""
    return hashlib.sha256(b"fairloop subject\0" + subject.encode()).hexdigest()


def read(store: ObjectStore) -> Tombstones:
    """All tombstones of a bucket."""
    found = Tombstones()
    for key in list(store.list(PREFIX)):
        if not key.endswith(f"/{FILE}"):
            continue
        raw = store.get_json(key)
        erasure = key.removesuffix(f"/{FILE}")
        try:
            found.images.update({bytes.fromhex(digest): erasure for digest in raw["images"]})
            found.subjects.update({str(digest): erasure for digest in raw["subjects"]})
        except (KeyError, TypeError, ValueError) as error:
            raise DataLoss(f"{key} is no tombstone; imports cannot be checked", object=key) from error
    return found


def write(store: ObjectStore, erasure: str, images: frozenset[str], subjects: frozenset[str]) -> None:
    """Writes the tombstone of one erasure; what stands in it already stays."""
    before = digests(store, erasure)
    store.put_json(
        f"{erasure}/{FILE}",
        {
            "schema": "fairloop.tombstone/1",
            "images": sorted(images | before),
            "subjects": sorted(subject_digest(subject) for subject in subjects),
        },
    )


def digests(store: ObjectStore, erasure: str) -> frozenset[str]:
    """sha256 of the images that one erasure took; none where it is not begun."""
    raw = store.find_json(f"{erasure}/{FILE}")
    return frozenset(str(digest) for digest in raw["images"]) if isinstance(raw, dict) else frozenset()
