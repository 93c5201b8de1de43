"""An audit of prompts: who is seen in the images of each, who is under-represented, what to draw next.

Everything here is a pure function over observations: one per image, with the
prompt that it was drawn from and what was seen in it. A face that was not found,
or whose attribute failed, is `--` (`FAILED`), as in the tables of the third
reference system; shares are taken over all images or over those that were seen.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fairloop.errors import InvalidInput
from fairloop.prompts import Prompt

FAILED = "--"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "gender": ("Male", "Female"),
    "race": ("asian", "indian", "white", "black", "middle eastern", "latino hispanic"),
}
"""Attributes of the third reference system's audit with their values, in the order of its tables."""

SEED_THRESHOLD = 0.4
"""A group with a smaller share is under-represented to that system: of twelve groups nearly every one is."""

Rule = Literal["threshold", "uniform", "parity", "target"]
_START = re.compile(r"a photo of (?:an?|the) ", re.IGNORECASE)

Observation = Mapping[str, str]
"""One image: `prompt` and a value for each attribute."""


@dataclass(frozen=True)
class Share:
    """The share of one group among the images of one prompt. `group` has one value per attribute."""

    prompt: str
    group: tuple[str, ...]
    share: float
    count: int
    images: int


@dataclass(frozen=True)
class Target:
    """A group that a prompt under-represents, and the prompt that asks for it."""

    share: Share
    text: str


def shares(
    observations: Sequence[Observation],
    groups: Mapping[str, Sequence[str]] = GROUPS,
    *,
    failures: Literal["counted", "left_out"] = "counted",
) -> list[Share]:
    """The share of every group of every prompt: prompts as they first come, groups as their product.

    Groups that never occur have 0. With failures `counted` shares are of all the
    prompt's images, as the reference system takes them, and sum to less than 1
    where faces were not found; `left_out` takes them over images in which every
    attribute was seen. `InvalidInput` when a value is of no group.
    """
    counted: dict[str, Counter[tuple[str, ...]]] = {}
    images: Counter[str] = Counter()
    for row in observations:
        group = tuple(row[attribute] for attribute in groups)
        prompt = row["prompt"]
        tally = counted.setdefault(prompt, Counter())
        unseen = FAILED in group
        if failures == "counted" or not unseen:
            images[prompt] += 1
        if unseen:
            continue
        for attribute, value in zip(groups, group, strict=True):
            if value not in groups[attribute]:
                allowed = ", ".join((*groups[attribute], FAILED))
                raise InvalidInput(attribute, f"{value!r} of prompt {prompt!r} is not one of {allowed}")
        tally[group] += 1
    return [
        Share(
            prompt,
            group,
            tally[group] / images[prompt] if images[prompt] else 0.0,
            tally[group],
            images[prompt],
        )
        for prompt, tally in counted.items()
        for group in itertools.product(*groups.values())
    ]


def no_face_rates(observations: Iterable[Observation], attribute: str = "gender") -> dict[str, float]:
    """The share of each prompt's images in which the attribute was not seen."""
    images: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for row in observations:
        images[row["prompt"]] += 1
        failed[row["prompt"]] += row[attribute] == FAILED
    return {prompt: failed[prompt] / count for prompt, count in images.items()}


def dropped_prompts(
    observations: Iterable[Observation], most: float = 0.5, attribute: str = "gender"
) -> dict[str, str]:
    """Prompts that show objects more than people, and why: no face in more than `most` of the images."""
    return {
        prompt: f"no face in {rate:.0%} of its images, more than {most:.0%}"
        for prompt, rate in no_face_rates(observations, attribute).items()
        if rate > most
    }


def under_represented(
    found: Sequence[Share],
    rule: Rule = "threshold",
    *,
    threshold: float = SEED_THRESHOLD,
    gap: float = 0.0,
    target: Mapping[tuple[str, ...], float] | None = None,
    without: Iterable[str] = (),
) -> list[Share]:
    """The groups with too small a share, in the order given; prompts in `without` are left out.

    `threshold`: a share below it (0.4 in the reference system). `uniform`: below
    1/n, n being the number of the prompt's groups. `parity`: more than `gap` below
    the largest share of the prompt. `target`: below what `target` wants of the
    group. A share that just reaches its bound is no longer too small.
    """
    if not 0 <= threshold <= 1 or not 0 <= gap <= 1:
        raise InvalidInput("threshold", f"threshold {threshold} and gap {gap} are shares, within 0–1")
    if rule == "target" and target is None:
        raise InvalidInput("target", "is missing; the rule `target` needs a share for every group")
    left_out = set(without)
    groups = Counter(share.prompt for share in found)
    largest: dict[str, float] = {}
    for share in found:
        largest[share.prompt] = max(largest.get(share.prompt, 0.0), share.share)

    def bound(share: Share) -> float:
        if rule == "threshold":
            return threshold
        if rule == "uniform":
            return 1 / groups[share.prompt]
        if rule == "parity":
            return largest[share.prompt] - gap
        assert target is not None
        if share.group not in target:
            raise InvalidInput("target", f"has no share for {', '.join(share.group)}")
        return target[share.group]

    return [share for share in found if share.prompt not in left_out and share.share < bound(share)]


def targets(flagged: Sequence[Share], prompts: Mapping[str, str]) -> list[Target]:
    """The prompt of each under-represented group; `prompts` gives each prompt's text by its id.

    The group's last attribute is said first: `A photo of a black Female CEO …`.
    """
    found = []
    for share in flagged:
        if share.prompt not in prompts:
            raise InvalidInput("prompts", f"has no prompt {share.prompt!r}, which the audit names")
        found.append(Target(share, asking_for(prompts[share.prompt], tuple(reversed(share.group)))))
    return found


def asking_for(prompt: str, words: Sequence[str]) -> str:
    """The prompt with the group's words in it: `A photo of a CEO` → `A photo of a black Female CEO`.

    A prompt that does not begin with `A photo of a` has them at its end.
    """
    start = _START.match(prompt)
    if start is None:
        return f"{prompt.rstrip(' .')}, {' '.join(words)} person"
    opening = re.sub(r"an $", "a ", start[0])
    return f"{opening}{' '.join(words)} {prompt[start.end() :]}"


def as_prompts(found: Sequence[Target]) -> tuple[Prompt, ...]:
    """A table of prompts to draw, with ids that are safe as file names: `ceo-black-Female`."""
    made: list[Prompt] = []
    for target in found:
        words = (target.share.prompt, *reversed(target.share.group))
        made.append(
            Prompt("-".join(re.sub(r"[^A-Za-z0-9]+", "_", word).strip("_") for word in words), target.text)
        )
    if len({prompt.id.lower() for prompt in made}) != len(made):
        raise InvalidInput(
            "prompts", "two of them would have one id; name prompts by ids of letters and digits"
        )
    return tuple(made)


def distribution(values: Iterable[str | None]) -> list[tuple[str, int, float]]:
    """(value, count, percent with two decimals) of a column, sorted by value; missing ones are `NaN`."""
    counted = Counter("NaN" if value is None or value == "" else value for value in values)
    total = sum(counted.values())
    return [
        (value, count, round(100 * count / total, 2)) for value, count in sorted(counted.items(), key=_order)
    ]


def _order(entry: tuple[str, int]) -> tuple[bool, bool, float, str]:
    """Numbers by value, then texts, then what is missing."""
    value = entry[0]
    number = value.replace(".", "", 1).isdigit()
    return value == "NaN", not number, float(value) if number else 0.0, value


def compared(
    configurations: Mapping[str, Sequence[Share]], over: Literal["prompt", "none"] = "prompt"
) -> list[dict[str, str | float]]:
    """Shares of several models side by side: a row per prompt and group, a column per model.

    A prompt or group that one of them lacks has 0 there. With `over="none"` rows
    are means over the prompts, by group alone.
    """
    keys = dict.fromkeys(
        (share.prompt if over == "prompt" else "", share.group)
        for found in configurations.values()
        for share in found
    )
    rows: list[dict[str, str | float]] = []
    for prompt, group in keys:
        row: dict[str, str | float] = {"prompt": prompt} if over == "prompt" else {}
        row["group"] = ", ".join(group)
        for name, found in configurations.items():
            of_group = [s.share for s in found if s.group == group and (over == "none" or s.prompt == prompt)]
            prompts = {s.prompt for s in found}
            divisor = 1 if over == "prompt" else max(len(prompts), 1)
            row[name] = sum(of_group) / divisor
        rows.append(row)
    return rows
