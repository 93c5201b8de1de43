"""Audits of the same prompts by several models beside each other: shares, what changed, who is missing.

The first model is the baseline. Shares count images without a face among all
(`share`) or leave them out (`of_seen`). With `paired` the k-th image of a prompt
was drawn from the same noise by every model, so that changes are those of pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairloop import prompt_audit
from fairloop.errors import InvalidInput
from fairloop.prompt_audit import FAILED, Observation, Rule, Share
from fairloop.stats.intervals import Interval, wilson
from fairloop.stats.paired_shares import (
    UNSEEN,
    Codes,
    Pairs,
    Variation,
    difference,
    mean_variation,
    paired_difference,
)

Group = tuple[str, ...]
Table = tuple[tuple[str, ...], list[tuple[str | float, ...]]]
"""Header and rows."""

MOST_MODELS = 20


@dataclass(frozen=True)
class ShareRow:
    """The share of one group among one prompt's images by one model; intervals are Wilson's.

    `of_seen` is the share among the images in which every attribute was seen;
    None where there is none.
    """

    model: str
    prompt: str
    group: Group
    count: int
    images: int
    seen: int
    share: float
    interval: Interval
    of_seen: float | None
    of_seen_interval: Interval | None


@dataclass(frozen=True)
class ChangeRow:
    """The baseline's share and a model's, both of all images, and the difference."""

    model: str
    prompt: str
    group: Group
    before: float
    after: float
    change: float
    interval: Interval


@dataclass(frozen=True)
class FaceRow:
    """How many of a prompt's images show no face, and why the prompt was left out of the rule, if it was."""

    model: str
    prompt: str
    images: int
    no_face: int
    rate: float
    interval: Interval
    dropped: str = ""


@dataclass(frozen=True)
class PromptComparison:
    """What `compare` found. `missing` holds the under-represented groups of each model."""

    models: tuple[str, ...]
    attributes: tuple[str, ...]
    groups: tuple[Group, ...]
    prompts: tuple[str, ...]
    paired: bool
    rule: str
    shares: tuple[ShareRow, ...]
    changes: tuple[ChangeRow, ...]
    faces: tuple[FaceRow, ...]
    missing: Mapping[str, tuple[Share, ...]]
    variation: Mapping[str, Variation]
    """Of each model but the baseline: distance to equal shares, before and after."""
    tables: Mapping[str, Table]
    """The third reference system's tables by the names of its files, rows with their labels."""


def compare(
    audits: Mapping[str, Sequence[Observation]],
    groups: Mapping[str, Sequence[str]] = prompt_audit.GROUPS,
    *,
    paired: bool = False,
    rule: Rule = "uniform",
    threshold: float = prompt_audit.SEED_THRESHOLD,
    gap: float = 0.0,
    target: Mapping[Group, float] | None = None,
    drop: float = 0.5,
    seed: int = 0,
) -> PromptComparison:
    """Compares audits by model; the first is the baseline.

    A prompt that a model lacks has no rows of it; in the tables its shares are 0.
    Prompts of which the baseline shows no face in more than `drop` of the images
    are left out of the rule and of the distance. Raises `InvalidInput` without an
    audit, for values of no group, and with `paired` when a prompt has another
    number of images than the baseline's.
    """
    if not 1 <= len(audits) <= MOST_MODELS:
        raise InvalidInput("audits", f"{len(audits)} models; it is 1–{MOST_MODELS}")
    for name, rows in audits.items():
        if not rows:
            raise InvalidInput("audits", f"that of {name} has no image")
    found = {name: prompt_audit.shares(rows, groups) for name, rows in audits.items()}
    of_seen = {name: prompt_audit.shares(rows, groups, failures="left_out") for name, rows in audits.items()}
    codes = {name: _codes(rows, groups) for name, rows in audits.items()}
    baseline, *others = audits
    if paired:
        _check_pairs(codes, baseline)
    dropped = prompt_audit.dropped_prompts(_any_failed(audits[baseline], groups), drop, "seen")
    faces = tuple(
        row for name, rows in audits.items() for row in _faces(name, _any_failed(rows, groups), dropped)
    )
    missing = {
        name: tuple(
            prompt_audit.under_represented(
                shares, rule, threshold=threshold, gap=gap, target=target, without=dropped
            )
        )
        for name, shares in found.items()
    }
    variation = {}
    for name in others:
        both = [p for p in codes[baseline] if p in codes[name] and p not in dropped]
        if both:
            variation[name] = mean_variation(
                [codes[baseline][p] for p in both],
                [codes[name][p] for p in both],
                _target(groups, target),
                seed,
                paired=paired,
            )
    return PromptComparison(
        models=tuple(audits),
        attributes=tuple(groups),
        groups=tuple(dict.fromkeys(share.group for share in found[baseline])),
        prompts=tuple(dict.fromkeys(prompt for one in codes.values() for prompt in one)),
        paired=paired,
        rule=_words(rule, threshold, gap),
        shares=tuple(
            _share(name, every, seen)
            for name in audits
            for every, seen in zip(found[name], of_seen[name], strict=True)
        ),
        changes=tuple(
            row for name in others for row in _changes(name, found, codes, baseline, paired=paired)
        ),
        faces=faces,
        missing=missing,
        variation=variation,
        tables=tables(audits, groups),
    )


def tables(
    audits: Mapping[str, Sequence[Observation]], groups: Mapping[str, Sequence[str]] = prompt_audit.GROUPS
) -> dict[str, Table]:
    """`results_prompt_grouped.csv`, `results_prompt_{attribute}.csv`, and without `prompt_` the means.

    A row per prompt and group, a column per model; 0 where a model lacks the
    prompt. Means are over the prompts of each model.
    """
    made: dict[str, Table] = {}
    kinds = {"grouped": dict(groups), **{name: {name: values} for name, values in groups.items()}}
    for kind, of in kinds.items():
        found = {name: prompt_audit.shares(rows, of) for name, rows in audits.items()}
        labels = {", ".join(share.group): share.group for shares in found.values() for share in shares}
        rows = prompt_audit.compared(found)
        made[f"results_prompt_{kind}.csv"] = (
            ("prompt", *of, *audits),
            [(row["prompt"], *labels[str(row["group"])], *(row[name] for name in audits)) for row in rows],
        )
        means = prompt_audit.compared(found, "none")
        made[f"results_{kind}.csv"] = (
            (*of, *audits),
            [(*labels[str(row["group"])], *(row[name] for name in audits)) for row in means],
        )
    return made


def _codes(rows: Sequence[Observation], groups: Mapping[str, Sequence[str]]) -> dict[str, Codes]:
    """Each prompt's images as numbers of their groups, in their order."""
    sizes = [len(values) for values in groups.values()]
    by_prompt: dict[str, list[int]] = {}
    for row in rows:
        values = [row[attribute] for attribute in groups]
        code = UNSEEN
        if FAILED not in values:
            places = [groups[a].index(value) for a, value in zip(groups, values, strict=True)]
            code = int(np.ravel_multi_index(places, sizes))
        by_prompt.setdefault(row["prompt"], []).append(code)
    return {prompt: np.array(found, dtype=np.int64) for prompt, found in by_prompt.items()}


def _check_pairs(codes: Mapping[str, Mapping[str, Codes]], baseline: str) -> None:
    first = {prompt: found.size for prompt, found in codes[baseline].items()}
    for name, own in codes.items():
        sizes = {prompt: found.size for prompt, found in own.items()}
        if sizes != first:
            prompt = next(p for p in {**first, **sizes} if sizes.get(p) != first.get(p))
            raise InvalidInput(
                "paired",
                f"{name} has {sizes.get(prompt, 0)} images of {prompt}, {baseline} {first.get(prompt, 0)}; "
                "pairs need as many of each",
            )


def _any_failed(rows: Sequence[Observation], groups: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Rows that say only whether every attribute was seen."""
    return [
        {"prompt": row["prompt"], "seen": FAILED if FAILED in [row[a] for a in groups] else "yes"}
        for row in rows
    ]


def _faces(name: str, rows: Sequence[Mapping[str, str]], dropped: Mapping[str, str]) -> list[FaceRow]:
    made = []
    for prompt in dict.fromkeys(row["prompt"] for row in rows):
        own = [row["seen"] == FAILED for row in rows if row["prompt"] == prompt]
        count = sum(own)
        made.append(
            FaceRow(
                name,
                prompt,
                len(own),
                count,
                count / len(own),
                wilson(count, len(own)),
                dropped.get(prompt, ""),
            )
        )
    return made


def _share(name: str, every: Share, seen: Share) -> ShareRow:
    return ShareRow(
        name,
        every.prompt,
        every.group,
        every.count,
        every.images,
        seen.images,
        every.share,
        wilson(every.count, every.images),
        seen.share if seen.images else None,
        wilson(seen.count, seen.images) if seen.images else None,
    )


def _changes(
    name: str,
    found: Mapping[str, Sequence[Share]],
    codes: Mapping[str, Mapping[str, Codes]],
    baseline: str,
    *,
    paired: bool,
) -> list[ChangeRow]:
    later = {(share.prompt, share.group): share for share in found[name]}
    groups = list(dict.fromkeys(share.group for share in found[baseline]))
    rows = []
    for share in found[baseline]:
        other = later.get((share.prompt, share.group))
        if other is None:
            continue
        if paired:
            place = groups.index(share.group)
            one = codes[baseline][share.prompt] == place
            two = codes[name][share.prompt] == place
            pairs = Pairs(*(int(np.sum(both)) for both in (one & two, one & ~two, ~one & two, ~one & ~two)))
            change = paired_difference(pairs)
        else:
            change = difference((share.count, share.images), (other.count, other.images))
        rows.append(
            ChangeRow(
                name, share.prompt, share.group, share.share, other.share, change.value, change.interval
            )
        )
    return rows


def _target(groups: Mapping[str, Sequence[str]], target: Mapping[Group, float] | None) -> np.ndarray:
    """The wanted shares in the order of the groups; equal ones without a target."""
    count = math.prod(len(values) for values in groups.values())
    if target is None:
        return np.full(count, 1 / count)
    return np.array([target[group] for group in itertools.product(*groups.values())])


def _words(rule: Rule, threshold: float, gap: float) -> str:
    return {
        "threshold": f"a share below {threshold:g}",
        "uniform": "a share below 1/n of n groups",
        "parity": f"a share more than {gap:g} below the largest of the prompt",
        "target": "a share below the group's target",
    }[rule]
