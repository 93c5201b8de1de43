"""The operation `Calibrate`: a dataset with known labels in, how annotators err on it out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fairloop import calibrations, manifest, names, taxonomy
from fairloop.calibrations import given_labels
from fairloop.dataset import Dataset, open_dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import inherited_terms
from fairloop.registry import weights_terms
from fairloop.reporting import page
from fairloop.reporting.document import Document, Provenance
from fairloop.reporting.sections.labelling import calibration_limits, calibration_section
from fairloop.seeds import check_seed
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.runner import RunningOperation
from fairloop.stats.calibration import Calibration, Changed, calibrate
from fairloop.stats.flags import explain
from fairloop.store import ObjectStore
from fairloop.table_store import from_parquet, pieces, to_parquet
from fairloop.tables import FaceRow, Guess
from fairloop.v1 import annotator_pb2, common_pb2
from services.annotator import recipe
from services.annotator.changes import BLUR, CHANGES, JPEG_QUALITY, changed
from services.annotator.describe import Picture
from services.annotator.engine import Chosen, Engine
from services.annotator.images import UnreadableImage, decode

NAME = "AnnotatorService.Calibrate"
SHARD_IMAGES = 128
BATCH_PIXELS = 16_000_000
BATCH_IMAGES = 32
REPLICATES = (100, 100_000)
DEFAULT_REPLICATES = 1_000

AS_IT_IS = ""
"""The change of the rows about the picture itself."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("change", pa.string()),
        ("tried", pa.bool_()),
        ("attribute", pa.string()),
        ("annotator", pa.string()),
        ("label", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
"""One row for each image, change, attribute and annotator."""

Key = tuple[str, str]
Image = tuple[Mapping[str, Any], bytes]


def make_method(engine: Engine, store: ObjectStore, pools: Pools) -> Method:
    """The method, bound to the loaded annotators."""

    async def select(request: annotator_pb2.CalibrateRequest) -> Chosen:
        chosen = await engine.selected(
            [source.annotator for source in request.sources],
            [source.attribute for source in request.sources],
            cropped=request.cropped,
        )
        versions = {one.name: one.version for one in chosen.annotators}
        for source in request.sources:
            if (source.attribute, source.annotator) not in chosen.guesses:
                raise InvalidInput("sources", f"{source.annotator} does not guess {source.attribute}")
            if source.version not in ("", versions[source.annotator]):
                raise PreconditionFailed(
                    f"{source.annotator} is loaded as {versions[source.annotator]}, not {source.version}"
                )
        return chosen

    def made_by(chosen: Chosen) -> str:
        return recipe.recipe(SCHEMA, chosen.made_from, engine.detector)

    async def validate(request: annotator_pb2.CalibrateRequest) -> None:
        check(request)
        await select(request)
        dataset = await pools.io(Dataset.open, store, request.dataset)
        for attribute in _attributes(request):
            await pools.io(given_labels, dataset, attribute)

    async def run(operation: RunningOperation) -> annotator_pb2.CalibrateResult:
        request: annotator_pb2.CalibrateRequest = operation.request
        dataset = await pools.io(Dataset.open, store, request.dataset)
        chosen = await select(request)
        same = made_by(chosen)
        shards = (
            Shard(index, {"start": start, "stop": stop}, recipe=same)
            for index, (start, stop) in enumerate(pieces(len(dataset), SHARD_IMAGES))
        )
        found: list[pa.Table] = []
        done = 0
        async for output in operation.shards(shards):
            data = await pools.io(store.get, output.parts[0].key)
            found.append(from_parquet(data, output.parts[0].key))
            done += output.units
            operation.progress("describing and changing", done, len(dataset), "images")
        body = await pools.compute(measured, request, chosen, dataset, pa.concat_tables(found))
        terms = inherited_terms([dataset.manifest, *chosen.models], weights_terms(chosen.weights))
        versions = {one.name: one.version for one in chosen.annotators}
        made = await pools.io(
            calibrations.prepared,
            store,
            body,
            page_files(body, versions),
            dataset.manifest,
            terms,
            {
                "annotators": versions,
                "guesses": [[source.attribute, source.annotator] for source in request.sources],
                "weights": list(chosen.weights),
                "cropped": chosen.cropped,
                "detector": {engine.detector.name: engine.detector.version},
            },
        )
        await operation.confirm()
        if not made.created:
            made = await pools.io(manifest.commit, store, made)
        return annotator_pb2.CalibrateResult(
            calibration=made.name,
            images=len(dataset),
            sources=[
                common_pb2.LabelSource(
                    attribute=one["attribute"], annotator=one["annotator"], version=one["version"]
                )
                for one in body["calibrations"]
            ],
            summary_json=json.dumps(body, ensure_ascii=False, allow_nan=False),
            warnings=warnings(body),
        )

    async def shard(
        request: annotator_pb2.CalibrateRequest, spec: Mapping[str, Any], context: ShardContext
    ) -> ShardOutput:
        dataset = await pools.io(open_dataset, store, request.dataset)
        images = await pools.io(lambda: list(dataset.images(spec["start"], spec["stop"])))
        chosen = await select(request)
        wanted = [(source.attribute, source.annotator) for source in request.sources]
        records: list[dict[str, Any]] = []
        for batch in batches(images):
            ids = [str(row["image_id"]) for row, _ in batch]
            pictures = await pools.io(_decoded, [data for _, data in batch])
            first = await engine.described(pictures, chosen)
            records += _records(ids, AS_IT_IS, dict(zip(ids, first, strict=True)), wanted)
            for change in _changes(request):
                tried = await pools.io(_changed, ids, pictures, first, change)
                rows = await engine.described(list(tried.values()), chosen)
                records += _records(ids, change, dict(zip(tried, rows, strict=True)), wanted)
        data = await pools.io(to_parquet, records, SCHEMA)
        part = await context.put(hashlib.sha256(data).hexdigest(), data)
        return ShardOutput((part,), units=len(images))

    def weights(request: annotator_pb2.CalibrateRequest) -> Sequence[str]:
        return engine.catalogued([source.annotator for source in request.sources])

    async def recipe_of(request: annotator_pb2.CalibrateRequest) -> str:
        return made_by(await select(request))

    return Method(
        NAME,
        annotator_pb2.CalibrateRequest,
        validate,
        run,
        shard,
        derives=False,
        weights=weights,
        recipe=recipe_of,
    )


def check(request: annotator_pb2.CalibrateRequest) -> None:
    """Everything that can be wrong with a request without asking anybody."""
    names.check("dataset version", request.dataset, "dataset")
    if not request.sources:
        raise InvalidInput("sources", "is empty; name an attribute and who is measured on it")
    for attribute in _attributes(request):
        taxonomy.values(attribute)
    keys = [(source.attribute, source.annotator) for source in request.sources]
    if len(set(keys)) < len(keys):
        raise InvalidInput("sources", "names an annotator twice for one attribute")
    for change in request.changes:
        if change not in CHANGES:
            raise InvalidInput("changes", f"{change!r} is not one of {', '.join(CHANGES)}")
    check_seed(request.seed)
    low, high = REPLICATES
    if request.replicates and not low <= request.replicates <= high:
        raise InvalidInput("replicates", f"{request.replicates} is outside {low}–{high:,}")


def batches(images: Sequence[Image]) -> Iterator[list[Image]]:
    """Images in batches of at most 32 and about 16 megapixels: they lie in memory decoded, twice."""
    batch: list[Image] = []
    size = 0
    for image in images:
        pixels = int(image[0]["width"] or 0) * int(image[0]["height"] or 0)
        if batch and (len(batch) == BATCH_IMAGES or size + pixels > BATCH_PIXELS):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += pixels
    if batch:
        yield batch


def measured(
    request: annotator_pb2.CalibrateRequest, chosen: Chosen, dataset: Dataset, rows: pa.Table
) -> dict[str, Any]:
    """What `calibration.json` holds."""
    ids: list[str] = dataset.index["image_id"].to_pylist()
    subjects: list[str | None] = dataset.index["subject_id"].to_pylist()
    known = subjects if any(subjects) else None
    groups = {attribute: given_labels(dataset, attribute) for attribute in request.groups}
    versions = {one.name: one.version for one in chosen.annotators}
    by: dict[tuple[str, Key], dict[str, dict[str, Any]]] = {}
    for row in rows.to_pylist():
        by.setdefault((row["change"], (row["attribute"], row["annotator"])), {})[row["image_id"]] = row

    def found(change: str, key: Key, part: str) -> list[Any]:
        answers = by[change, key]
        return [answers[image][part] for image in ids]

    calibrated = []
    for source in sorted(request.sources, key=lambda s: (s.attribute, s.annotator)):
        key = (source.attribute, source.annotator)
        one = calibrate(
            given_labels(dataset, source.attribute),
            found(AS_IT_IS, key, "label"),
            taxonomy.values(source.attribute),
            probabilities=found(AS_IT_IS, key, "probabilities"),
            subjects=known,
            groups=groups,
            changes={
                change: Changed(found(change, key, "label"), found(change, key, "tried"))
                for change in _changes(request)
            },
            replicates=request.replicates or DEFAULT_REPLICATES,
            seed=request.seed,
        )
        calibrated.append(_plain(source, versions[source.annotator], one))
    return {
        "schema": calibrations.SCHEMA,
        "dataset": dataset.name,
        "images": len(ids),
        "changes": {
            "exposure": "in linear light; brighter only where under 5 % of the face's box clips",
            "blur": f"Gaussian, {BLUR} of the face's longer side",
            "jpeg": f"quality {JPEG_QUALITY}",
        },
        "calibrations": calibrated,
    }


def _plain(source: common_pb2.LabelSource, version: str, one: Calibration) -> dict[str, Any]:
    return {
        "attribute": source.attribute,
        "annotator": source.annotator,
        "version": version,
        "confusion": one.confusion(),
        **json.loads(json.dumps(one.to_dict())),
    }


def warnings(body: Mapping[str, Any]) -> list[str]:
    """What limits a calibration's use, in words."""
    return [
        f"{one['attribute']} by {one['annotator']}: {explain(flag)}"
        for one in body["calibrations"]
        for flag in one["flags"]
    ]


def page_files(body: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, bytes]:
    """The page of a calibration and its document."""
    document = Document(
        title="How the annotators err",
        limits=tuple(calibration_limits(body)),
        calibration=calibration_section(body),
        provenance=(
            Provenance(kind="dataset", name=body["dataset"], detail="its labels are taken as true"),
            *(Provenance(kind="annotator", name=name, detail=v) for name, v in versions.items()),
        ),
    )
    return {"index.html": page.render(document).encode(), "document.json": document.to_json().encode()}


def _attributes(request: annotator_pb2.CalibrateRequest) -> list[str]:
    return sorted({*(source.attribute for source in request.sources), *request.groups})


def _changes(request: annotator_pb2.CalibrateRequest) -> list[str]:
    return [change for change in CHANGES if not request.changes or change in request.changes]


def _decoded(images: Sequence[bytes]) -> list[Picture]:
    pictures: list[Picture] = []
    for data in images:
        try:
            pictures.append(decode(data))
        except UnreadableImage as error:
            pictures.append(error)
    return pictures


def _changed(
    ids: Sequence[str], pictures: Sequence[Picture], rows: Sequence[FaceRow], change: str
) -> dict[str, Picture]:
    """The pictures with a face on which a change is tried, changed."""
    made: dict[str, Picture] = {}
    for image, picture, row in zip(ids, pictures, rows, strict=True):
        if row.box is None or isinstance(picture, bytes | UnreadableImage):
            continue
        pixels = changed(picture, row.box, change)
        if pixels is not None:
            made[image] = pixels
    return made


def _records(
    ids: Sequence[str], change: str, rows: Mapping[str, FaceRow], wanted: Sequence[Key]
) -> Iterator[dict[str, Any]]:
    for image in ids:
        guesses: Mapping[Key, Guess] = rows[image].guesses if image in rows else {}
        for attribute, annotator in wanted:
            guess = guesses.get((attribute, annotator))
            yield {
                "image_id": image,
                "change": change,
                "tried": image in rows,
                "attribute": attribute,
                "annotator": annotator,
                "label": guess.label if guess else None,
                "probabilities": list(guess.probabilities) if guess and change == AS_IT_IS else None,
            }


__all__: Sequence[str] = ["NAME", "make_method"]
