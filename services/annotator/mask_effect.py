"""What masks on a network's units did to its predictions: labels that changed, of all images and by group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from fairloop.stats.intervals import wilson
from fairloop.v1 import annotator_pb2
from services.annotator.selectivity import Grouping


@dataclass
class _Count:
    images: int = 0
    changed: int = 0
    cosines: float = 0.0


class EffectTally:
    """Counts changed predictions in the pieces of an activation table, which come in the dataset's order."""

    def __init__(self, attributes: Sequence[str], by: Sequence[Grouping]) -> None:
        """`attributes` are those that the network guesses; none for an embedding."""
        self._attributes = tuple(attributes)
        self._by = tuple(by)
        self._counts: dict[tuple[str, str], _Count] = defaultdict(_Count)
        self._rows = 0

    def add(self, rows: pa.Table) -> None:
        """Counts the next rows."""
        for attribute in self._attributes:
            before = rows[f"perceived_{attribute}.label"].to_pylist()
            after = rows[f"perceived_{attribute}.masked_label"].to_pylist()
            there = [label is not None for label in before]
            changed = [first != second for first, second in zip(before, after, strict=True)]
            self._count(attribute, there, changed, [0.0] * len(there))
        if not self._attributes:
            cosines = rows["masked_cosine"].to_pylist()
            there = [cosine is not None for cosine in cosines]
            self._count("", there, [False] * len(there), [cosine or 0.0 for cosine in cosines])
        self._rows += rows.num_rows

    def _count(
        self, attribute: str, there: Sequence[bool], changed: Sequence[bool], cosines: Sequence[float]
    ) -> None:
        for place, known in enumerate(there):
            if not known:
                continue
            labels = ((one, one.labels[self._rows + place]) for one in self._by)
            for group in ("", *(one.name(label) for one, label in labels if label)):
                count = self._counts[attribute, group]
                count.images += 1
                count.changed += changed[place]
                count.cosines += cosines[place]

    def messages(self) -> list[annotator_pb2.MaskEffect]:
        """All images of each attribute first, then its groups by name."""
        found = []
        for (attribute, group), count in sorted(self._counts.items()):
            effect = annotator_pb2.MaskEffect(
                attribute=attribute, group=group, images=count.images, changed=count.changed
            )
            if attribute:
                effect.low, effect.high = wilson(count.changed, count.images)
            else:
                effect.mean_cosine = count.cosines / count.images
            found.append(effect)
        return found
