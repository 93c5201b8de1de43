"""How well a network tells apart people it was not trained on: verification rates on held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats import inequality
from fairloop.stats.roster import roster
from fairloop.stats.scoring import normalised
from fairloop.stats.tails import collect_scores, pooled_threshold
from services.recognizer import residual
from services.recognizer.config import Config
from services.recognizer.fit import Judge
from services.recognizer.margins import MarginLoss
from services.recognizer.network import Network, embed
from services.recognizer.order import Loader

DEFAULT_FMR = 0.01
"""Held-out sets are small: a tenth of this takes ten times the impostor comparisons."""
BATCH = 64


@dataclass(frozen=True)
class Rates:
    """Verification rates at the smallest threshold whose FMR over all impostor comparisons is allowed."""

    tmr: float
    threshold: float
    fmr: float
    worst_group_fnmr: float | None = None
    """Highest FNMR of a group at that threshold; None without groups."""
    garbe: float | None = None
    """None with fewer than two groups that have both rates."""


@dataclass(frozen=True)
class HeldOut:
    """Images, whose they are, and the groups they are in.

    `images` gives those with the numbers 0 … count − 1; `subjects` are their
    names, `cells` their groups ("" where unknown; None: no groups).
    """

    images: Loader
    subjects: Sequence[str]
    cells: Sequence[str] | None = None


def rates(
    vectors: NDArray[np.float32], subjects: Sequence[str], cells: Sequence[str] | None, fmr: float
) -> Rates:
    """The rates of embeddings (N, D), over all pairs, exactly.

    With `cells`, impostors are compared within groups and people without a
    group are left out, as `EvaluateVerification` does it. Raises InvalidInput
    when there is no genuine pair, or when there are fewer than 1/`fmr` impostor
    pairs.
    """
    grouped = cells is not None
    people = roster(list(subjects), ["all"] * len(subjects) if cells is None else list(cells), None)
    rows = normalised(vectors, people.usable, list(subjects))
    scores = collect_scores(
        rows,
        people,
        "within_group" if grouped else "all",
        fmr=fmr,
        threshold=None,
        rng=np.random.default_rng(0),
    )
    threshold = pooled_threshold(scores, fmr)
    genuine = sum(group.genuine.size for group in scores.groups)
    if not genuine:
        raise InvalidInput(
            "split", "no held-out subject has two images: there is no genuine pair to judge by"
        )
    missed = sum(group.false_non_matches(threshold) for group in scores.groups)
    found = Rates(1 - missed / genuine, threshold, scores.false_matches(threshold) / scores.impostor)
    if not grouped:
        return found
    fnmrs = [g.false_non_matches(threshold) / g.genuine.size for g in scores.groups if g.genuine.size]
    both = [group for group in scores.groups if group.genuine.size and group.impostor]
    garbe = None
    if len(both) > 1:
        garbe = float(
            inequality.garbe(
                [group.false_matches(threshold) / group.impostor for group in both],
                [group.false_non_matches(threshold) / group.genuine.size for group in both],
            )
        )
    return Rates(found.tmr, threshold, found.fmr, max(fnmrs), garbe)


def check_judgeable(people: HeldOut, fmr: float, field: str) -> None:
    """InvalidInput, by the field that names these people, where `rates` has too few pairs to be any.

    That hangs on who is in how many images and on no network, so it can be said before a training.
    """
    # Any embeddings do. Equal ones would not: every pair would tie at the threshold, and be kept.
    drawn = np.random.default_rng(0).standard_normal((len(people.subjects), 4), np.float32)
    try:
        rates(drawn, people.subjects, people.cells, fmr)
    except InvalidInput as error:
        raise InvalidInput(field, f"has nothing to judge by: {error}") from error


def embedded(net: Network, people: HeldOut) -> NDArray[np.float32]:
    """Embeddings of held-out images, float32 (N, embedding), a batch at a time."""
    rows = [np.empty((0, net.shape.embedding), np.float32)]
    for start in range(0, len(people.subjects), BATCH):
        numbers = np.arange(start, min(start + BATCH, len(people.subjects)))
        rows.append(embed(net, people.images(numbers), batch=BATCH))
    return np.concatenate(rows)


def by_verification(people: HeldOut, fmr: float) -> Judge:
    """A judge by `rates`; measures that there are none of are left out."""

    def judge(net: Network, loss: MarginLoss) -> Mapping[str, float]:
        found = rates(embedded(net, people), people.subjects, people.cells, fmr)
        return {name: value for name, value in asdict(found).items() if value is not None}

    return judge


def by_loss(people: HeldOut, known: Sequence[str], config: Config) -> Judge:
    """A judge by the loss on held-out images of the subjects `known`, in the order of their classes.

    Images of anybody else have no class, so no loss: they are left out and
    counted. Without one image of a class, there is no measure `loss`.
    """
    places = {subject: place for place, subject in enumerate(known)}
    numbers = np.array([i for i, subject in enumerate(people.subjects) if subject in places], np.int64)
    classes = np.array([places[people.subjects[i]] for i in numbers.tolist()], np.int64)

    def judge(net: Network, loss: MarginLoss) -> Mapping[str, float]:
        without = float(len(people.subjects) - len(numbers))
        if not len(numbers):
            return {"without_class": without}
        net.eval()
        device = loss.centres.device
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(numbers), BATCH):
                chosen = numbers[start : start + BATCH]
                x = residual.pixels(people.images(chosen), config.shape()).to(device)
                y = torch.from_numpy(classes[start : start + BATCH]).to(device)
                total += float(loss.whole(net(x), y)) * len(chosen)
        return {"loss": total / len(numbers), "without_class": without}

    return judge


def both(*judges: Judge) -> Judge:
    """The measures of all of them."""

    def judge(net: Network, loss: MarginLoss) -> Mapping[str, float]:
        found: dict[str, Any] = {}
        for one in judges:
            found.update(one(net, loss))
        return found

    return judge
