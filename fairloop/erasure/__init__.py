"""Erasure: people and images that must be forgotten are, everywhere their bytes and numbers went.

`erase` finds all images of the subjects asked for, equal bytes in other
datasets, and what was made from them; rewrites datasets and tables without
them; withdraws reports that name them; marks models that were trained on them;
and leaves a tombstone (hashes only) and a receipt. It goes on where it was
interrupted when it is called again with the same request.

    from fairloop import erasure
    receipt = erasure.erase(store, subjects=["photos:ann"], reason="withdrew consent")
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from fairloop.dataset import SCHEMA as DATASET
from fairloop.dataset import Dataset
from fairloop.documents import read_document
from fairloop.erasure import reports, rewriting, tombstones
from fairloop.erasure.targets import Targets, dataset_names, find, manifests
from fairloop.erasure.traces import busy_operations, journal_keys, scratch_keys
from fairloop.errors import InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import Clock, Manifest, check_schema, load, rfc3339, utc_now
from fairloop.registry import SCHEMA as MODEL
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, PREDICTIONS
from fairloop.tables import canonical_json

__all__ = ["Receipt", "erase", "expired", "outdated_note", "read_receipt", "tombstones"]

RECEIPT = "fairloop.erasure/1"
TABLES = (("annotations/", ANNOTATIONS), ("embeddings/", EMBEDDINGS), ("predictions/", PREDICTIONS))
LONGEST_REASON = 500

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Receipt:
    """What an erasure did: names of resources and counts, and nothing of whom it concerned."""

    name: str
    reason: str
    begun: str
    finished: str
    subjects: int
    images: int
    datasets: tuple[str, ...]
    tables: tuple[str, ...]
    reports_withdrawn: tuple[str, ...]
    reports_outdated: tuple[str, ...]
    models: tuple[str, ...]
    objects_removed: int


def erase(
    store: ObjectStore,
    subjects: Sequence[str] = (),
    images: Sequence[str] = (),
    *,
    reason: str,
    clock: Clock = utc_now,
    progress: Progress = lambda stage, done, total: None,
) -> Receipt:
    """Erases subjects (`namespace:id`) and images (ids, or `datasets/…/images/{id}`) from the whole bucket.

    Called again with the same subjects and images it finishes what was begun, or
    returns the receipt of what is done. `reason` stands in the receipt.

    Raises `NotFound` for a subject or image that is in no dataset, and
    `PreconditionFailed` while an unfinished operation works with one of the
    datasets or tables concerned.
    """
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise InvalidInput("reason", f"say why, in 1–{LONGEST_REASON} characters: it stands in the receipt")
    name = _name(subjects, images)
    try:
        return read_receipt(store, name)
    except NotFound:
        pass
    plan = store.find_json(f"{name}/plan.json")
    if plan is None:
        plan = _plan(store, subjects, images, reason, rfc3339(clock()))
        # The tombstone comes first: what is to be forgotten is not imported again meanwhile.
        tombstones.write(store, name, frozenset(plan["digests"]), frozenset(subjects))
        store.put_json(f"{name}/plan.json", plan)
    return _carry_out(store, name, plan, clock, progress)


def read_receipt(store: ObjectStore, name: str) -> Receipt:
    """The receipt of an erasure that is done; `NotFound` otherwise."""
    raw = store.get_json(f"{name}/receipt.json")
    check_schema(str(raw.pop("schema", "")), RECEIPT, name)
    return read_document(Receipt, raw, f"{name}/receipt.json")


def expired(store: ObjectStore, today: date) -> dict[str, list[str]]:
    """Datasets whose `retain_until` has passed → the ids of the real images still in them."""
    found = {}
    for name in dataset_names(store):
        manifest = load(store, name, DATASET)
        until = manifest.details.get("retain_until")
        if until and date.fromisoformat(until) < today and manifest.counts["images"]:
            rows = Dataset(store, manifest).index.select(["image_id", "source"]).to_pylist()
            real = [row["image_id"] for row in rows if row["source"] == "real"]
            if real:
                found[name] = real
    return found


def _name(subjects: Sequence[str], images: Sequence[str]) -> str:
    asked = {"subjects": sorted(set(subjects)), "images": sorted(set(images))}
    return f"erasures/{hashlib.sha256(canonical_json(asked)).hexdigest()[:16]}"


def _plan(
    store: ObjectStore, subjects: Sequence[str], images: Sequence[str], reason: str, begun: str
) -> dict[str, Any]:
    targets = find(store, subjects, images)
    concerned = [*_concerned(store, targets)]
    busy = busy_operations(store, concerned)
    if busy:
        raise PreconditionFailed(
            f"{', '.join(busy)} work with {', '.join(concerned[:3])}; wait for them or cancel them: "
            f"fairloop operations cancel {busy[0]}",
            operation=busy[0],
        )
    return {
        "reason": reason,
        "begun": begun,
        "subjects": sorted(targets.subjects),
        "digests": sorted(targets.digests),
        "images": sorted(targets.images),
        "files": sorted(targets.files),
        "concerned": concerned,
        "remove": [],
    }


def _concerned(store: ObjectStore, targets: Targets) -> list[str]:
    """Datasets and tables with a row of the targets."""
    found = []
    ids = targets.images
    for name in dataset_names(store):
        rows = Dataset(store, load(store, name, DATASET)).index["image_id"].to_pylist()
        if not ids.isdisjoint(rows):
            found.append(name)
    for collection, schema in TABLES:
        for manifest in manifests(store, collection, schema):
            if rewriting.holds(store, manifest, targets):
                found.append(manifest.name)
    return found


def _carry_out(
    store: ObjectStore, name: str, plan: dict[str, Any], clock: Clock, progress: Progress
) -> Receipt:
    targets = Targets(*(frozenset(plan[part]) for part in ("subjects", "digests", "images", "files")))
    concerned: list[str] = plan["concerned"]
    remove: set[str] = set(plan["remove"])
    for done, resource in enumerate(concerned):
        progress("rewriting", done, len(concerned))
        schema = _schema(resource)
        manifest = load(store, resource, schema)
        # Before the manifest changes it is noted what it names: after a crash nobody else would know.
        old = {part.key for part in manifest.parts}
        if not old <= remove:
            remove |= old
            store.put_json(f"{name}/plan.json", {**plan, "remove": sorted(remove)})
        rewrite = rewriting.dataset if schema == DATASET else rewriting.table
        rewrite(store, manifest, targets, name)
    progress("rewriting", len(concerned), len(concerned))
    withdrawn, outdated = _reports(store, name, plan, remove, targets)
    models = _mark_models(store, name, concerned)
    remove |= set(scratch_keys(store, concerned)) | set(journal_keys(store))
    removed = _remove(store, remove, progress)
    receipt = Receipt(
        name=name,
        reason=plan["reason"],
        begun=plan["begun"],
        finished=rfc3339(clock()),
        subjects=len(targets.subjects),
        images=len(targets.images),
        datasets=tuple(found for found in concerned if _schema(found) == DATASET),
        tables=tuple(found for found in concerned if _schema(found) != DATASET),
        reports_withdrawn=tuple(withdrawn),
        reports_outdated=tuple(outdated),
        models=tuple(models),
        objects_removed=removed,
    )
    store.put_json(f"{name}/receipt.json", {"schema": RECEIPT, **asdict(receipt)})
    # Last, since it names whom it was about.
    store.delete(f"{name}/plan.json")
    return receipt


def _schema(resource: str) -> str:
    return dict(TABLES).get(f"{resource.partition('/')[0]}/", DATASET)


def _descends(
    store: ObjectStore, parents: Sequence[str], concerned: set[str], known: dict[str, bool]
) -> bool:
    """Whether any of these names is concerned or was made, over any number of steps, from what is."""
    for parent in parents:
        if parent not in known:
            known[parent] = False  # a circle ends here
            known[parent] = parent in concerned or _descends(store, _parents(store, parent), concerned, known)
        if known[parent]:
            return True
    return False


def _parents(store: ObjectStore, name: str) -> Sequence[str]:
    raw = store.find_json(f"{name}/manifest.json") if "/" in name else None
    return [str(parent) for parent in raw.get("parents", [])] if isinstance(raw, dict) else []


def _mark_models(store: ObjectStore, name: str, concerned: Sequence[str]) -> list[str]:
    marked = []
    known: dict[str, bool] = {}
    for manifest in manifests(store, "models/", MODEL):
        if _descends(store, manifest.parents, set(concerned), known):
            rewriting.marked(store, manifest, "contains_erased", name)
            marked.append(manifest.name)
    return marked


def _reports(
    store: ObjectStore, name: str, plan: Mapping[str, Any], remove: set[str], targets: Targets
) -> tuple[list[str], list[str]]:
    """Reports withdrawn and reports outdated; the parts of the former go to `remove`."""
    withdrawn: list[str] = []
    outdated: list[str] = []
    known: dict[str, bool] = {}
    for manifest in manifests(store, "reports/", "fairloop.report/1"):
        if manifest.details.get("withdrawn") == name:
            withdrawn.append(manifest.name)
        elif reports.names_somebody(store, manifest, targets):
            remove.update(part.key for part in manifest.parts)
            store.put_json(f"{name}/plan.json", {**plan, "remove": sorted(remove)})
            reports.withdraw(store, manifest, name)
            withdrawn.append(manifest.name)
        elif _descends(store, manifest.parents, set(plan["concerned"]), known):
            rewriting.marked(store, manifest, "outdated_by", name)
            outdated.append(manifest.name)
    return withdrawn, outdated


def _remove(store: ObjectStore, keys: set[str], progress: Progress) -> int:
    """Removes those of the keys that no manifest names any more."""
    collections = {key.split("/", 1)[0] for key in keys} - {"operations", "imports"}
    named: set[str] = set()
    for collection in sorted(collections):
        for key in store.list(f"{collection}/"):
            if key.endswith("/manifest.json"):
                named.update(part["key"] for part in store.get_json(key)["parts"])
    gone = sorted(keys - named)
    for done, key in enumerate(gone):
        store.delete(key)
        progress("removing", done + 1, len(gone))
    return len(gone)


def outdated_note(manifest: Manifest) -> str:
    """One line for people, when an erasure touched what a report was made from; empty otherwise."""
    if "withdrawn" in manifest.details:
        by = manifest.details["withdrawn"]
        return f"{manifest.name} was withdrawn by {by}: it named somebody who is erased"
    if "outdated_by" in manifest.details:
        by = ", ".join(manifest.details["outdated_by"])
        return f"{manifest.name} was made from data of which {by} has erased a part since; make it again"
    return ""
