"""Images that travel inside a message, and their limits (design §2)."""

from __future__ import annotations

from collections.abc import Sequence

from fairloop.errors import InvalidInput
from fairloop.v1 import annotator_pb2

BATCH_IMAGES = 64
INLINE_BYTES = 8 * 2**20


def check_items(items: Sequence[annotator_pb2.ImageItem]) -> None:
    """The limits of a batch; `InvalidInput` names the item."""
    if not 1 <= len(items) <= BATCH_IMAGES:
        raise InvalidInput("images", f"{len(items)} images; a batch has 1 to {BATCH_IMAGES}")
    for position, item in enumerate(items):
        check_image(item.image, f"images[{position}].image", f" (item {item.item_id!r})")


def check_image(image: bytes, field: str, which: str = "") -> None:
    """The limits of one inline image; `InvalidInput` names the field."""
    if not image:
        raise InvalidInput(field, f"is empty{which}")
    if len(image) > INLINE_BYTES:
        raise InvalidInput(field, f"{len(image)} bytes; an inline image has at most {INLINE_BYTES}{which}")
