"""Datasets as they are published, on a disk or in an archive, become Fairloop's own.

Each kind is one file with one `KIND`, and one line in `MODULES`. What a kind
cannot tell apart with certainty (two orders of the same codes, two meanings of
one column) it asks for by an option; nothing is guessed in silence.

    from fairloop import importers
    importers.import_dataset(store, "folder", "photos", "datasets/mine", subjects="folder")
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

from fairloop import models, names
from fairloop.dataset import Dataset
from fairloop.erasure import leftovers, tombstones
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.importers.bucket_folder import open_bucket
from fairloop.importers.findings import Findings
from fairloop.importers.journal import Journal
from fairloop.importers.record import Kind, Label, Layout, Pair, Problem, Record
from fairloop.importers.source import Folder, Stamp, UnusableFileError
from fairloop.importers.transfer import Choices, Forgotten, Progress, Transfer, check
from fairloop.manifest import inherited_terms
from fairloop.pair_table import pair_file
from fairloop.provenance import published, terms
from fairloop.provenance.lineage import read_manifest
from fairloop.store import ObjectStore, StoreSettings

__all__ = [
    "MODULES",
    "Choices",
    "Findings",
    "Folder",
    "Imported",
    "Kind",
    "Label",
    "Layout",
    "Pair",
    "Problem",
    "Record",
    "Stamp",
    "UnusableFileError",
    "import_dataset",
    "kind",
    "survey",
]

MODULES: Mapping[str, str] = {
    "folder": "folder",
    "identity-folders": "identity_folders",
    "table": "table",
    "fairface": "fairface",
    "fairface-hub": "fairface_hub",
    "ai-face": "ai_face",
    "fgnet": "fgnet",
    "itwcc": "itwcc",
    "utkface": "utkface",
    "rfw": "rfw",
    "bfw": "bfw",
    "lfw": "lfw",
    "pairs": "pairs",
    "insightface-bin": "insightface_bin",
    "insightface-rec": "insightface_rec",
    "webdataset": "webdataset",
    "hf-dataset": "hf_dataset",
}
"""Kind → module of this package, in the order in which the help lists them."""


@dataclass(frozen=True)
class Imported:
    """The dataset, what was found on the way, and what the kind has to say of the source."""

    dataset: Dataset
    findings: Findings
    notes: tuple[str, ...]


def kind(name: str) -> Kind:
    """A kind by its name; `InvalidInput` listing all for an unknown one."""
    if name not in MODULES:
        raise InvalidInput("KIND", f"{name!r} is not known; there are {', '.join(MODULES)}")
    found: Kind = importlib.import_module(f"{__name__}.{MODULES[name]}").KIND
    return found


def survey(
    kind_name: str,
    path: Path | str,
    options: Mapping[str, Any] | None = None,
    *,
    progress: Progress = lambda stage, done, total: None,
    settings: StoreSettings | None = None,
) -> tuple[Layout, Findings]:
    """What an import would find before it reads an image: the layout, counts and problems.

    `path` is a folder, or `s3://bucket/prefix` on the server that `settings` name.
    """
    folder = _opened(path, settings)
    layout = _layout(kind_name, folder, options or {})
    findings = Findings()
    check(folder, layout, findings, {}, progress)
    return layout, findings


def import_dataset(
    store: ObjectStore,
    kind_name: str,
    path: Path | str,
    name: str,
    choices: Choices | None = None,
    *,
    progress: Progress = lambda stage, done, total: None,
    **options: Any,
) -> Imported:
    """Imports a source as `datasets/{name}`; the version that stands afterwards.

    `path` is a folder, or `s3://bucket/prefix` on the store's own server: its own
    bucket, or one that `FAIRLOOP_SOURCE_BUCKETS` names.
    The same source with the same options gives the same version. A try that was
    killed is picked up where its last whole shard ended. `options` are those of
    the kind.

    Raises `InvalidInput` with the first problems by file and line when there
    are any and `choices.broken` is `refuse` (nothing is imported then), and
    `PreconditionFailed` when the source changed meanwhile or holds no image, or
    when terms of a published set forbid it under the policy (a withdrawn set
    always needs `choices.acknowledge`).
    """
    names.check("dataset", name, "NAME")
    choices = choices or Choices(namespace=name.removeprefix("datasets/"))
    _check_choices(choices)
    folder = _opened(path, store.settings)
    layout = _layout(kind_name, folder, options)
    for parent in filter(names.kind_of, choices.parents):
        read_manifest(store, parent)
    _permitted(store, layout, choices)
    journal = Journal(store, _request(kind_name, folder, name, choices, options))
    findings = Findings()
    places = {entry.done: entry.fingerprint for entry in journal.entries()}
    forgotten = Forgotten(choices.namespace, tombstones.read(store))
    whole, same = check(folder, layout, findings, places, progress, forgotten)
    if layout.pairs and choices.duplicates == "drop":
        raise InvalidInput(
            "duplicates", "a list of pairs names every image, so none can be dropped: keep them"
        )
    strict = choices.broken == "refuse"
    if findings.problems and strict:
        findings.refuse("mend these, or leave them out: --broken skip")
    transfer = Transfer(store, name, folder, layout, choices, forgotten)
    writer = transfer.run(journal, whole, same, findings, progress)
    if findings.problems and strict:
        findings.refuse(
            "mend these, or leave them out: --broken skip; what was copied so far is not copied again"
        )
    details = {
        "labels": {attribute: asdict(label) for attribute, label in layout.labels.items()},
        "import": {
            "kind": kind_name,
            "namespace": choices.namespace,
            "records": findings.records,
            "left_out": findings.problem_count,
            "duplicates_dropped": findings.dropped,
            "notes": list(layout.notes),
        },
        **({"retain_until": choices.retain_until} if choices.retain_until else {}),
        **layout.details,
    }
    parents = [*choices.parents, *_models_here(store, transfer.models)]
    sets = [*details.get("published", ()), *_named(parents, "published/")]
    if sets:
        details["published"] = list(dict.fromkeys(sets))
    if _named(parents, "weights/"):
        details["weights"] = _named(parents, "weights/")
    made_from = [parent for parent in parents if names.kind_of(parent)]
    # Images may name models of this bucket themselves, which is known only now.
    use = _permitted(store, layout, choices, parents)
    pairs = pair_file(layout.pairs(), transfer.ids or {}) if layout.pairs else None
    try:
        with terms.under(use):
            dataset = leftovers.finish(
                store,
                writer,
                transfer.subjects,
                lambda: writer.finish(
                    details,
                    terms=inherited_terms([read_manifest(store, parent) for parent in made_from]),
                    pairs=pairs,
                    parents=made_from,
                ),
            )
    except PreconditionFailed:
        journal.remove()  # it holds rows of whoever was erased meanwhile
        raise
    journal.remove()
    return Imported(dataset, findings, layout.notes)


def _opened(path: Path | str, settings: StoreSettings | None) -> Folder:
    if not str(path).startswith("s3://"):
        return Folder.open(path)
    return open_bucket(str(path), settings or StoreSettings.from_environment())


def _layout(kind_name: str, folder: Folder, options: Mapping[str, Any]) -> Layout:
    found = kind(kind_name)
    known = [field.name for field in fields(found.options)]
    for option in options:
        if option not in known:
            has = ", ".join(known) or "no options"
            raise InvalidInput(option, f"is no option of {kind_name}; it has {has}")
    return found.open(folder, found.options(**options))


def _permitted(
    store: ObjectStore, layout: Layout, choices: Choices, parents: Sequence[str] = ()
) -> terms.Use:
    """The use that the terms of the published sets and of all parents allow; `PreconditionFailed` with the
    chain otherwise.
    """
    sets = [f"published/{name}" for name in layout.details.get("published", ())]
    policy = choices.policy or os.environ.get("FAIRLOOP_POLICY", "research")
    asked = dict.fromkeys((*sets, *choices.parents, *parents))
    # What was made from something is a derivative of it; a set that is brought in as it is is none.
    use = terms.check(store, sets, policy, choices.acknowledge, derives=False)
    made_from = [name for name in asked if name not in sets]
    if not made_from:
        return use
    more = terms.check(store, made_from, policy, choices.acknowledge)
    return replace(
        use,
        objections=tuple(dict.fromkeys((*use.objections, *more.objections))),
        warnings=tuple(dict.fromkeys((*use.warnings, *more.warnings))),
    )


def _models_here(store: ObjectStore, models: Iterable[str]) -> list[str]:
    """Those of the models that are in this bucket: anybody can write any name into a file."""
    found = []
    for name in models:
        if names.kind_of(name) == "model version" and store.size(f"{name}/manifest.json") is not None:
            found.append(name)
    return found


def _named(parents: Iterable[str], collection: str) -> list[str]:
    return [name.removeprefix(collection) for name in parents if name.startswith(collection)]


def _check_choices(choices: Choices) -> None:
    allowed: Mapping[str, Sequence[str]] = {
        "broken": ("refuse", "skip"),
        "duplicates": ("keep", "drop"),
        "shared": ("refuse", "keep"),
    }
    for field, words in allowed.items():
        if getattr(choices, field) not in words:
            raise InvalidInput(field, f"{getattr(choices, field)!r} is not one of {', '.join(words)}")
    names.check("dataset", f"datasets/{choices.namespace}", "namespace")
    for parent in choices.parents:
        _check_parent(parent)
    if choices.retain_until:
        try:
            date.fromisoformat(choices.retain_until)
        except ValueError:
            raise InvalidInput(
                "retain_until", f"{choices.retain_until!r} is no date such as 2027-12-31"
            ) from None


def _check_parent(name: str) -> None:
    if names.kind_of(name) in ("dataset version", "model version"):
        return
    collection, _, entry = name.partition("/")
    known = {"weights": models.catalogue, "published": published.catalogue}.get(collection)
    if known is None or entry not in known():
        raise InvalidInput(
            "parents",
            f"{name!r} is not datasets/…/versions/…, models/…/versions/…, or an entry weights/… or "
            "published/… of the catalogues",
        )


def _request(
    kind_name: str, folder: Folder, name: str, choices: Choices, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be the same for a second try to go on from the first; how problems are treated need not."""
    chosen = asdict(choices)
    for free in ("broken", "policy", "acknowledge"):
        del chosen[free]
    told = {option: str(value) for option, value in options.items()}
    return {"kind": kind_name, "root": str(folder), "name": name, "choices": chosen, "options": told}
