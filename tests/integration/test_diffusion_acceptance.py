"""Quotas of a diffusion model with acceptance: the annotator decides, the block keeps what is of the cell.

An untrained tiny model draws no faces, so here the DCGAN stands where the network would; all else is real.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from fairloop.client import AnnotatorClient
from fairloop.manifest import Manifest, read_part
from fairloop.models import fetch
from fairloop.serving.methods import Pools, ShardContext, ShardOutput
from fairloop.store import ObjectStore
from fairloop.table_store import from_parquet
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.generator_pb2 import Acceptance, Diffusion, GenerateRequest, PromptItem, Quota
from services.generator import dcgan
from services.generator.acceptance import look
from services.generator.diffusion.generate import (
    Tally,
    blocks,
    candidate_blocks,
    check_request,
    orders_of,
    run_block,
)
from services.generator.latents import subject_centre
from tests.support.processes import start_service

GENDER = LabelSource(attribute="gender", annotator="age_and_gender")
CELLS = ("gender=female", "gender=male")


@dataclass(frozen=True)
class Faces:
    """Draws faces where a diffusion model would draw what it was trained on: one for each seed."""

    net: nn.Module
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.name

    def profile(self, batch: int) -> dict[str, Any]:
        return {"batch": batch}

    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], drawing: object, on_step: object = None
    ) -> tuple[NDArray[np.uint8], list[bool]]:
        return dcgan.render(self.net, np.stack([subject_centre(seed, 0) for seed in seeds])), [False] * len(
            seeds
        )


@pytest.fixture(scope="module")
def annotator(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[AnnotatorClient]:
    folder = tmp_path_factory.mktemp("annotator")
    environment = {**s3, "FAIRLOOP_S3_BUCKET": "test-acceptance", "FAIRLOOP_ANNOTATORS": "age_and_gender"}
    process, address = start_service("services.annotator", folder, environment)
    yield AnnotatorClient("annotator", address)
    process.stop()


def asked() -> GenerateRequest:
    return GenerateRequest(
        model=f"models/faces/versions/{0:016x}",
        quotas=[Quota(cell=cell, subjects=3, images_per_subject=1) for cell in CELLS],
        diffusion=Diffusion(prompt_template="face of a {gender} person", steps=1),
        acceptance=Acceptance(sources=[GENDER], max_candidates_per_image=40),
        seed=5,
        dataset="datasets/faces",
    )


def test_a_block_keeps_the_candidates_that_the_annotator_puts_into_the_cell(
    annotator: AnnotatorClient, store: ObjectStore, tmp_path: Path
) -> None:
    request = asked()
    details = {"image_size": 64, "scheduler": "DDIMScheduler", "kind": "diffusion"}
    model = Faces(
        dcgan.load(fetch("dcgan-faces")), Manifest("fairloop.model/1", request.model, (), details=details)
    )
    pools = Pools(4)
    context = ShardContext("operations/generator-" + "a" * 26, 0, store, pools)
    spec = {"images": [[0, 0, 32]], "first": 100, "batch": 4}

    async def block() -> tuple[ShardOutput, list[Any]]:
        made = await run_block(request, spec, context, model, annotator)  # type: ignore[arg-type]
        rows = from_parquet(read_part(store, made.parts[0])).to_pylist()
        return made, await look(pools, annotator, [row["png"] for row in rows], [GENDER])

    output, again = asyncio.run(block())
    rows = from_parquet(read_part(store, output.parts[0])).to_pylist()
    counts = output.facts["wishes"]["0"]
    assert counts["candidates"] == 32
    assert 0 < len(rows) < 32 - counts["no_face"], "some faces must be of either gender"
    assert all(view.labels["gender"] == "female" for view in again)
    assert {dict(row["labels"])["perceived_gender.age_and_gender"] for row in rows} == {"female"}
    assert all(100 <= row["number"] < 132 and row["place"] == 0 for row in rows)
    assert output.facts["annotators"]["age_and_gender"]["version"]


def test_candidates_are_drawn_until_the_quota_is_full_or_its_budget_is_spent() -> None:
    wish = check_request(asked())[0]
    tally = Tally(wish, budget=40)
    starts = []
    for shard in candidate_blocks(tally, first=0, batch=4):
        ((_, start, stop),) = shard.spec["images"]
        starts.append((start, stop))
        tally.candidates += stop - start
        tally.obtained += 1
    assert starts == [(0, 16), (16, 32), (32, 40)]
    tally = Tally(wish, budget=400)
    starts = []
    for shard in candidate_blocks(tally, first=0, batch=4):
        ((_, start, stop),) = shard.spec["images"]
        starts.append((start, stop))
        tally.candidates += 16
        tally.obtained += 2
    assert starts == [(0, 16), (16, 32)], "three of three were obtained after the second block"


def test_blocks_hold_every_image_once_and_in_order_and_are_whole_batches_but_for_the_last() -> None:
    counts = (5, 40, 1)
    prompts = [PromptItem(prompt_id=f"p{k}", prompt=f"face {k}", images=n) for k, n in enumerate(counts)]
    request = GenerateRequest(prompts=prompts, diffusion=Diffusion(steps=1))
    expected = [(f"face {k}", 100 + k * 10**9 + n) for k, count in enumerate(counts) for n in range(count)]
    indices: list[int] = []
    for batch in (1, 3, 4, 64):
        shards = list(blocks(check_request(request), first=100, batch=batch))
        orders = [[order for _, order in orders_of(request, shard.spec)] for shard in shards]
        assert [(order.prompt, order.number) for block in orders for order in block] == expected
        assert all(len(block) % batch == 0 for block in orders[:-1])
        indices += [shard.index for shard in shards]
    assert len(set(indices)) == len(indices), "a block of one batch size would be taken for one of another"
