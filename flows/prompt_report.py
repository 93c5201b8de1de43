"""The page of a loop over prompts: shares before and after, who was missing, quality, what was decided."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from fairloop import manifest, prompt_comparison
from fairloop.dataset import SCHEMA as DATASET
from fairloop.dataset import Dataset
from fairloop.errors import FairloopError
from fairloop.manifest import Manifest, inherited_terms
from fairloop.prompt_audit import Target
from fairloop.reporting.bundle import prompt_files
from fairloop.reporting.document import Face, FaceRow, Highlight
from fairloop.reporting.measured import Estimate
from fairloop.reporting.prompted import SetQuality
from fairloop.stats.paired_shares import Variation
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS
from fairloop.tables import content_id, content_sha256, input_digest
from fairloop.v1 import common_pb2, recognizer_pb2
from flows.loop_round import Round
from flows.prompt_labels import described
from flows.prompt_obedience import Obedience
from flows.prompt_params import PromptLoopParameters
from flows.tasks import connected

if TYPE_CHECKING:
    from flows.prompt_loop import Audit

SCHEMA = "fairloop.report/1"
RECOGNISER = "models/dlib-recognizer-128"
FACES_PER_PROMPT = 12
LEAST_FACES = 20
"""With an embedding, in each of two sets that are compared."""
LIMITS = (
    "Gender and the second attribute are perceived: guesses of networks from pixels.",
    "The numbers are of what one model draws from these prompts; they say nothing about real people.",
)
Sources = Sequence[common_pb2.LabelSource]


def write(
    run: Round[PromptLoopParameters],
    before: Audit,
    after: Audit,
    targets: Sequence[Target],
    obeyed: Sequence[Obedience],
    sources: tuple[Sources, Sources],
) -> str:
    """Stores the report of both audits; its name."""
    p, store = run.parameters, ObjectStore.from_environment()
    steering, judging = sources
    audits = {
        name: [one.observation for one in audit.judging]
        for name, audit in (("before", before), ("after", after))
    }
    options: dict[str, Any] = {"paired": True, "drop": p.drop, "seed": run.seed("resampling")}
    found = prompt_comparison.compare(
        audits, p.groups, rule=p.rule.value, threshold=p.threshold, gap=p.gap, **options
    )
    alone = {
        attribute: prompt_comparison.compare(audits, {attribute: values}, **options).variation["after"]
        for attribute, values in p.groups.items()
    }
    quality = measured(run, before, after, judging)
    inputs = [
        manifest.load(store, name, schema)
        for audit in (before, after)
        for name, schema in (
            (audit.dataset, DATASET),
            (audit.annotations, ANNOTATIONS),
        )
    ]
    hashes = {one.name: content_sha256([[part.key, part.sha256] for part in one.parts]) for one in inputs}
    facts = {
        "title": f"Prompts: {p.name}",
        "label_source": described(store, after.annotations, judging),
        "missing_source": described(store, before.annotations, steering),
        "inputs": hashes,
        "notes": [*LIMITS, *self_graded(p)],
        "texts": {prompt.id: prompt.text for prompt in p.table},
        "quality_features": f"Features of {RECOGNISER}, faces only; the reference is "
        f"{p.reference or 'the images before'}.",
        "decisions": [
            {"step": str(number), "decision": one["decision"], "because": one["because"]}
            for number, one in enumerate(run.decisions, 1)
        ],
        "faces_note": "The first images of each prompt; those below one another are of the same noise.",
        "model_versions": {"before": before.model, "after": after.model},
        "obedience": [asdict(row) for row in obeyed],
        "variation_by_attribute": {attribute: asdict(moved) for attribute, moved in alone.items()},
        "parameters": p.model_dump(mode="json"),
    }
    shown = faces(store, p, before, after)
    files = prompt_files(found, facts, targets, quality, shown, [by_one(*row) for row in alone.items()])
    return publish(store, files, inputs, hashes)


def by_one(attribute: str, moved: Variation) -> Highlight:
    """The distance to equal shares of one attribute's values, whatever the others are."""
    return Highlight(
        label=f"the same by {attribute} alone",
        before=Estimate(value=moved.before, low=moved.before_interval[0], high=moved.before_interval[1]),
        after=Estimate(value=moved.after, low=moved.after_interval[0], high=moved.after_interval[1]),
        note="total variation",
    )


def self_graded(p: PromptLoopParameters) -> list[str]:
    """What a result is worth whose judge also chose."""
    same = {p.steering_gender, p.steering_second} & {p.judging_gender, p.judging_second}
    return [f"Self-graded: {', '.join(sorted(same))} also chose what was trained on."] if same else []


def publish(
    store: ObjectStore, files: Mapping[str, bytes], inputs: Sequence[Manifest], hashes: Mapping[str, str]
) -> str:
    """The files as a report; its name comes from its body and what it was made of."""
    body = json.loads(files["report.json"])
    name = f"reports/{content_id(['prompt_audit', sorted(files), body], sorted(hashes.items()))}"
    made = Manifest(
        schema=SCHEMA,
        name=name,
        parts=tuple(manifest.put_part(store, f"{name}/{file}", data) for file, data in files.items()),
        parents=tuple(hashes),
        terms=inherited_terms(inputs),
        details={"kind": "prompt_audit", "digest": input_digest(hashes)},
        producer=manifest.producer("numpy", "scipy", "matplotlib"),
    )
    manifest.commit(store, made)
    return name


def faces(store: ObjectStore, p: PromptLoopParameters, before: Audit, after: Audit) -> list[FaceRow]:
    """The first images of every prompt, before and after."""
    rows = []
    datasets = {audit.dataset: Dataset.open(store, audit.dataset) for audit in (before, after)}
    for prompt in p.table:
        for name, audit in (("before", before), ("after", after)):
            chosen = [one for one in audit.judging if one.prompt == prompt.id][:FACES_PER_PROMPT]
            rows.append(
                FaceRow(
                    cell=f"{prompt.id}, {name}",
                    faces=tuple(
                        Face(
                            uri=thumbnail(datasets[audit.dataset].read(one.image_id)),
                            alt=f"generated image, {prompt.id}, {', '.join(one.values.values())}",
                        )
                        for one in chosen
                    ),
                )
            )
    return rows


def thumbnail(data: bytes) -> str:
    """The image as a data URI of 64 pixels a side."""
    sink = io.BytesIO()
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC).save(sink, "PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()


def measured(
    run: Round[PromptLoopParameters], before: Audit, after: Audit, judging: Sources
) -> list[SetQuality]:
    """Quality and diversity of both sets, by the judges' cells, against the reference."""
    reference = run.parameters.reference or before.dataset
    with connected() as client:
        model = client.recognizer.model(RECOGNISER)

    def embed(title: str, dataset: str) -> str | None:
        """The table, unless hardly a face was found: then there is nothing to compare."""
        request = recognizer_pb2.EmbedRequest(dataset=dataset, model=model)
        made = run.do(title, "recognizer", "embed", request)
        found = sum(made.statuses[status] for status in ("ok", "several_faces"))
        return str(made.embeddings) if found >= LEAST_FACES else None

    against = embed("reference: embed", reference)
    rows: list[SetQuality] = []
    for name, audit in (("before", before), ("after", after)):
        if audit.dataset == reference:
            continue
        table = embed(f"{name}: embed", audit.dataset)
        if table is None or against is None:
            run.decide(
                f"no quality is measured of the images {name}",
                f"the recogniser finds fewer than {LEAST_FACES} faces in them, or in the reference",
            )
        else:
            rows += compared(table, against, audit, judging, run.seed("quality"), name)
    return rows


def compared(
    table: str, reference: str, audit: Audit, judging: Sources, seed: int, name: str
) -> list[SetQuality]:
    """What `fairloop measure-set` says of one set: it needs torch, which flows do without."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "quality.json"
        command = [
            *(sys.executable, "-m", "services.generator.set_quality", table, "--reference", reference),
            *("--annotations", audit.annotations, "--seed", str(seed), "--to", str(file)),
            *(f"--source={one.attribute}={one.annotator}" for one in judging),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise FairloopError(f"measuring {table} failed: {done.stderr.strip()[-2000:]}")
        return [quality_row(name, row) for row in json.loads(file.read_text())["rows"]]


def quality_row(model: str, row: Mapping[str, Any]) -> SetQuality:
    """A row of the command as the page has it."""

    def estimate(key: str) -> Estimate:
        low, high = row[f"{key}_interval"] or (None, None)
        return Estimate(value=row[key], low=low, high=high)

    return SetQuality(
        model=model,
        group=row["group"],
        images=row["images"],
        fid=row["fid"],
        fid_floor=row["fid_floor"],
        kid=estimate("kid"),
        similarity=estimate("similarity"),
        near_duplicates=row["near_duplicates"],
    )
