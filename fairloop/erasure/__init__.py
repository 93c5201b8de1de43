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
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from fairloop.activations import SCHEMA as ACTIVATIONS
from fairloop.dataset import SCHEMA as DATASET
from fairloop.dataset import Dataset
from fairloop.documents import read_document
from fairloop.erasure import leftovers, reports, rewriting, tombstones
from fairloop.erasure.targets import Targets, dataset_names, find, manifests
from fairloop.erasure.traces import busy_operations, journal_keys, scratch_keys
from fairloop.errors import InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import Clock, Manifest, check_schema, load, rfc3339, utc_now
from fairloop.registry import SCHEMA as MODEL
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, PREDICTIONS
from fairloop.tables import canonical_json

__all__ = [
    "Receipt",
    "erase",
    "expired",
    "outdated_note",
    "read_receipt",
    "resume",
    "tombstones",
    "unfinished",
]

RECEIPT = "fairloop.erasure/1"
TABLES = (
    ("annotations/", ANNOTATIONS),
    ("embeddings/", EMBEDDINGS),
    ("predictions/", PREDICTIONS),
    ("activations/", ACTIVATIONS),
)
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

    Called again with the same subjects and images it finishes what was begun. When
    all is done it returns the receipt, unless some of it came back since (a writer
    was at work meanwhile): that goes, too. `reason` stands in the receipt.

    Raises `NotFound` for a subject or image that is in no dataset, and
    `PreconditionFailed` while an unfinished operation works with one of the
    datasets or tables concerned, or began to while it was rewritten: the same
    call goes on when that is over.
    """
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise InvalidInput("reason", f"say why, in 1–{LONGEST_REASON} characters: it stands in the receipt")
    name = _name(subjects, images)
    if store.find_json(f"{name}/plan.json") is not None:
        return resume(store, name, clock=clock, progress=progress)
    done = _done(store, name)
    known = _buried(store, name, subjects) if done is not None else None
    targets = find(store, subjects, images, known)
    concerned = _concerned(store, targets)
    if done is not None and not concerned and not any(leftovers.keys(store, targets.digests)):
        return done
    _refuse_busy(store, concerned)
    plan = _plan(targets, concerned, reason, rfc3339(clock()))
    # The tombstone comes first: what is to be forgotten is not imported again meanwhile.
    tombstones.write(store, name, targets.digests, targets.subjects)
    store.put_json(f"{name}/plan.json", plan)
    return _carry_out(store, name, plan, done, clock, progress)


def unfinished(store: ObjectStore) -> list[str]:
    """Names of the erasures that were begun and are not done."""
    return [key.removesuffix("/plan.json") for key in store.list("erasures/") if key.endswith("/plan.json")]


def resume(
    store: ObjectStore,
    name: str,
    *,
    clock: Clock = utc_now,
    progress: Progress = lambda stage, done, total: None,
) -> Receipt:
    """Finishes an erasure of `unfinished` from its plan; raises as `erase` does."""
    done, plan = _done(store, name), store.get_json(f"{name}/plan.json")
    if done is not None and plan["begun"] == done.begun:
        store.delete(f"{name}/plan.json")  # killed after the receipt was written
        return done
    return _carry_out(store, name, plan, done, clock, progress)


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


def _done(store: ObjectStore, name: str) -> Receipt | None:
    try:
        return read_receipt(store, name)
    except NotFound:
        return None


def _buried(store: ObjectStore, name: str, subjects: Sequence[str]) -> Targets:
    """What an erasure took, as far as its tombstone still tells."""
    digests = tombstones.digests(store, name)
    return Targets(frozenset(subjects), digests, frozenset(d[:32] for d in digests), frozenset())


def _refuse_busy(store: ObjectStore, concerned: Sequence[str]) -> None:
    busy = busy_operations(store, concerned)
    if busy:
        raise PreconditionFailed(
            f"{', '.join(busy)} work with {', '.join(concerned[:3])}; wait for them or cancel them: "
            f"fairloop operations cancel {busy[0]}",
            operation=busy[0],
        )


def _plan(targets: Targets, concerned: Sequence[str], reason: str, begun: str) -> dict[str, Any]:
    return {
        "reason": reason,
        "begun": begun,
        **_told(targets),
        "concerned": list(concerned),
        "remove": [],
    }


def _told(targets: Targets) -> dict[str, list[str]]:
    return {part: sorted(found) for part, found in vars(targets).items()}


def _refreshed(store: ObjectStore, name: str, plan: dict[str, Any]) -> Targets:
    """Looks again, and adds what was written since the plan was made; all that is concerned is in the plan.

    The tombstone stands by now: no later writer can finish with what it names.
    """
    known = Targets(*(frozenset(plan[part]) for part in ("subjects", "digests", "images", "files")))
    targets = find(store, sorted(known.subjects), (), known)
    concerned = [*plan["concerned"], *_concerned(store, targets)]
    plan |= {**_told(targets), "concerned": list(dict.fromkeys(concerned))}
    tombstones.write(store, name, targets.digests, targets.subjects)
    store.put_json(f"{name}/plan.json", plan)
    return targets


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
    store: ObjectStore,
    name: str,
    plan: dict[str, Any],
    done: Receipt | None,
    clock: Clock,
    progress: Progress,
) -> Receipt:
    # Tables come after datasets: an operation that read the old dataset has either stored its
    # table by then, or is still going on.
    rewritten = 0
    for kinds in ({DATASET}, {schema for _, schema in TABLES}):
        targets = _refreshed(store, name, plan)
        for resource in [found for found in plan["concerned"] if _schema(found) in kinds]:
            progress("rewriting", rewritten, len(plan["concerned"]))
            _rewrite(store, name, plan, resource, targets)
            rewritten += 1
        _refuse_busy(store, plan["concerned"])
    concerned: list[str] = plan["concerned"]
    progress("rewriting", len(concerned), len(concerned))
    remove = set(plan["remove"])
    withdrawn, outdated = _reports(store, name, plan, remove, targets)
    models = _mark_models(store, name, concerned)
    remove |= set(scratch_keys(store, concerned)) | set(journal_keys(store))
    remove |= set(leftovers.keys(store, targets.digests))
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
    if done is not None:
        receipt = _together(done, receipt)
    store.put_json(f"{name}/receipt.json", {"schema": RECEIPT, **asdict(receipt)})
    # Last, since it names whom it was about.
    store.delete(f"{name}/plan.json")
    return receipt


def _rewrite(store: ObjectStore, name: str, plan: dict[str, Any], resource: str, targets: Targets) -> None:
    schema = _schema(resource)
    try:
        manifest = load(store, resource, schema)
    except NotFound:
        return  # whoever wrote it meanwhile saw the tombstone and took it back
    # Before the manifest changes it is noted what it names: after a crash nobody else would know.
    noted = {*plan["remove"], *(part.key for part in manifest.parts)}
    if len(noted) > len(plan["remove"]):
        plan["remove"] = sorted(noted)
        store.put_json(f"{name}/plan.json", plan)
    rewrite = rewriting.dataset if schema == DATASET else rewriting.table
    rewrite(store, manifest, targets, name)


def _together(first: Receipt, second: Receipt) -> Receipt:
    """One receipt of an erasure and of what came back after it; the times and the reason are the second's."""

    def joined(part: str) -> tuple[str, ...]:
        return tuple(sorted({*getattr(first, part), *getattr(second, part)}))

    return replace(
        second,
        images=max(first.images, second.images),
        datasets=joined("datasets"),
        tables=joined("tables"),
        reports_withdrawn=joined("reports_withdrawn"),
        reports_outdated=joined("reports_outdated"),
        models=joined("models"),
        objects_removed=first.objects_removed + second.objects_removed,
    )


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
    shown = {resource for resource in plan["concerned"] if _schema(resource) == DATASET}
    for manifest in manifests(store, "reports/", "fairloop.report/1"):
        if manifest.details.get("withdrawn") == name:
            withdrawn.append(manifest.name)
        elif reports.names_somebody(store, manifest, targets) or (
            shown.intersection(manifest.parents) and reports.shows_faces(store, manifest)
        ):
            remove.update(part.key for part in manifest.parts)
            store.put_json(f"{name}/plan.json", {**plan, "remove": sorted(remove)})
            reports.withdraw(store, manifest, name)
            withdrawn.append(manifest.name)
        elif _descends(store, manifest.parents, set(plan["concerned"]), known):
            rewriting.marked(store, manifest, "outdated_by", name)
            outdated.append(manifest.name)
    # A calibration holds counts alone: it names nobody.
    for manifest in manifests(store, "calibrations/", "fairloop.calibration/1"):
        if _descends(store, manifest.parents, set(plan["concerned"]), known):
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
