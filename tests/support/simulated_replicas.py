"""The fan-out's own code over replicas that exist in simulated time only."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fairloop.errors import Unavailable
from fairloop.serving.methods import Shard
from fairloop.serving.shards import Replicas


class _NeverWaiting(selectors.DefaultSelector):
    """Where the loop would wait for its next timer, the clock is moved there instead."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits for another: nothing can ever happen again")
        if timeout > 0:
            self._advance(timeout)
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps from one timer to the next; hours take milliseconds."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_NeverWaiting(self._advance))

    def _advance(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        return self.now


class SimulatedReplicas(Replicas):
    """Replicas with one compute thread each, which shards take in turn, as `Pools.compute` gives it.

    `seconds` says what computing a shard takes on a replica, `around` what fetching and storing take
    besides, and `leaves` from when on a replica answers nothing. What it holds then is lost with it.
    """

    def __init__(
        self,
        count: int,
        seconds: Callable[[int, str], float],
        around: float = 0.0,
        leaves: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__("")
        self._addresses = [f"10.0.{number // 250}.{number % 250 + 1}:9311" for number in range(count)]
        self._seconds = seconds
        self._around = around
        self._leaves = leaves or {}
        self._compute = {address: asyncio.Lock() for address in self._addresses}
        self.in_flight = dict.fromkeys(self._addresses, 0)
        self.most_in_flight = dict.fromkeys(self._addresses, 0)
        self.computed: list[tuple[int, str]] = []

    async def addresses(self) -> list[str]:
        return list(self._addresses)

    async def run(self, address: str, operation: str, attempt: int, shard: Shard) -> dict[str, Any]:
        self.in_flight[address] += 1
        self.most_in_flight[address] = max(self.most_in_flight[address], self.in_flight[address])
        leaves = self._leaves.get(address, float("inf"))
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout_at(leaves if leaves < float("inf") else None):
                if clock() >= leaves:
                    raise TimeoutError
                await asyncio.sleep(self._around)
                async with self._compute[address]:
                    await asyncio.sleep(self._seconds(shard.index, address))
        except TimeoutError:
            raise Unavailable(f"{address} is gone") from None
        finally:
            self.in_flight[address] -= 1
        self.computed.append((shard.index, address))
        return {"parts": [], "facts": {"index": shard.index}, "units": 256}


def simulated(work: Callable[[], Any]) -> Any:
    """What the coroutine that `work` makes gives, in simulated time from 0 on."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:

        async def begun() -> Any:
            return await work()

        return runner.run(begun())


def addresses(count: int) -> Sequence[str]:
    """The addresses of so many simulated replicas."""
    return [f"10.0.{number // 250}.{number % 250 + 1}:9311" for number in range(count)]
