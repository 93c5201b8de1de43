"""`Generate` with a diffusion model: prompts in, a dataset out.

Every image has a number: that of its wish times `SUBJECT_RANGE`, and on from
there. Its noise hangs on seed and number, so any block of images can be drawn by
any replica at any time. Without acceptance the images of all wishes stand in one
row that is cut into blocks; with it each quota draws candidates until it is full.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.json_format import MessageToDict

from fairloop import registry, taxonomy
from fairloop.client import AnnotatorClient
from fairloop.dataset import DatasetWriter, Image
from fairloop.errors import Exhausted, InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, Part, Terms, inherited_terms, read_part
from fairloop.provenance.marks import Mark, put_mark
from fairloop.serving.methods import Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.permission import permit_weights
from fairloop.serving.runner import RunningOperation
from fairloop.store import ObjectStore
from fairloop.table_store import from_parquet, to_parquet
from fairloop.v1 import generator_pb2
from services.generator.acceptance import Deciders, look
from services.generator.candidates import labels
from services.generator.diffusion.computing import Computing
from services.generator.diffusion.drawing import (
    DEFAULT_STEPS,
    Wish,
    check_kind,
    check_options,
    check_wishes,
    drawing_of,
    wish_at,
    wishes_of,
)
from services.generator.diffusion.loading import (
    DiffusionModel,
    check_lengths,
    check_steps,
    open_diffusion,
)
from services.generator.diffusion.redraw import Drawn, Order, draw
from services.generator.encode import encode_png
from services.generator.latents import SUBJECT_RANGE, subject_id

BLOCK_IMAGES = 16
"""At most, where a batch is not larger: what a crash costs again, and a preview waits for."""
TEMPLATE = "diffusion.prompt_template"
BLOCKS_PER_WISH = 10**6
BLOCKS_PER_BATCH = 10**14
"""Blocks of another batch size are other work, whichever replica chose it: their indices lie apart."""

DRAWN = pa.schema(
    [
        ("place", pa.int32()),
        ("number", pa.int64()),
        ("attempt", pa.int32()),
        ("png", pa.binary()),
        ("labels", pa.map_(pa.string(), pa.string())),
    ]
)
"""What a block hands to its owner: a row per image that counts. `place` is its wish."""


@dataclass
class Tally:
    """What came of one wish so far."""

    wish: Wish
    budget: int
    obtained: int = 0
    candidates: int = 0
    no_face: int = 0
    black: int = 0
    refused: int = 0

    @property
    def open(self) -> bool:
        return self.obtained < self.wish.images and self.candidates < self.budget

    def result(self) -> generator_pb2.QuotaResult:
        return generator_pb2.QuotaResult(
            cell=self.wish.cell,
            prompt_id=self.wish.prompt_id,
            subjects_wanted=self.wish.images,
            subjects=self.obtained,
            images=self.obtained,
            candidate_subjects=self.candidates,
            candidate_images=self.candidates,
            no_face=self.no_face,
            black=self.black,
            refused=self.refused,
            **{"yield": self.obtained / self.candidates if self.candidates else 0.0},
        )


def check_request(request: generator_pb2.GenerateRequest) -> list[Wish]:
    """Everything that can be wrong with a request without asking the store; what it wants."""
    check_options(request.diffusion)
    if request.within_subject:
        raise InvalidInput("within_subject", "is for latents; a diffusion model has none: leave it out")
    wishes = wishes_of(request)
    check_wishes(wishes, request.diffusion, "" if request.prompts else TEMPLATE)
    return wishes


def check_against_model(
    store: ObjectStore, name: str, prompts: Sequence[str], message: generator_pb2.Diffusion, field: str
) -> int:
    """Asks the model: its kind, safety checker and steps, the lengths of prompts; how many are cut."""
    model, base = open_diffusion(store, name)
    check_kind(model, True)
    if not message.without_safety_checker and not base.details["safety_checker"]:
        raise PreconditionFailed(
            f"{name} has no safety checker; publish it with one (fairloop models put-diffusion "
            "--safety-checker FOLDER), or set diffusion.without_safety_checker"
        )
    check_steps(store, base, message.steps or DEFAULT_STEPS)
    texts = sorted({*prompts, message.negative_prompt} - {""})
    return check_lengths(store, base, texts, message.truncate_prompts, field)


def check_store(store: ObjectStore, request: generator_pb2.GenerateRequest) -> int:
    """`check_against_model` of a checked request."""
    prompts = [wish.prompt for wish in wishes_of(request)]
    field = "prompts" if request.prompts else TEMPLATE
    return check_against_model(store, request.model, prompts, request.diffusion, field)


def blocks(wishes: Sequence[Wish], first: int, batch: int) -> Iterator[Shard]:
    """All images of all wishes in one row, cut into blocks of whole batches."""
    size = batch * max(1, BLOCK_IMAGES // batch)
    row = ((wish.place, n) for wish in wishes for n in range(wish.images))
    index = 0
    while block := list(itertools.islice(row, size)):
        runs = []
        for place, run in itertools.groupby(block, key=lambda image: image[0]):
            numbers = [n for _, n in run]
            runs.append([place, numbers[0], numbers[-1] + 1])
        yield Shard(batch * BLOCKS_PER_BATCH + index, {"images": runs, "first": first, "batch": batch})
        index += 1


def candidate_blocks(tally: Tally, first: int, batch: int) -> Iterator[Shard]:
    """Blocks of candidates for one quota, for as long as it is open."""
    size = batch * max(1, BLOCK_IMAGES // batch)
    for index, start in enumerate(range(0, tally.budget, size)):
        if not tally.open:
            return
        run = [tally.wish.place, start, min(start + size, tally.budget)]
        spec = {"images": [run], "first": first, "batch": batch}
        yield Shard(batch * BLOCKS_PER_BATCH + tally.wish.place * BLOCKS_PER_WISH + index, spec)


def orders_of(request: generator_pb2.GenerateRequest, spec: Mapping[str, Any]) -> list[tuple[Wish, Order]]:
    """The images of a block: `spec["images"]` has runs of them, [place, start, stop]."""
    orders = []
    for place, start, stop in spec["images"]:
        wish = wish_at(request, place)
        for n in range(start, stop):
            orders.append((wish, Order(spec["first"] + place * SUBJECT_RANGE + n, wish.prompt)))
    return orders


async def run_block(
    request: generator_pb2.GenerateRequest,
    spec: Mapping[str, Any],
    context: ShardContext,
    model: DiffusionModel,
    annotator: AnnotatorClient,
) -> ShardOutput:
    """Draws a block of images; with acceptance keeps those that the annotator finds to be of the cell."""
    drawing = drawing_of(request.diffusion, model.manifest)
    wanted = orders_of(request, spec)
    wish_of = {order.number: wish for wish, order in wanted}
    drawn: dict[int, tuple[Drawn, bytes]] = {}
    orders = [order for _, order in wanted]
    async for ready in draw(model, orders, drawing, request.seed, spec["batch"], context.pools):
        pngs = await context.pools.io(encode_png, np.stack([one.pixels for one in ready]))
        drawn.update((one.order.number, (one, png)) for one, png in zip(ready, pngs, strict=True))
    profile = model.profile(spec["batch"])
    facts: dict[str, Any] = {"wishes": {}, "annotators": {}, "profile": profile}
    rows: list[dict[str, Any]] = []
    numbers = [order.number for order in orders]
    views = None
    if request.HasField("acceptance"):
        sources = list(request.acceptance.sources)
        views = await look(context.pools, annotator, [drawn[n][1] for n in numbers], sources)
        facts["annotators"] = views[0].annotators
    for position, number in enumerate(numbers):
        one, png = drawn[number]
        wish = wish_of[number]
        # Keys of JSON are texts.
        counts = facts["wishes"].setdefault(
            str(wish.place), {"candidates": 0, "no_face": 0, "black": 0, "refused": 0}
        )
        counts["candidates"] += 1
        counts["black"] += one.black
        counts["refused"] += one.refused
        row = {"place": wish.place, "number": number, "attempt": one.attempt, "png": png, "labels": []}
        if views is not None:
            view = views[position]
            counts["no_face"] += view.status == "no_face"
            cell = taxonomy.parse_cell(wish.cell)
            if view.status != "ok" or view.quality < request.acceptance.min_quality or not view.is_in(cell):
                continue
            row["labels"] = labels(request, view)
        rows.append(row)
    data = await context.pools.io(to_parquet, rows, DRAWN)
    part = await context.put(hashlib.sha256(data).hexdigest(), data)
    return ShardOutput((part,), facts, units=len(orders))


async def run(
    operation: RunningOperation, store: ObjectStore, pools: Pools, computing: Computing
) -> generator_pb2.GenerateResult:
    """Drives the operation on its owner."""
    request: generator_pb2.GenerateRequest = operation.request
    wishes = await pools.io(wishes_of, request)  # a hundred thousand take a while
    batch = request.diffusion.batch or computing.batch
    while True:
        writing = _Writing(request, wishes, store, pools, operation)
        try:
            await writing.take_all(batch)
            break
        except Exhausted as error:
            if "out_of_memory" not in error.metadata:
                raise
            if writing.blocks or batch == 1:
                advice = (
                    "give it more memory" if batch == 1 else f"start again with diffusion.batch {batch // 2}"
                )
                raise PreconditionFailed(f"{error} ({writing.made} are stored); {advice}") from error
            batch //= 2
            operation.progress(
                f"generating, {batch} at a time for want of memory", 0, writing.wanted, "images"
            )
    return await writing.finish()


class _Writing:
    """One go at the whole dataset with one size of batch."""

    def __init__(
        self,
        request: generator_pb2.GenerateRequest,
        wishes: Sequence[Wish],
        store: ObjectStore,
        pools: Pools,
        operation: RunningOperation,
    ) -> None:
        self._request, self._wishes, self._store = request, wishes, store
        self._pools, self._operation = pools, operation
        accepting = request.HasField("acceptance")
        per_image = request.acceptance.max_candidates_per_image if accepting else 1
        self.tallies = {wish.place: Tally(wish, wish.images * per_image) for wish in wishes}
        self.wanted = sum(wish.images for wish in wishes)
        self.made = self.blocks = self.redrawn = 0
        self._deciders = Deciders()
        self._profiles: list[dict[str, Any]] = []
        self._manifest: Manifest | None = None
        self._writer: DatasetWriter | None = None

    async def take_all(self, batch: int) -> None:
        """Takes the blocks in order into the writer, as far as wishes are open."""
        model, _ = await self._pools.io(open_diffusion, self._store, self._request.model)
        self._manifest = model
        purpose = [Terms(purpose=self._request.purpose)] if self._request.purpose else []
        self._writer = DatasetWriter(
            self._store,
            self._request.dataset,
            parents=[model.name],
            terms=inherited_terms([model], purpose),
            libraries=["torch", "diffusers", "transformers"],
        )
        first = self._request.first_subject
        if not self._request.HasField("acceptance"):
            await self._take(blocks(self._wishes, first, batch))
            return
        for tally in self.tallies.values():
            await self._take(candidate_blocks(tally, first, batch), tally)

    async def _take(self, shards: Iterator[Shard], until: Tally | None = None) -> None:
        async with aclosing(self._operation.shards(shards)) as outputs:
            async for output in outputs:
                self.blocks += 1
                if output.facts["profile"] not in self._profiles:
                    self._profiles.append(output.facts["profile"])
                if new := self._deciders.add(output.facts["annotators"]):
                    await permit_weights(self._pools, self._store, new)
                for place, counts in output.facts["wishes"].items():
                    tally = self.tallies[int(place)]
                    tally.candidates += counts["candidates"]
                    tally.no_face += counts["no_face"]
                    tally.black += counts["black"]
                    tally.refused += counts["refused"]
                    self.redrawn += counts["black"] + counts["refused"]
                self.made += await self._pools.io(self._write, output.parts[0])
                self._operation.progress("generating", self.made, self.wanted, "images", redrawn=self.redrawn)
                if until is not None and not until.open:
                    return

    def _write(self, part: Part) -> int:
        request = self._request
        assert self._manifest is not None
        assert self._writer is not None
        drawing = drawing_of(request.diffusion, self._manifest)
        count = 0
        for row in from_parquet(read_part(self._store, part)).to_pylist():
            tally = self.tallies[row["place"]]
            if tally.obtained >= tally.wish.images:
                continue
            tally.obtained += 1
            count += 1
            subject = subject_id(self._manifest.name, request.seed, row["number"])
            mark = Mark(self._manifest.name, request.seed, row["attempt"], subject)
            known = {"prompt_id": tally.wish.prompt_id} if tally.wish.prompt_id else {}
            self._writer.add(
                Image(
                    data=put_mark(row["png"], mark),
                    width=drawing.width,
                    height=drawing.height,
                    format="png",
                    subject_id=subject,
                    labels={**known, **dict(row["labels"])},
                    source="synthetic",
                    model=self._manifest.name,
                    prompt=tally.wish.prompt,
                    negative_prompt=drawing.negative_prompt or None,
                    seed=request.seed,
                    index=row["attempt"],
                    steps=drawing.steps,
                    guidance=drawing.guidance,
                    scheduler=drawing.scheduler,
                    requested_cell=tally.wish.cell or None,
                )
            )
        return count

    async def finish(self) -> generator_pb2.GenerateResult:
        """Makes the dataset, with all that its images hang on."""
        assert self._writer is not None
        assert self._manifest is not None
        request = self._request
        results = [tally.result() for tally in self.tallies.values()]
        if not self.made:
            told = "; ".join(f"0 of {t.wish.images} of {t.wish.text}" for t in self.tallies.values())
            raise PreconditionFailed(
                f"no candidate was accepted: {told}; change the prompt template, or raise "
                "max_candidates_per_image"
            )
        self._operation.progress("storing", self.made, self.wanted, "images")
        await self._operation.confirm()
        drawing = drawing_of(request.diffusion, self._manifest)
        details = {
            "model": self._manifest.name,
            "seed": request.seed,
            "diffusion": drawing.to_json(),
            "prompt_template": request.diffusion.prompt_template,
            "quotas": [MessageToDict(result, preserving_proto_field_name=True) for result in results],
            "acceptance": MessageToDict(request.acceptance, preserving_proto_field_name=True),
            "annotators": self._deciders.versions,
            "weights": self._deciders.weights,
            "profile": self._profiles[0],
            # Replicas of another kind took part: nobody can promise which image is whose.
            **({"other_profiles": self._profiles[1:]} if len(self._profiles) > 1 else {}),
        }
        dataset = await self._pools.io(
            self._writer.finish, details, registry.weights_terms(self._deciders.weights)
        )
        return generator_pb2.GenerateResult(
            dataset=dataset.name,
            model=self._manifest.name,
            images=dataset.manifest.counts["images"],
            subjects=dataset.manifest.counts["subjects"],
            quotas=results,
        )
