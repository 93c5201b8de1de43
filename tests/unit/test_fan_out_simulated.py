"""The fan-out at sizes that no test machine has: its own code, over replicas in simulated time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from fairloop.serving import shards
from fairloop.serving.methods import Shard
from fairloop.serving.shards import IN_FLIGHT_PER_REPLICA, LOOK_AHEAD, fan_out
from tests.support.simulated_replicas import SimulatedReplicas, addresses, simulated

NAME = "operations/generator-" + "a" * 26
SHARDS_PER_REPLICA = 30


class Work:
    """Shards of one second on average, each of a size of its own, over so many replicas."""

    def __init__(
        self,
        replicas: int,
        spread: float = 0.3,
        leaves: Mapping[str, float] | None = None,
        slower: Callable[[str], float] = lambda _: 1.0,
    ) -> None:
        self.count = SHARDS_PER_REPLICA * replicas
        sizes = np.random.default_rng(7).normal(-(spread**2) / 2, spread, self.count)
        self.seconds = np.exp(sizes)
        self.replicas = SimulatedReplicas(
            replicas, lambda index, address: float(self.seconds[index]) * slower(address), 0.2, leaves
        )
        self.outputs: list[int] = []

    async def _run(self) -> float:
        clock = asyncio.get_running_loop().time
        async for output in fan_out(self.replicas, NAME, 1, [Shard(i, {}) for i in range(self.count)]):
            self.outputs.append(output.facts["index"])
        return clock()

    def took(self) -> float:
        """Simulated seconds until the last output."""
        return float(simulated(self._run))

    @property
    def share(self) -> float:
        """Of the time of all replicas, what they computed in."""
        return float(self.seconds.sum()) / len(self.replicas.in_flight) / self.took()


@pytest.fixture(autouse=True)
def simulated_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards.time, "monotonic", lambda: asyncio.get_running_loop().time())


@pytest.mark.parametrize("replicas", [1, 3, 10, 100])
def test_replicas_do_nine_tenths_of_proportionally_more_work(replicas: int) -> None:
    """Equal shards, and shards of which one in six takes a third longer or shorter than the average."""
    for spread in (0.0, 0.3):
        work = Work(replicas, spread)
        assert work.share >= 0.9
        assert work.outputs == list(range(work.count))
        assert Counter(work.replicas.computed).total() == work.count
        assert max(work.replicas.most_in_flight.values()) == IN_FLIGHT_PER_REPLICA


def test_a_hundred_replicas_of_which_ten_go_in_the_middle_lose_nothing() -> None:
    gone = dict.fromkeys(addresses(100)[:10], SHARDS_PER_REPLICA / 2)
    work = Work(100, leaves=gone)
    # Ten replicas are away for half of the time, and what they held is computed again.
    assert work.took() <= SHARDS_PER_REPLICA * 100 / 95 * 1.1
    assert work.outputs == list(range(work.count))
    assert {index for index, _ in work.replicas.computed} == set(range(work.count))
    assert Counter(index for index, _ in work.replicas.computed).most_common(1)[0][1] == 1


def test_one_replica_that_is_slow_holds_the_others_up_by_no_more_than_its_own_share() -> None:
    """Ten replicas, one at a third of the speed: at best nine and a third times as fast as one."""
    slow = addresses(10)[0]
    work = Work(10, 0.0, slower=lambda address: 3.0 if address == slow else 1.0)
    assert work.took() <= 1.1 * work.count / (9 + 1 / 3) + 6  # what it holds at the end takes it six seconds
    assert work.outputs == list(range(work.count))


def test_no_more_outputs_wait_for_an_earlier_one_than_are_looked_ahead() -> None:
    """The first shard takes as long as all others; they must not all be computed and kept meanwhile."""
    replicas = SimulatedReplicas(4, lambda index, _: 1_000.0 if index == 0 else 1.0)
    ahead: list[int] = []

    async def work() -> None:
        async for output in fan_out(replicas, NAME, 1, [Shard(i, {}) for i in range(400)]):
            ahead.append(len(replicas.computed) - output.facts["index"])

    simulated(work)
    assert max(ahead) <= LOOK_AHEAD * IN_FLIGHT_PER_REPLICA * 4
    assert len(ahead) == 400
