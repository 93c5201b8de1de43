"""Embeddings that an older release left behind are computed again, and never joined with a newer one's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fairloop.errors import Unavailable
from fairloop.registry import publish
from fairloop.serving import recipe
from fairloop.serving.methods import Method, Pools, Shard
from fairloop.serving.operation_store import OperationStore, StoredRequest
from fairloop.serving.shards import ShardComputer
from fairloop.store import ObjectStore
from fairloop.v1.recognizer_pb2 import EmbedCopiesRequest, EmbedRequest
from services.recognizer import copies, embed, residual
from tests.support.faces import rendered_dataset

OPERATION = "operations/recognizer-" + "a" * 26


@pytest.mark.parametrize(
    ("make", "request_", "spec"),
    [
        (embed.make_method, EmbedRequest, {"start": 0, "stop": 2}),
        (copies.make_method, EmbedCopiesRequest, {"transform": "blur", "level": 1.0, "start": 0, "stop": 2}),
    ],
)
async def test_a_shard_that_another_release_recorded_is_computed_again(
    store: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[..., Method],
    request_: Any,
    spec: dict[str, Any],
) -> None:
    dataset = rendered_dataset(store, "few", 2, 1)
    names = []
    for seed in range(2):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.safetensors"
        residual.save(residual.Residual(residual.Shape(size=64)), path)
        names.append(
            publish(
                store,
                "models/plain",
                {"recogniser.safetensors": path.read_bytes()},
                service="recognizer",
                kind="residual",
                description="random weights",
                details={"dimension": 128},
            ).name
        )
    request = request_(dataset=dataset.name, model=names[0])
    operations = OperationStore(store)
    pools = Pools(2)
    try:
        method = make(store, pools, 1)
        assert method.recipe is not None
        body = request.SerializeToString(deterministic=True)
        operations.put_request(
            OPERATION, StoredRequest(method.name, "test", body, "", True, operations.now())
        )

        def computer(method: Method) -> ShardComputer:
            return ShardComputer({method.name: method}, operations, pools)

        # A release that knew of no recipes left the first shard behind.
        left = await computer(replace(method, recipe=None)).compute(OPERATION, 1, Shard(0, spec))
        assert (left["attempt"], left["recipe"]) == (1, "")
        same = await method.recipe(request)
        shard = Shard(0, spec, recipe=same)
        again = await computer(method).compute(OPERATION, 2, shard)
        assert (again["attempt"], again["recipe"]) == (2, same)
        kept = await computer(method).compute(OPERATION, 3, shard)
        assert kept == again, "what this release recorded is taken as it is"
        assert await method.recipe(request_(dataset=dataset.name, model=names[1])) != same
        monkeypatch.setattr(recipe, "producer", lambda: {"fairloop": "99.0"})
        later = await method.recipe(request)
        assert later != same
        with pytest.raises(Unavailable, match="other versions than the owner"):
            await computer(method).compute(OPERATION, 4, Shard(1, spec, recipe=same))
        newer = await computer(method).compute(OPERATION, 4, replace(shard, recipe=later))
        assert (newer["attempt"], newer["recipe"]) == (4, later)
    finally:
        pools.close()
