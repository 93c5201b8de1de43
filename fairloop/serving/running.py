"""What the work of a method gets while its operation runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Any

from fairloop.serving.attempt import Attempt
from fairloop.serving.methods import Pools, Shard, ShardOutput
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import Progress
from fairloop.serving.shards import Replicas, fan_out


@dataclass(frozen=True)
class RunningOperation:
    """What a method's `run` gets: the request and the means to have it done."""

    name: str
    request: Any
    operations: OperationStore
    pools: Pools
    attempt: Attempt
    replicas: Replicas

    async def shards(self, shards: Iterable[Shard]) -> AsyncGenerator[ShardOutput, None]:
        """Outputs of the shards in order. Stops when the operation is cancelled, suspended or superseded.

        Shards are read lazily: one is asked for when there is a replica free to
        compute it, and by then every output yielded before was dealt with.
        """
        outputs = fan_out(self.replicas, self.name, self.attempt.record.attempt, shards)
        try:
            async for output in outputs:
                await self.attempt.confirm()
                yield output
        finally:
            await outputs.aclose()

    def progress(self, stage: str, done: int, total: int, unit: str, **measures: float) -> None:
        """Says how far it is; written with the next heartbeat."""
        self.attempt.progress(Progress(stage, done, total, unit, measures=measures))

    async def confirm(self) -> None:
        """Call before a manifest is written: raises when this attempt no longer counts.

        From then on it is too late to cancel.
        """
        await self.attempt.confirm_commit()
