"""Reading ahead: stretches of shards are fetched in a bounded pool while the present one is consumed.

In dataset order or in an order drawn from a seed. Only what is held is bounded here; whoever consumes
checks the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa

from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed, child_seed

AHEAD = 1
"""Stretches that are fetched, or being fetched, beyond those that are consumed."""
WINDOW = 2
"""Shards whose images are mixed with each other in training order."""
LARGEST_WINDOW = 1_000


@dataclass(frozen=True)
class Stretch:
    """Images `start` … `stop`−1 of a dataset, all in one shard, and where their bytes lie in it."""

    start: int
    stop: int
    blob: str
    offset: int
    size: int


Read = Callable[[Stretch], bytes]


def stretches(index: pa.Table, start: int = 0, stop: int | None = None) -> list[Stretch]:
    """The stretches that hold images `start` … `stop`−1 of an index, in dataset order."""
    part = index.slice(start, None if stop is None else max(stop - start, 0))
    if not part.num_rows:
        return []
    blobs = part["blob"].cast(pa.string()).combine_chunks().dictionary_encode()
    offsets = part["offset"].to_numpy()
    ends = offsets + part["size"].to_numpy()
    begins = np.flatnonzero(np.diff(blobs.indices.to_numpy(), prepend=-1))
    first = np.minimum.reduceat(offsets, begins)
    sizes = np.maximum.reduceat(ends, begins) - first
    return [
        Stretch(start + int(begin), start + int(end), blobs[int(begin)].as_py(), int(offset), int(size))
        for begin, end, offset, size in zip(begins, [*begins[1:], part.num_rows], first, sizes, strict=True)
    ]


def fetched(
    read: Read, wanted: Sequence[Stretch], ahead: int = AHEAD
) -> Generator[tuple[Stretch, bytes], None, None]:
    """The stretches with their bytes, in order, `ahead` of them fetched in advance.

    At most `ahead` + 1 stretches are held: the one last given is let go before another is waited
    for, so the caller should let go of it too. What `read` raises is raised in its place in the
    order. No read outlasts the iteration.
    """
    if len(wanted) < 2:
        for stretch in wanted:
            yield stretch, read(stretch)
        return
    rest = iter(wanted)
    pending: deque[tuple[Stretch, Future[bytes]]] = deque()
    with ThreadPoolExecutor(ahead, "fairloop-reader") as pool:
        try:
            for stretch in islice(rest, ahead):
                pending.append((stretch, pool.submit(read, stretch)))
            while pending:
                stretch, future = pending.popleft()
                data = future.result()
                del future
                for following in islice(rest, 1):
                    pending.append((following, pool.submit(read, following)))
                yield stretch, data
                del data
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def windows(whole: Sequence[Stretch], seed: int, epoch: int, window: int) -> list[list[Stretch]]:
    """The stretches in training order: drawn from `seed` and `epoch`, `window` of them at a time.

    Raises `InvalidInput` for a seed, an epoch or a window outside its range.
    """
    if not 1 <= window <= LARGEST_WINDOW:
        raise InvalidInput("window", f"{window} is outside 1–{LARGEST_WINDOW} shards")
    order = np.random.default_rng(child_seed(_own(seed, epoch), "shards", 0)).permutation(len(whole))
    return [[whole[place] for place in order[k : k + window]] for k in range(0, len(order), window)]


def drawn(images: int, seed: int, epoch: int, number: int) -> list[int]:
    """The order of the images of window `number`: 0 … `images`−1, each once."""
    rng = np.random.default_rng(child_seed(_own(seed, epoch), "images", number))
    order: list[int] = rng.permutation(images).tolist()
    return order


def _own(seed: int, epoch: int) -> int:
    return child_seed(check_seed(seed), "epoch", epoch)
