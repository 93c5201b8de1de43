"""`python -m deploy.capacity --images 1000000 --core-hour PRICE`: what a loop takes and what it costs.

Rates are of one core. Without prices nothing is said of money: a price is where you are, not here.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, fields

from fairloop.errors import InvalidInput

SHARD_IMAGES = 256
"""At most so many images are one shard of an operation."""

SHARE = 0.9
"""Of their time, what replicas compute in at least, by `tests/unit/test_fan_out_simulated.py`."""

SIMULATED_REPLICAS = 100
"""The fan-out has been looked at up to here."""

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Loop:
    """What is asked for, and the rates it is done at; the defaults are those of docs/capacity.md."""

    images: int = 1_000_000
    """Images accepted into the training set."""
    accepted: float = 1 / 3
    """Share of the candidates that is accepted."""
    annotators: int = 2
    """Annotators that describe every accepted image."""
    generate: float = 269.0
    """Images a second and core."""
    annotate: float = 112.0
    embed: float = 14.4
    generate_requests: float = 12.0
    """Requests to the store for each shard."""
    annotate_requests: float = 18.0
    embed_requests: float = 18.0
    image_bytes: int = 8_000
    dimension: int = 128

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidInput(field.name, f"{value} is not a number above 0")
        if self.accepted > 1:
            raise InvalidInput("accepted", f"{self.accepted} is a share, at most 1")


@dataclass(frozen=True)
class Stage:
    """One kind of work over all images."""

    name: str
    images: int
    rate: float
    """Images a second and core."""
    requests: float
    """Requests to the store for each shard."""

    @property
    def core_hours(self) -> float:
        return self.images / self.rate / 3_600

    @property
    def shards(self) -> int:
        return math.ceil(self.images / SHARD_IMAGES)

    def replicas(self, hours: float) -> int:
        """Replicas of one core that end this stage within so many hours."""
        return max(1, math.ceil(self.core_hours / (hours * SHARE)))


def stages(loop: Loop) -> list[Stage]:
    """What a loop consists of; trainings and the evaluation are not in it."""
    candidates = math.ceil(loop.images / loop.accepted)
    return [
        Stage("candidates generated", candidates, loop.generate, loop.generate_requests),
        # Pixels travel by message here: the annotator asks the store for nothing.
        Stage("candidates annotated for acceptance", candidates, loop.annotate, 0.0),
        Stage(
            f"annotated by {loop.annotators}",
            loop.images * loop.annotators,
            loop.annotate,
            loop.annotate_requests,
        ),
        Stage("embedded", loop.images, loop.embed, loop.embed_requests),
    ]


def core_hours(loop: Loop) -> float:
    """Hours of a core that the stages take together."""
    return sum(stage.core_hours for stage in stages(loop))


def requests(loop: Loop) -> int:
    """Requests to the store."""
    return round(sum(stage.shards * stage.requests for stage in stages(loop)))


def stored_bytes(loop: Loop) -> int:
    """Bytes of the accepted images and of their embeddings."""
    return loop.images * (loop.image_bytes + FLOAT_BYTES * loop.dimension)


def cost(loop: Loop, core_hour: float, million_requests: float = 0.0) -> float:
    """core hours × price of one + requests ÷ 10⁶ × price of a million; in the prices' own money."""
    return core_hours(loop) * core_hour + requests(loop) / 1e6 * million_requests


def lines(loop: Loop, hours: float, core_hour: float | None, million_requests: float) -> list[str]:
    """The table, and what it comes to."""
    rows = [("", "images", "a second", "core hours", f"replicas for {hours:g} h")]
    for stage in stages(loop):
        wanted = stage.replicas(hours)
        # Two shards are on their way to each replica.
        idle = " (too few shards for all)" if wanted > stage.shards / 2 else ""
        many = f" (simulated up to {SIMULATED_REPLICAS})" if wanted > SIMULATED_REPLICAS else ""
        rows.append(
            (
                stage.name,
                f"{stage.images:,}",
                f"{stage.rate:g}",
                f"{stage.core_hours:.1f}",
                f"{wanted}{idle}{many}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    found = [
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:4], widths[1:4], strict=True))
        + f"  {row[4]}"
        for row in rows
    ]
    found.append(f"together {core_hours(loop):.1f} core hours, {requests(loop):,} requests to the store")
    found.append(f"stored: {stored_bytes(loop) / 1e9:.1f} GB of images and embeddings")
    if core_hour is None:
        found.append("next: --core-hour PRICE says what that costs where you are")
    else:
        sums = f"{core_hours(loop):.1f} × {core_hour:g}"
        if million_requests:
            sums += f" + {requests(loop) / 1e6:.3f} × {million_requests:g}"
        found.append(f"cost: {sums} = {cost(loop, core_hour, million_requests):,.2f}")
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m deploy.capacity", description=__doc__.splitlines()[0])
    for field in fields(Loop):
        kind = float if isinstance(field.default, float) else int
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help="[%(default)g]"
        )
    parser.add_argument(
        "--hours", type=float, default=1.0, help="in which each stage is to end [%(default)g]"
    )
    parser.add_argument("--core-hour", type=float, help="price of an hour of a core")
    parser.add_argument("--million-requests", type=float, default=0.0, help="price of a million requests")
    given = vars(parser.parse_args())
    hours, core_hour, million = (given.pop(name) for name in ("hours", "core_hour", "million_requests"))
    if not hours > 0:
        parser.error(f"--hours {hours:g} is not above 0")
    try:
        print(*lines(Loop(**given), hours, core_hour, million), sep="\n")
    except InvalidInput as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
