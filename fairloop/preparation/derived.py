"""A new dataset of chosen images of others: bytes and ids stay, parents and terms are carried on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fairloop import selection
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.erasure import leftovers
from fairloop.errors import InvalidInput
from fairloop.manifest import inherited_terms
from fairloop.store import ObjectStore

Change = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""An index row → the fields of `Image` that are to differ in the new dataset."""
Progress = Callable[[int, int], None]

_KEPT = tuple(field for field in Image.__dataclass_fields__ if field not in ("data", "labels", "parents"))


@dataclass(frozen=True)
class Piece:
    """Images of one dataset: `rows` are positions in its index (None: all), in index order.

    `prefix` replaces the namespace of its subjects, so that two people called
    `1` in two sets stay two people; None keeps it.
    """

    dataset: Dataset
    rows: Collection[int] | None = None
    prefix: str | None = None
    change: Change | None = None

    def __len__(self) -> int:
        return len(self.dataset) if self.rows is None else len(self.rows)


@dataclass(frozen=True)
class Derived:
    """The new dataset, and how many images it did not take because it had them."""

    dataset: Dataset
    joined: int


def write(
    store: ObjectStore,
    name: str,
    pieces: Sequence[Piece],
    *,
    shared: str = "refuse",
    details: Mapping[str, Any] | None = None,
    progress: Progress = lambda done, total: None,
) -> Derived:
    """Writes the pieces one after the other as `datasets/{name}`.

    Between pieces, rows equal in bytes and subject are joined: the first stays.
    Equal bytes under two subjects are refused, or kept when `shared` is `keep`.
    The extension of the images inside the shards is the first piece's.

    Raises `InvalidInput` naming the image that stands under two subjects, or when
    nothing was chosen, and `PreconditionFailed` when one was erased meanwhile.
    """
    if shared not in ("refuse", "keep"):
        raise InvalidInput("shared", f"{shared!r} is not one of refuse, keep")
    total = sum(len(piece) for piece in pieces)
    if not total:
        raise InvalidInput("rows", "no image was chosen; a dataset needs at least one")
    sources = [piece.dataset.manifest for piece in pieces]
    parents = list(dict.fromkeys(manifest.name for manifest in sources))
    writer = DatasetWriter(
        store,
        name,
        image_member=str(sources[0].details["image_member"]),
        parents=parents,
        terms=inherited_terms(sources),
    )
    owners: dict[bytes, tuple[int, str | None]] = {}
    done = joined = 0
    for number, piece in enumerate(pieces):
        for row, data in selection.images(
            piece.dataset, piece.rows if piece.rows is None else sorted(piece.rows)
        ):
            done += 1
            image = _image(row, data, piece)
            digest = bytes.fromhex(row["sha256"])
            first, owner = owners.setdefault(digest, (number, image.subject_id))
            if owner != image.subject_id and shared == "refuse":
                where = f"{piece.dataset.name}/images/{row['image_id']}"
                raise InvalidInput(
                    "shared",
                    f"{where} is of {image.subject_id or 'nobody known'} and, with the same bytes, "
                    f"of {owner or 'nobody known'} in {pieces[first].dataset.name}",
                )
            if first != number and owner == image.subject_id:
                joined += 1
                continue
            # Of one dataset the ids stay; of several, repeats are numbered anew.
            writer.add(image, image_id=row["image_id"] if len(pieces) == 1 else None)
            if done % 512 == 0:
                progress(done, total)
    progress(done, total)
    carried = {"labels": _labels(sources), **(details or {})}
    images = {digest: owner for digest, (_, owner) in owners.items()}
    return Derived(leftovers.finish(store, writer, images, lambda: writer.finish(carried)), joined)


def _image(row: Mapping[str, Any], data: bytes, piece: Piece) -> Image:
    labels = dict(row["labels"] or ())
    image = Image(
        data,
        **{field: row[field] for field in _KEPT},
        labels=labels,
        parents=tuple(row["parents"] or ()),
    )
    if piece.prefix is not None and image.subject_id is not None:
        image = replace(image, subject_id=f"{piece.prefix}:{selection.own_subject(image.subject_id)}")
    return replace(image, **piece.change(row)) if piece.change else image


def _labels(manifests: Sequence[Any]) -> dict[str, Any]:
    """How each attribute is known, where all sources that tell it agree; `mixed` where they do not."""
    found: dict[str, Any] = {}
    for manifest in manifests:
        for attribute, label in manifest.details.get("labels", {}).items():
            if found.setdefault(attribute, label) != label:
                found[attribute] = {"how": "unknown", "source": "mixed"}
    return found
