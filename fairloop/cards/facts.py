"""The facts of a card, read from the store and the catalogues: nothing is estimated, nothing made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairloop import models, names, taxonomy
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, read_part
from fairloop.provenance import lineage as graph
from fairloop.provenance import terms
from fairloop.provenance.lineage import Lineage
from fairloop.stats.intervals import wilson
from fairloop.store import ObjectStore
from fairloop.tables import guess_column

UNLABELLED = "no label"
MOST_VALUES = 24
"""Values of one attribute that a card lists; free text that came with the data has any number."""
QUANTILES = (0.0, 0.5, 0.95, 1.0)


@dataclass(frozen=True)
class Share:
    """How many of all carry a value, and the 95 % interval of that share (Wilson)."""

    value: str
    count: int
    total: int

    @property
    def share(self) -> float:
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.count, self.total)


@dataclass(frozen=True)
class Composition:
    """The values of one attribute over all images, and how they are known.

    `how` is perceived, self_declared, measured or unknown; `source` says by whom.
    """

    attribute: str
    how: str
    source: str
    shares: tuple[Share, ...]
    more_values: int = 0


@dataclass(frozen=True)
class Labelling:
    """An annotation table of the dataset: who labelled, how often without an answer, notes on the weights."""

    name: str
    annotators: Mapping[str, str]
    statuses: tuple[Share, ...]
    compositions: tuple[Composition, ...]
    uncertain: tuple[Share, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DatasetFacts:
    """What only datasets have. Sizes are in bytes and pixels: smallest, median, 95 %, largest."""

    sources: tuple[Share, ...]
    formats: tuple[Share, ...]
    bytes: tuple[int, ...]
    widths: tuple[int, ...]
    heights: tuple[int, ...]
    without_subject: int
    images_per_subject: tuple[int, ...]
    makers: tuple[Share, ...]
    compositions: tuple[Composition, ...]
    labellings: tuple[Labelling, ...]


@dataclass(frozen=True)
class Facts:
    """All facts of one card. `against` holds, by policy, what stands against it."""

    manifest: Manifest
    bucket: str
    lineage: Lineage
    against: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    purposes: tuple[str, ...]
    reports: tuple[tuple[str, str], ...]
    dataset: DatasetFacts | None = None
    trained_on: tuple[tuple[str, str], ...] = field(default_factory=tuple)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.manifest.parts)


def gather(store: ObjectStore, name: str) -> Facts:
    """The facts of a dataset or model version; `InvalidInput` for another kind.

    Reads all manifests of the bucket, to find the tables and reports made from it.
    """
    kind = names.kind_of(name)
    if kind not in ("dataset version", "model version"):
        raise InvalidInput("NAME", f"{name} is neither a dataset nor a model version: cards are of these")
    found = graph.read_manifest(store, name)
    ancestry = graph.ancestry(store, [name])
    descent = graph.descent(store, name)
    reports = sorted(
        (node.name, str(node.details.get("kind", "")))
        for node in descent.nodes.values()
        if node.kind == "report" and not node.wrong
    )
    tables = [child for child in descent.edges.get(name, ()) if descent.nodes[child].kind == "annotations"]
    return Facts(
        manifest=found,
        bucket=store.bucket,
        lineage=ancestry,
        against={
            policy: tuple(dict.fromkeys(str(o) for o in terms.judge(ancestry, policy)))
            for policy in terms.POLICIES
        },
        warnings=tuple(terms.warnings(store, ancestry)),
        purposes=tuple(dict.fromkeys(t.purpose for t in found.terms if t.purpose)),
        reports=tuple(reports),
        dataset=_dataset(store, found, tables) if kind == "dataset version" else None,
        trained_on=tuple(
            (parent, ancestry.nodes[parent].title)
            for parent in ancestry.nodes[name].parents
            if parent.startswith(("datasets/", "published/", "annotations/"))
        ),
    )


def _dataset(store: ObjectStore, found: Manifest, tables: Sequence[str]) -> DatasetFacts:
    index = pq.read_table(
        pa.BufferReader(read_part(store, found.part("/index.parquet"))),
        columns=["format", "size", "width", "height", "subject_id", "labels", "source", "model"],
    )
    total = index.num_rows
    subjects = Counter(index["subject_id"].drop_null().to_pylist())
    return DatasetFacts(
        sources=_shares(_counted(index["source"]), total),
        formats=_shares(_counted(index["format"]), total),
        bytes=_quantiles(index["size"]),
        widths=_quantiles(index["width"]),
        heights=_quantiles(index["height"]),
        without_subject=index["subject_id"].null_count,
        images_per_subject=_spread(subjects.values()),
        makers=_shares(_counted(index["model"].drop_null()), total),
        compositions=_given(found, index["labels"]),
        labellings=tuple(_labelling(store, name, total) for name in tables),
    )


def _given(found: Manifest, column: pa.ChunkedArray) -> tuple[Composition, ...]:
    """Labels that came with the images."""
    told = found.details.get("labels", {})
    counts: dict[str, Counter[str]] = {}
    for labels in column.to_pylist():
        for attribute, value in labels or ():
            if attribute != "file":  # where an image lay: often somebody's name, and no attribute
                counts.setdefault(attribute, Counter())[value] += 1
    made = []
    for attribute, values in sorted(counts.items()):
        if attribute.startswith("perceived_"):
            what, _, who = attribute.removeprefix("perceived_").partition(".")
            how, source = "perceived", f"the annotator {who}, which accepted the images by it"
        else:
            what = attribute
            known = told.get(attribute, {})
            how, source = known.get("how", "unknown"), known.get("source", "not told")
        made.append(_composition(what, how, source, values, len(column)))
    return tuple(made)


def _labelling(store: ObjectStore, name: str, images: int) -> Labelling:
    found = graph.read_manifest(store, name)
    guesses = [(str(a), str(who)) for a, who in found.details.get("guesses", ())]
    wanted = ["face", "status"]
    for attribute, who in guesses:
        wanted += [guess_column(attribute, who), guess_column(attribute, who, "uncertain")]
    table = pq.read_table(pa.BufferReader(read_part(store, found.part("/table.parquet"))), columns=wanted)
    table = table.filter(pc.equal(table["face"], 0))
    versions = found.details.get("annotators", {})
    compositions, uncertain = [], []
    for attribute, who in guesses:
        labels = Counter(table[guess_column(attribute, who)].drop_null().to_pylist())
        source = f"the annotator {who} {versions.get(who, '')}".rstrip()
        compositions.append(_composition(attribute, "perceived", source, labels, table.num_rows))
        flags = table[guess_column(attribute, who, "uncertain")].drop_null()
        if len(flags):
            unsure = int(pc.sum(flags).as_py() or 0)
            uncertain.append(Share(f"{attribute} by {who}", unsure, len(flags)))
    return Labelling(
        name=name,
        annotators=versions,
        statuses=_shares(_counted(table["status"]), table.num_rows),
        compositions=tuple(compositions),
        uncertain=tuple(uncertain),
        notes=tuple(_notes(found.details.get("weights", ()))),
    )


def _notes(weights: Iterable[str]) -> list[str]:
    """What the catalogue says of the weights that answered."""
    known = models.catalogue()
    return [
        f"{name}: {known[name].description}; {known[name].terms.licence}"
        + (f"; {known[name].terms.note}" if known[name].terms.note else "")
        for name in weights
        if name in known
    ]


def _composition(attribute: str, how: str, source: str, counts: Mapping[str, int], total: int) -> Composition:
    order = {value: k for k, value in enumerate(taxonomy.ATTRIBUTES.get(attribute, ()))}
    ordered = sorted(counts.items(), key=lambda item: (order.get(item[0], len(order)), -item[1], item[0]))
    shares = [Share(value, count, total) for value, count in ordered[:MOST_VALUES]]
    missing = total - sum(counts.values())
    if missing:
        shares.append(Share(UNLABELLED, missing, total))
    return Composition(attribute, how, source, tuple(shares), max(len(ordered) - MOST_VALUES, 0))


def _counted(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({str(row["values"]): int(row["counts"]) for row in column.value_counts().to_pylist()})


def _shares(counts: Mapping[str, int], total: int) -> tuple[Share, ...]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Share(value, count, total) for value, count in ordered[:MOST_VALUES])


def _quantiles(column: pa.ChunkedArray) -> tuple[int, ...]:
    return _spread(column.drop_null().to_numpy())


def _spread(values: Any) -> tuple[int, ...]:
    """Smallest, median, 95 % and largest: values that occur; empty of nothing."""
    found = np.fromiter(values, np.int64)
    if not found.size:
        return ()
    return tuple(int(v) for v in np.quantile(found, QUANTILES, method="inverted_cdf"))
