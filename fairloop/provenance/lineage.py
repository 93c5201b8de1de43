"""Where a resource comes from and what came of it: a graph over manifests, down to catalogued weights.

Nodes are resources by name, `weights/{entry}` of the catalogue of models, and
`published/{set}` of the catalogue of published data sets. Edges come from a
manifest's `parents` and from its details: `weights` (catalogue entries that
answered, such as an annotator's), `published` (the sets its images are of) and
`trained_on` (the sets a model was trained on). A part whose sha256 is in the
catalogue is that entry's weights, whoever stored it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fairloop import manifest, models, names
from fairloop.errors import DataLoss, NotFound, PreconditionFailed
from fairloop.garbage import COLLECTIONS
from fairloop.manifest import Manifest, Terms
from fairloop.provenance import published
from fairloop.registry import weights_terms
from fairloop.store import ObjectStore

__all__ = ["PUBLISHED", "SCHEMAS", "WEIGHTS", "Lineage", "Node", "ancestry", "descent", "read_manifest"]

WEIGHTS = "weights"
PUBLISHED = "published set"
MISSING = "is missing: there is no manifest"

SCHEMAS = {
    "dataset version": "fairloop.dataset/1",
    "model version": "fairloop.model/1",
    "annotations": "fairloop.annotations/1",
    "embeddings": "fairloop.embeddings/1",
    "predictions": "fairloop.predictions/1",
    "activations": "fairloop.activations/1",
    "report": "fairloop.report/1",
    "calibration": "fairloop.calibration/1",
}
"""The newest schema of each kind that has a manifest."""

READERS = 8
"""Manifests read at once where the whole bucket is looked at."""


@dataclass(frozen=True)
class Node:
    """One thing of the graph.

    `wrong` says why nothing is known of it (missing, unreadable, in no
    catalogue); empty where it was read. `terms` are all that its manifest
    carries, inherited ones too. `parents` are names of nodes.
    """

    name: str
    kind: str
    parents: tuple[str, ...] = ()
    wrong: str = ""
    title: str = ""
    created: str = ""
    terms: tuple[Terms, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """What was asked about, every node by name, and where each leads: to parents, or to children."""

    roots: tuple[str, ...]
    nodes: Mapping[str, Node]
    edges: Mapping[str, tuple[str, ...]]

    def ways(self) -> dict[str, tuple[str, ...]]:
        """The shortest way from a root to every node that can be reached, both ends included."""
        found: dict[str, tuple[str, ...]] = {root: (root,) for root in self.roots}
        waiting = deque(self.roots)
        while waiting:
            name = waiting.popleft()
            for following in self.edges.get(name, ()):
                if following not in found:
                    found[following] = (*found[name], following)
                    waiting.append(following)
        return found

    def own_terms(self, name: str) -> tuple[Terms, ...]:
        """The terms that begin at a node: those that none of its parents carries. Of an ancestry only."""
        node = self.nodes[name]
        inherited = {
            terms for parent in node.parents if parent in self.nodes for terms in self.nodes[parent].terms
        }
        return tuple(terms for terms in node.terms if terms not in inherited)

    def to_json(self) -> dict[str, Any]:
        """For machines: nodes with their own facts and the names that they lead to."""
        return {
            "roots": list(self.roots),
            "nodes": [
                {
                    "name": node.name,
                    "kind": node.kind,
                    "title": node.title,
                    "created": node.created,
                    "wrong": node.wrong,
                    "licences": [terms.licence for terms in node.terms],
                    "edges": list(self.edges.get(node.name, ())),
                }
                for node in self.nodes.values()
            ],
        }


def ancestry(store: ObjectStore, wanted: Iterable[str]) -> Lineage:
    """Everything that these resources were made from, however far back.

    A parent that is gone, or that cannot be read, is a node that says so. Each
    name is read once, so circles end.
    """
    roots = tuple(dict.fromkeys(wanted))
    nodes: dict[str, Node] = {}
    waiting = deque(roots)
    while waiting:
        name = waiting.popleft()
        if name not in nodes:
            nodes[name] = _node(store, name)
            waiting.extend(nodes[name].parents)
    return Lineage(roots, nodes, {name: node.parents for name, node in nodes.items()})


def descent(store: ObjectStore, name: str) -> Lineage:
    """Everything in the bucket that was made from a resource, weights or published set, however far on.

    Reads every manifest of the bucket.
    """
    known = {node.name: node for node in all_nodes(store)}
    for node in tuple(known.values()):
        for parent in node.parents:
            if parent not in known:
                known[parent] = _node(store, parent)
    if name not in known:
        known[name] = _node(store, name)
    children: dict[str, list[str]] = {}
    for node in known.values():
        for parent in node.parents:
            children.setdefault(parent, []).append(node.name)
    edges = {parent: tuple(sorted(found)) for parent, found in children.items()}
    reached = Lineage((name,), known, edges).ways()
    return Lineage(
        (name,),
        {one: known[one] for one in reached},
        {one: edges[one] for one in reached if one in edges},
    )


def all_nodes(store: ObjectStore) -> Iterator[Node]:
    """A node for every manifest of the bucket, in the order of names."""
    found = sorted(stored_names(store))
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(lambda name: _node(store, name), found)


def stored_names(store: ObjectStore) -> Iterator[str]:
    """Names of everything in the bucket that has a manifest."""
    for prefix in COLLECTIONS:
        for key in store.list(prefix):
            name = key.removesuffix("/manifest.json")
            if name != key and names.kind_of(name):
                yield name


def read_manifest(store: ObjectStore, name: str) -> Manifest:
    """The manifest of any kind of resource; raises like `manifest.load`."""
    kind = names.kind_of(name)
    if kind is None:
        raise NotFound(f"{name!r} is not the name of a stored resource", resource=name)
    return manifest.load(store, name, SCHEMAS[kind])


def _node(store: ObjectStore, name: str) -> Node:
    collection, _, rest = name.partition("/")
    if collection == "weights":
        return _weights(name, rest)
    if collection == "published":
        return _published(name, rest)
    kind = names.kind_of(name)
    if kind is None:
        return Node(name, "unknown", wrong="is not the name of a stored resource")
    try:
        found = read_manifest(store, name)
        return Node(name, kind, _parents(found), "", _title(found), found.created, found.terms, found.details)
    except NotFound:
        return Node(name, kind, wrong=MISSING)
    except (DataLoss, PreconditionFailed, TypeError, AttributeError) as error:
        return Node(name, kind, wrong=f"cannot be read: {error}")


def _weights(name: str, entry: str) -> Node:
    known = models.catalogue().get(entry)
    if known is None:
        return Node(name, WEIGHTS, wrong="is not in the catalogue of models")
    parents = tuple(f"published/{one}" for one in known.trained_on)
    return Node(name, WEIGHTS, parents, title=known.description, terms=weights_terms([entry]))


def _published(name: str, title: str) -> Node:
    known = published.catalogue().get(title)
    if known is None:
        return Node(name, PUBLISHED, wrong="is not in the catalogue of published sets")
    parents = tuple(f"published/{one}" for one in known.derived_from)
    text = f"{known.title} (withdrawn)" if known.withdrawn else known.title
    return Node(name, PUBLISHED, parents, title=text, terms=(known.terms,))


def _parents(found: Manifest) -> tuple[str, ...]:
    hashes = {part.sha256 for part in found.parts}
    catalogued = [entry.name for entry in models.catalogue().values() if entry.sha256 in hashes]
    return tuple(
        dict.fromkeys(
            [
                *found.parents,
                *(f"weights/{entry}" for entry in (*_list(found, "weights"), *catalogued)),
                *(f"published/{one}" for key in ("published", "trained_on") for one in _list(found, key)),
            ]
        )
    )


def _list(found: Manifest, key: str) -> list[str]:
    value = found.details.get(key, ())
    return [str(one) for one in ([value] if isinstance(value, str) else value)]


def _title(found: Manifest) -> str:
    counts = {**found.counts}
    details = found.details
    if "images" in counts:
        return f"{counts['images']} images, {counts.get('subjects', 0)} subjects"
    if "annotators" in details:
        return f"{counts.get('rows', 0)} rows by {', '.join(sorted(details['annotators']))}"
    if "rows" in counts:
        return f"{counts['rows']} rows"
    return str(details.get("description") or details.get("kind") or "")
