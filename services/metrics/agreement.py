"""The operation `CompareAnnotators`: how far annotators agree, and their consensus as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fairloop import names, taxonomy
from fairloop.dataset import open_dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest
from fairloop.reporting import page
from fairloop.reporting.document import Document, Provenance
from fairloop.reporting.sections.labelling import agreement_limits, agreement_section
from fairloop.seeds import check_seed
from fairloop.standalone.evaluation import Tell
from fairloop.stats.panel import MOST_LISTED, Panel, annotator_panel
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, TableWriter, read_table, to_parquet
from fairloop.tables import Guess, annotation_schema, content_id, guess_column, guess_record, input_digest
from fairloop.v1 import metrics_pb2
from services.metrics.labels import attribute_labels, check_sources, resolved, source_text
from services.metrics.reports import Made, inputs_of

CONSENSUS = "consensus"
"""The annotator of the labels that several annotators give together."""

ORDERED = ("age", "age_adience", "skin_tone", "skin_tone_band", "apparent_lightness_band")
"""Attributes whose values lie in an order."""

EVERYBODY = "(all images)"
LISTED = 10_000
REPLICATES = (100, 100_000)
DEFAULT_REPLICATES = 1_000
ROWS = 4_096


def check(request: metrics_pb2.CompareAnnotatorsRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    names.check("annotations", request.annotations, "annotations")
    for attribute in request.attributes:
        taxonomy.values(attribute)
    if len(set(request.annotators)) < len(request.annotators):
        raise InvalidInput("annotators", "names an annotator twice")
    if len(request.annotators) == 1:
        raise InvalidInput("annotators", "names one; agreement needs at least two")
    if request.HasField("groups"):
        check_sources([request.groups], "groups")
    if not 0.0 <= request.certainty <= 1.0:
        raise InvalidInput("certainty", f"{request.certainty} is outside 0–1")
    if not 0 <= request.listed <= LISTED:
        raise InvalidInput("listed", f"{request.listed} is outside 0–{LISTED:,}")
    check_seed(request.seed)
    low, high = REPLICATES
    if request.replicates and not low <= request.replicates <= high:
        raise InvalidInput("replicates", f"{request.replicates} is outside {low}–{high:,}")


def needed(request: metrics_pb2.CompareAnnotatorsRequest) -> list[tuple[str, str]]:
    """Tables that must exist."""
    return [(request.annotations, ANNOTATIONS)]


@dataclass(frozen=True)
class Compared:
    """A comparison that is computed and not stored yet: its table, and what the report says of it."""

    table: TableWriter
    manifest: Manifest
    guesses: Sequence[tuple[str, str]]
    versions: Mapping[str, str]
    report: Made

    def publish(self) -> str:
        """Writes the table with the consensus; its name."""
        made = self.table.finish(
            {key: count for key, count in self.manifest.counts.items() if key != "rows"},
            self.manifest.terms,
            {
                **{key: value for key, value in self.manifest.details.items() if key != "use"},
                "annotators": dict(self.versions),
                "guesses": [list(guess) for guess in self.guesses],
            },
        )
        return made.name


def compare(store: ObjectStore, request: metrics_pb2.CompareAnnotatorsRequest, tell: Tell) -> Compared:
    """Compares the annotators of one table, attribute by attribute."""
    tell("reading", 0, 2)
    manifest, table = read_table(store, request.annotations, ANNOTATIONS)
    dataset = open_dataset(store, manifest.parents[0])
    who = compared(manifest, request.attributes, request.annotators)
    first = [i for i, face in enumerate(table["face"].to_pylist()) if face == 0]
    faces = table.take(first)
    subject_of = dict(
        zip(dataset.index["image_id"].to_pylist(), dataset.index["subject_id"].to_pylist(), strict=True)
    )
    images: list[str] = faces["image_id"].to_pylist()
    subjects = [subject_of[image] for image in images]
    groups: list[str | None] = [EVERYBODY] * len(images)
    source = "none: all images are one group"
    if request.HasField("groups"):
        (by,) = resolved(manifest, [request.groups])
        groups = [
            None if label is None else f"{by.attribute}={label}"
            for label in attribute_labels(faces, by, dataset)
        ]
        source = source_text([by])
    tell("agreement", 1, 2)
    panels = {
        attribute: annotator_panel(
            {name: faces[guess_column(attribute, name)].to_pylist() for name in annotators},
            groups,
            taxonomy.values(attribute),
            ordered=attribute in ORDERED,
            subjects=subjects if any(subjects) else None,
            certainty=request.certainty,
            listed=request.listed or MOST_LISTED,
            replicates=request.replicates or DEFAULT_REPLICATES,
            seed=request.seed,
        )
        for attribute, annotators in who.items()
    }
    inputs = inputs_of([manifest])
    versions = dict(manifest.details["annotators"])
    compared_versions = {a: {name: versions[name] for name in names_} for a, names_ in who.items()}
    version = content_id(
        {"rule": "Dawid and Skene 1979", "of": compared_versions, "certainty": request.certainty}
    )
    body = {
        "schema": "fairloop.agreement_report/1",
        "annotations": request.annotations,
        "dataset": dataset.name,
        "attributes": {a: _named(panel, images) for a, panel in panels.items()},
        "annotators": compared_versions,
        "label_source": source,
        "consensus_version": version,
        "inputs": inputs,
        "digest": input_digest(inputs),
        "conventions": next(iter(panels.values())).conventions,
    }
    body = json.loads(json.dumps(body))
    guesses = [*map(tuple, manifest.details["guesses"]), *((a, CONSENSUS) for a in panels)]
    everybody = {**versions, CONSENSUS: version}
    named = [f"{name}@{version}" for name, version in sorted(everybody.items())]
    # In this order `fairloop verify` finds the id again from parents and annotators.
    made_from = [*manifest.parents, request.annotations, *named]
    writer = TableWriter(store, ANNOTATIONS, annotation_schema(guesses), made_from)
    _write(writer, table, first, panels, request.certainty, guesses)
    summary = {**body, "attributes": {a: _short(panel) for a, panel in body["attributes"].items()}}
    report = Made("agreement", _files(body), summary, headline(panels), inputs, manifest.terms)
    return Compared(writer, manifest, guesses, everybody, report)


def compared(
    manifest: Manifest, attributes: Sequence[str], annotators: Sequence[str]
) -> dict[str, list[str]]:
    """By attribute the annotators to compare.

    Raises `InvalidInput` where fewer than two guessed an attribute that was named, or an annotator is absent.
    """
    guesses = [tuple(guess) for guess in manifest.details["guesses"]]
    present = sorted({name for _, name in guesses} - {CONSENSUS})
    for name in annotators:
        if name not in present:
            raise InvalidInput(
                "annotators", f"{manifest.name} has none called {name!r}; there are {', '.join(present)}"
            )
    if any(name == CONSENSUS for _, name in guesses):
        raise InvalidInput(
            "annotations", f"{manifest.name} has a consensus already; compare the table before"
        )
    by: dict[str, list[str]] = {}
    for attribute, name in guesses:
        if not annotators or name in annotators:
            by.setdefault(attribute, []).append(name)
    for attribute in attributes:
        if len(by.get(attribute, [])) < 2:
            found = ", ".join(by.get(attribute, [])) or "nobody"
            raise InvalidInput("attributes", f"{attribute} was guessed by {found}; agreement needs two")
    chosen = {a: sorted(by[a]) for a in sorted(attributes or by) if len(by[a]) >= 2}
    if not chosen:
        raise PreconditionFailed(f"no attribute of {manifest.name} was guessed by two of its annotators")
    return chosen


def headline(panels: Mapping[str, Panel]) -> str:
    """Every attribute's α, in one sentence."""
    found = []
    for attribute, panel in panels.items():
        alpha = panel.overall.alpha
        value = "undefined" if alpha is None else f"{alpha:.3f}"
        found.append(f"{attribute}: alpha {value}, {panel.differing:,} images differ")
    return f"Agreement of annotators. {'; '.join(found)}"


def _named(panel: Panel, images: Sequence[str]) -> dict[str, Any]:
    """The panel as plain data; the images of its list by name."""
    plain = panel.to_dict()
    plain["disagreements"] = [{**one, "image": images[one["image"]]} for one in plain["disagreements"]]
    return plain


def _short(panel: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in panel.items() if key != "disagreements"}


def _files(body: Mapping[str, Any]) -> dict[str, bytes]:
    document = Document(
        title="How far the annotators agree",
        limits=tuple(agreement_limits(body)),
        agreement=agreement_section(body),
        provenance=(
            Provenance(kind="groups", name=body["label_source"]),
            *(
                Provenance(kind="input", name=name, detail=f"sha256 {digest}")
                for name, digest in body["inputs"].items()
            ),
        ),
    )
    return {
        "report.json": json.dumps(body, ensure_ascii=False, allow_nan=False).encode(),
        "index.html": page.render(document).encode(),
        "document.json": document.to_json().encode(),
    }


def _write(
    writer: TableWriter,
    table: pa.Table,
    first: Sequence[int],
    panels: Mapping[str, Panel],
    certainty: float,
    guesses: Sequence[tuple[str, str]],
) -> None:
    """The rows of the table with the consensus beside each image's face 0."""
    place = {row: i for i, row in enumerate(first)}
    labels = {attribute: panel.consensus.labels(certainty) for attribute, panel in panels.items()}
    rows: list[dict[str, Any]] = []
    for row, record in enumerate(table.to_pylist()):
        for attribute, panel in panels.items():
            guess = None
            at = place.get(row)
            if at is not None and panel.consensus.labelled[at]:
                label = labels[attribute][at]
                posterior = tuple(float(p) for p in panel.consensus.posterior[at])
                guess = Guess(label, posterior, uncertain=label is None)
            record.update(guess_record((attribute, CONSENSUS), guess))
        rows.append(record)
        if len(rows) == ROWS:
            writer.add(to_parquet(rows, annotation_schema(guesses)))
            rows = []
    if rows:
        writer.add(to_parquet(rows, annotation_schema(guesses)))
