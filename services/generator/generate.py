"""The operation `Generate`: quotas in, a dataset out.

Candidates are drawn in blocks of consecutive subject numbers and accepted in
the order of those numbers, so the dataset is the same for any number of
replicas. Each quota of a model that can be asked for its cell has a range of
numbers of its own; quotas that a model cannot be asked for share one range, and
each candidate goes to the first open quota whose cell it carries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict

from fairloop import names, registry, taxonomy
from fairloop.client import AnnotatorClient
from fairloop.dataset import DatasetWriter, Image
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Part, Terms, inherited_terms, read_part
from fairloop.provenance.marks import Mark, put_mark
from fairloop.seeds import check_seed
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.permission import permit_weights
from fairloop.serving.runner import RunningOperation
from fairloop.store import ObjectStore
from fairloop.table_store import from_parquet
from fairloop.v1 import generator_pb2
from services.generator.acceptance import Deciders, check_acceptance
from services.generator.candidates import BLOCK_IMAGES, run_block
from services.generator.diffusion import generate as diffusion
from services.generator.diffusion.computing import Computing
from services.generator.diffusion.drawing import check_kind
from services.generator.diffusion.loading import load_diffusion
from services.generator.face_model import FaceModel, load_face_model
from services.generator.latents import SUBJECT_RANGE, WITHIN_SUBJECT, subject_id
from services.generator.profile import profile

NAME = "GeneratorService.Generate"
LARGEST_SUBJECTS = 100_000
LARGEST_IMAGES = 256
BLOCKS_PER_STREAM = 10**6


@dataclass
class Tally:
    """How far one stream of candidates has come. `remaining` is per quota index."""

    stream: int
    quotas: tuple[int, ...]
    first: int
    remaining: dict[int, int]
    most_images: int
    candidates: int = 0
    images: int = 0
    no_face: int = 0
    accepted: dict[int, int] = field(default_factory=dict)

    @property
    def open(self) -> list[int]:
        """Quotas of this stream that still want subjects, while its budget of candidates lasts."""
        return [q for q in self.quotas if self.remaining[q] > 0] if self.images < self.most_images else []


def check_request(request: generator_pb2.GenerateRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    names.check("model version", request.model, "model")
    names.check("dataset", request.dataset, "dataset")
    check_seed(request.seed)
    if not 0 <= request.first_subject <= SUBJECT_RANGE // 2:
        raise InvalidInput("first_subject", f"{request.first_subject} is outside 0–{SUBJECT_RANGE // 2}")
    if request.prompts and not request.HasField("diffusion"):
        raise InvalidInput("prompts", "are for diffusion models, which need the field diffusion")
    if not request.quotas and not request.prompts:
        raise InvalidInput("quotas", "is empty; ask for at least one cell")
    if len({quota.cell for quota in request.quotas}) != len(request.quotas):
        raise InvalidInput("quotas", "cells must differ")
    for position, quota in enumerate(request.quotas):
        taxonomy.parse_cell(quota.cell, f"quotas[{position}].cell")
        if not 1 <= quota.subjects <= LARGEST_SUBJECTS:
            raise InvalidInput(
                f"quotas[{position}].subjects",
                f"{quota.subjects} is outside 1–{LARGEST_SUBJECTS} (cell {quota.cell!r})",
            )
        if not 1 <= quota.images_per_subject <= LARGEST_IMAGES:
            raise InvalidInput(
                f"quotas[{position}].images_per_subject",
                f"{quota.images_per_subject} is outside 1–{LARGEST_IMAGES} (cell {quota.cell!r})",
            )
    if not 0 <= request.within_subject <= 1:
        raise InvalidInput("within_subject", f"{request.within_subject} is outside 0–1")
    if request.HasField("acceptance"):
        check_acceptance(request.acceptance, [quota.cell for quota in request.quotas])
    if request.HasField("diffusion"):
        diffusion.check_request(request)


def streams(request: generator_pb2.GenerateRequest, known_cells: Sequence[str]) -> list[Tally]:
    """The streams of candidates that a request needs, in the order in which they run."""
    per_image = request.acceptance.max_candidates_per_image if request.HasField("acceptance") else 1
    own = [
        [i]
        for i, q in enumerate(request.quotas)
        if q.cell in known_cells or not request.HasField("acceptance")
    ]
    shared = [i for i in range(len(request.quotas)) if [i] not in own]
    made = []
    for number, quotas in enumerate([*own, *([shared] if shared else [])]):
        wanted = {i: request.quotas[i].subjects for i in quotas}
        images = sum(request.quotas[i].subjects * request.quotas[i].images_per_subject for i in quotas)
        first = request.first_subject + number * SUBJECT_RANGE
        made.append(Tally(number, tuple(quotas), first, wanted, images * per_image))
    return made


def blocks(request: generator_pb2.GenerateRequest, tally: Tally) -> Iterator[Shard]:
    """Consecutive blocks of candidates, for as long as the tally is open.

    Lazy: each block is told which quotas are still open, so that nothing is made
    for a full one. That is a hint, not part of what the block is: a block that
    was recorded under an earlier hint holds all that a later one needs.
    """
    exact = not request.HasField("acceptance")
    most = max(request.quotas[i].images_per_subject for i in tally.quotas)
    size = max(BLOCK_IMAGES // most, 1)
    # Each candidate costs one image or more of the budget, so no block beyond it is ever taken.
    needed = -(-tally.most_images // size) * size
    end = tally.first + (
        request.quotas[tally.quotas[0]].subjects if exact else min(needed, SUBJECT_RANGE // 2)
    )
    for number, start in enumerate(range(tally.first, end, size)):
        if not tally.open:
            return
        spec = {"quotas": list(tally.quotas), "start": start, "stop": min(start + size, end)}
        yield Shard(tally.stream * BLOCKS_PER_STREAM + number, spec, {"open": tally.open})


def make_method(store: ObjectStore, pools: Pools, annotator: AnnotatorClient, computing: Computing) -> Method:
    """The method, bound to the store and to the annotator that decides what is accepted."""

    async def validate(request: generator_pb2.GenerateRequest) -> None:
        await pools.io(check_request, request)  # with a hundred thousand prompts that takes seconds
        model = await pools.io(registry.open_model, store, request.model, "generator")
        check_kind(model, request.HasField("diffusion"))
        if request.HasField("diffusion"):
            await pools.io(diffusion.check_store, store, request)

    async def run(operation: RunningOperation) -> generator_pb2.GenerateResult:
        request: generator_pb2.GenerateRequest = operation.request
        if request.HasField("diffusion"):
            return await diffusion.run(operation, store, pools, computing)
        model = await pools.io(load_face_model, store, request.model)
        writer = DatasetWriter(
            store,
            request.dataset,
            parents=[model.name],
            terms=inherited_terms(
                [model.manifest], [Terms(purpose=request.purpose)] if request.purpose else []
            ),
            libraries=["torch"],
        )
        tallies = streams(request, model.cells)
        wanted = sum(quota.subjects * quota.images_per_subject for quota in request.quotas)
        made = 0
        deciders = Deciders()
        for tally in tallies:
            # Leaving early cancels the blocks in flight, which nobody needs any more.
            async with aclosing(operation.shards(blocks(request, tally))) as outputs:
                async for output in outputs:
                    if new := deciders.add(output.facts.get("annotators", {})):
                        await permit_weights(pools, store, new)
                    made += await _take(output, request, model, tally, writer, pools, store)
                    candidates = sum(t.candidates for t in tallies)
                    operation.progress("generating", made, wanted, "images", candidate_subjects=candidates)
                    if not tally.open:
                        break
        if not made:
            raise PreconditionFailed(
                f"no candidate was accepted: {', '.join(describe(request, t) for t in tallies)}; "
                "widen the cells, raise max_candidates_per_image or steer the model first"
            )
        operation.progress("storing", made, wanted, "images")
        await operation.confirm()
        results = [result_of(request, tally, index) for tally in tallies for index in tally.quotas]
        results.sort(key=lambda result: [quota.cell for quota in request.quotas].index(result.cell))
        details = {
            "model": model.name,
            "seed": request.seed,
            "within_subject": request.within_subject or WITHIN_SUBJECT,
            "quotas": [MessageToDict(result, preserving_proto_field_name=True) for result in results],
            "acceptance": MessageToDict(request.acceptance, preserving_proto_field_name=True),
            "annotators": deciders.versions,
            "weights": deciders.weights,
            "profile": profile(),
        }
        dataset = await pools.io(writer.finish, details, registry.weights_terms(deciders.weights))
        return generator_pb2.GenerateResult(
            dataset=dataset.name,
            model=model.name,
            images=dataset.manifest.counts["images"],
            subjects=dataset.manifest.counts["subjects"],
            quotas=results,
        )

    async def shard(
        request: generator_pb2.GenerateRequest, spec: Mapping[str, Any], context: ShardContext
    ) -> ShardOutput:
        if request.HasField("diffusion"):
            drawing = await pools.io(load_diffusion, store, request.model, computing.device, computing.dtype)
            return await diffusion.run_block(request, spec, context, drawing, annotator)
        model = await pools.io(load_face_model, store, request.model)
        return await run_block(request, spec, context, model, annotator)

    return Method(NAME, generator_pb2.GenerateRequest, validate, run, shard)


async def _take(
    output: ShardOutput,
    request: generator_pb2.GenerateRequest,
    model: FaceModel,
    tally: Tally,
    writer: DatasetWriter,
    pools: Pools,
    store: ObjectStore,
) -> int:
    """Puts a block's subjects into the dataset, in order, as far as quotas are open; number of images."""
    tally.candidates += output.facts["candidates"]
    tally.images += output.facts["images"]
    tally.no_face += output.facts["no_face"]
    taking: dict[int, int] = {}
    for subject, fitting in output.facts["accepted"]:
        index = next((i for i in fitting if tally.remaining[i] > 0), None)
        if index is not None:
            tally.remaining[index] -= 1
            tally.accepted[index] = tally.accepted.get(index, 0) + 1
            taking[subject] = index
    if not taking:
        return 0
    return await pools.io(_write, output.parts[0], taking, request, model, writer, store)


def _write(
    part: Part,
    taking: Mapping[int, int],
    request: generator_pb2.GenerateRequest,
    model: FaceModel,
    writer: DatasetWriter,
    store: ObjectStore,
) -> int:
    count = 0
    for row in from_parquet(read_part(store, part)).to_pylist():
        index = taking.get(row["subject"])
        if index is None or row["image"] >= request.quotas[index].images_per_subject:
            continue
        subject = subject_id(model.name, request.seed, row["subject"])
        writer.add(
            Image(
                data=put_mark(row["png"], Mark(model.name, request.seed, row["image"], subject)),
                width=model.image_size,
                height=model.image_size,
                format="png",
                subject_id=subject,
                labels=dict(row["labels"]),
                source="synthetic",
                model=model.name,
                seed=request.seed,
                index=row["image"],
                requested_cell=request.quotas[index].cell
                or model.component("", request.seed, row["subject"]),
            )
        )
        count += 1
    return count


def result_of(request: generator_pb2.GenerateRequest, tally: Tally, index: int) -> generator_pb2.QuotaResult:
    """What came of one quota. Candidates of a shared stream count for each of its quotas."""
    quota = request.quotas[index]
    subjects = tally.accepted.get(index, 0)
    rate: dict[str, Any] = {"yield": subjects / tally.candidates if tally.candidates else 0.0}
    return generator_pb2.QuotaResult(
        cell=quota.cell,
        subjects_wanted=quota.subjects,
        subjects=subjects,
        images=subjects * quota.images_per_subject,
        candidate_subjects=tally.candidates,
        candidate_images=tally.images,
        no_face=tally.no_face,
        **rate,
    )


def describe(request: generator_pb2.GenerateRequest, tally: Tally) -> str:
    """`0 of 40 subjects of gender=male,skin_tone_band=light in 800 candidates`."""
    return "; ".join(
        f"{tally.accepted.get(i, 0)} of {request.quotas[i].subjects} subjects of "
        f"{request.quotas[i].cell or 'any cell'} in {tally.candidates} candidates"
        for i in tally.quotas
    )
